"""A few of the inputs of `make fuzz` in every run of the tests."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.forked import finished


@pytest.mark.parametrize("seed", [1])
def test_spoilt_inputs_end_in_words(seed: int, tmp_path: Path) -> None:
    """In a fork: its inputs are run by forks of it, which start at once where the libraries are loaded."""
    words = ["6", "--seed", str(seed), "--workers", "1"]
    done = finished(words, tmp_path, program="tests.simulation.fuzz")
    assert done.returncode == 0, done.stdout + done.stderr
    codes, summary = done.stdout.splitlines()
    assert summary.startswith("6 inputs, 0 faults")
    assert {code.split()[1] for code in json.loads(codes)} >= {"0", "2"}
