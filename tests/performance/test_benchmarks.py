"""Speeds to keep an eye on, by pytest-benchmark: `make perf` keeps them and draws their history.

Nothing is asserted here: clock times compare only within one machine. `make perf-compare BASE=<revision>` compares two
revisions; what must hold of one revision is asserted as a ratio of two times in the other files of this folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.performance.benchmarks import BENCHMARKS


@pytest.mark.performance
@pytest.mark.parametrize("name", BENCHMARKS)
def test_speed(benchmark: Any, name: str, tmp_path: Path) -> None:
    benchmark.pedantic(BENCHMARKS[name](tmp_path), rounds=5, warmup_rounds=1)
