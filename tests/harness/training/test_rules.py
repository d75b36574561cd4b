"""The rules as such; tests of the fit loop show that they are obeyed."""

from __future__ import annotations

from harness.training.selection import RULES


def test_only_the_oracle_looks_at_the_test_domain() -> None:
    assert {name for name, rule in RULES.items() if rule.scored_on == "test"} == {"oracle"}


def test_only_last_does_not_keep_the_best() -> None:
    assert {name for name, rule in RULES.items() if not rule.keeps_best} == {"last"}
    assert all(name == rule.name for name, rule in RULES.items())
