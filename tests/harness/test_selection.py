"""The rules as such; tests of the fit loop show that they are obeyed."""

from __future__ import annotations

import pytest

from harness.selection import RULES


def chosen(rule: str, scores: list[float]) -> int:
    """The epoch, from 1, whose weights a rule keeps."""
    best, kept = None, 0
    for epoch, score in enumerate(scores, 1):
        if RULES[rule].takes(score, best):
            kept = epoch
        best = score if best is None else max(best, score)
    return kept


@pytest.mark.parametrize("rule", ["training_domain_validation", "oracle"])
def test_the_best_epoch_is_kept_and_a_tie_keeps_the_earlier(rule: str) -> None:
    assert chosen(rule, [0.1, 0.5, 0.4, 0.5]) == 2
    assert chosen(rule, [0.0, 0.0]) == 1


def test_last_keeps_the_last_whatever_its_score() -> None:
    assert chosen("last", [0.1, 0.5, 0.4]) == 3


def test_only_the_oracle_looks_at_the_test_domain() -> None:
    assert {name for name, rule in RULES.items() if rule.scored_on == "test"} == {"oracle"}
    assert all(name == rule.name for name, rule in RULES.items())
