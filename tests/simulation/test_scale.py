"""10,000 trials through the real executor, store and status: `make scale`. BENCH_TRIALS=1000 is a shorter look."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import mean

import pytest

PROJECT = Path(__file__).resolve().parents[2]


@pytest.mark.simulation
def test_bookkeeping_is_linear_and_fits_in_memory(tmp_path: Path) -> None:
    count = os.environ.get("BENCH_TRIALS", "10000")
    done = subprocess.run(
        [sys.executable, str(PROJECT / "tests" / "simulation" / "scale.py"), count, str(tmp_path)],
        cwd=PROJECT, env={**os.environ, "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    print(done.stdout)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["trials"] == int(count)
    assert found["status_cpu_seconds"] < 2
    assert max(found["driver_mib_by_tenths"]) < 1024
    tenths = found["seconds_per_trial_by_tenths"]
    assert mean(tenths[-3:]) < 1.5 * mean(tenths[:3]), "a later trial costs more than an early one"
    assert mean(tenths) < 0.3
