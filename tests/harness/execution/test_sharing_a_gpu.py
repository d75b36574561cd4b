"""Two trials on one card through Ray: both at once, each within its part of the memory."""

from __future__ import annotations

import gc
import io
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from support.sharing import folder_of

from harness.config import ExecutorConfig, RunConfig
from harness.execution.progress import ProgressDisplay
from harness.planning.plan import build_plan
from harness.store.store import Store
from harness.trial import TrialContext

Share = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def share(toy_config: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Share]:
    """Runs two trials, each of half a GPU, and gives what they wrote down."""
    levels = {name: logging.getLogger(name).level for name in ("ray", "ray.tune", "ray.tune.tune")}
    tests = Path(__file__).resolve().parents[2]
    monkeypatch.setenv("PYTHONPATH", f"{tests.parent}:{tests}")  # where workers find the toy methods

    def run() -> list[dict[str, Any]]:
        from harness.execution.ray.executor import RayTuneExecutor

        trials = build_plan(toy_config("TinyConv", "MeanColour", cpu_threads=1)).trials
        context = TrialContext(store_root=str(tmp_path / "runs"), cache_folder=str(tmp_path / "cache"))
        config = ExecutorConfig(name="ray", device="cuda", gpus_per_trial=0.5)
        with ProgressDisplay(2, Console(file=io.StringIO())) as progress:
            outcomes = RayTuneExecutor(config, "support.sharing.run_beside_another").run(trials, context, progress)
        assert [(outcome.state, outcome.reason) for outcome in outcomes] == [("done", None)] * 2
        assert all(Store(context.store_root).result(trial.ids) is not None for trial in trials)
        return [json.loads(path.read_text()) for path in sorted(folder_of(context.store_root).glob("*.json"))]

    yield run
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def check(found: list[dict[str, Any]]) -> None:
    one, two = found
    assert one["process"] != two["process"]
    assert one["device"] == two["device"] == "cuda"
    assert one["visible"] == two["visible"] and one["visible"] is not None


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU, on which the test below runs")
def test_two_trials_share_a_stand_in_for_a_card(share: Share, monkeypatch: pytest.MonkeyPatch) -> None:
    """The card is a stand-in: what Ray gives, and what a trial takes of it, are as on a real one."""
    import ray

    init = ray.init
    monkeypatch.setattr(ray, "init", lambda **settings: init(**{**settings, "num_cpus": 2, "num_gpus": 1}))
    found = share()
    check(found)
    assert [facts["fractions"] for facts in found] == [[0.5 * 0.85]] * 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU; `make gpu-check` runs these")
def test_two_trials_share_a_card(share: Share) -> None:
    gc.collect()
    torch.cuda.empty_cache()  # what earlier tests left in this process is no trial's
    found = share()
    check(found)
    # 0.425 of the card is a trial's; 0.4 are the most twentieths within it.
    assert [facts["fractions"] for facts in found] == [[0.4]] * 2
