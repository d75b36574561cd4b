"""The demo, as `make demo` runs it after the set-up: five methods, three folds, in at most three minutes on two cores."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.store.store import Store

pytestmark = pytest.mark.performance

DEMO_SECONDS, TRIAL_SECONDS = 180.0, 40.0


def test_the_demo(tmp_path: Path) -> None:
    """The first trial of De-LightSAM from LiteMedSAM's weights computes embeddings that the others find."""
    store = Store(tmp_path / "runs")
    command = [sys.executable, "-m", "harness", "run", "suite=domain_generalization", f"store.root={store.root}"]
    started = time.monotonic()
    subprocess.run(command, check=True, cwd=tmp_path, env=os.environ | {"COLUMNS": "100"})
    seconds = time.monotonic() - started
    (suite,) = store.suites()
    states = [store.status(entry.ids.training) for entry in suite.trials if entry.method == "delightsam_litemedsam"]
    took = [float(state.seconds or "nan") for state in sorted(states, key=lambda state: str(state.started))]
    print(f"demo {seconds:.0f} s; De-LightSAM's trials {', '.join(f'{each:.0f}' for each in took)} s")
    assert len(took) == 3
    assert seconds < DEMO_SECONDS
    assert all(each < TRIAL_SECONDS for each in took[1:])
