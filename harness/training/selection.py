"""Which epoch's weights are tested. The rule's name stands in the results; `oracle` rows are ranked apart."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SelectionRule:
    """A rule over the epochs' scores.

    Attributes:
        scored_on: the role whose images give the score: `validation` (training domains) or `test` (the unseen one).
        keeps_best: the epoch with the highest score is tested, the earliest of equals; else the last one is.
    """

    name: str
    scored_on: str
    keeps_best: bool


RULES = {
    rule.name: rule
    for rule in (
        SelectionRule("training_domain_validation", "validation", keeps_best=True),
        SelectionRule("last", "validation", keeps_best=False),
        # Looks at the test domain: an upper bound, never a result.
        SelectionRule("oracle", "test", keeps_best=True),
    )
}
