"""A few of the inputs of `make fuzz` in every run of the tests."""

from __future__ import annotations

import pytest

from tests.simulation.fuzz import fuzz


@pytest.mark.parametrize("seed", [1])
def test_spoilt_inputs_end_in_words(seed: int) -> None:
    outcomes = fuzz(10, seed, workers=1)
    assert [one for one in outcomes if one.fault] == []
    assert {one.code for one in outcomes} >= {0, 2}
