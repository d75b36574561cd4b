"""Which epoch's weights are tested. The rule's name stands in the results; `oracle` rows are ranked apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class SelectionRule:
    """A rule over the epochs' scores.

    Attributes:
        scored_on: the role whose images give the score: `validation` (training domains) or `test` (the unseen one).
        takes: whether an epoch with `score` replaces the one kept with `best` (None: nothing kept yet). A tie keeps the
            earlier epoch.
    """

    name: str
    scored_on: str
    takes: Callable[[float, float | None], bool]


def _better(score: float, best: float | None) -> bool:
    return best is None or score > best


RULES = {
    "training_domain_validation": SelectionRule("training_domain_validation", "validation", _better),
    "last": SelectionRule("last", "validation", lambda score, best: True),
    # Looks at the test domain: an upper bound, never a result.
    "oracle": SelectionRule("oracle", "test", _better),
}
