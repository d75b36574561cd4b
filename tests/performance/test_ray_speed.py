"""Twelve trials on two workers of Ray, one thread each, against the same trials one after another.

Each way runs in fresh processes, so both pay for their imports; the clock starts with the process. The serial trials run in two
halves, one before and one after Ray's, so that a machine that grows slower or faster meanwhile treats both alike.
"""

from __future__ import annotations

import heapq
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.config import DataConfig, PhantomConfig, ProtocolConfig, RunConfig, StoreConfig, TrainingConfig
from harness.hardware import usable_cores
from harness.planning.plan import build_plan
from harness.store.store import Store
from harness.trial_spec import TrialSpec

TRIALS, WORKERS = 12, 2
THROUGHPUT = 1.7
START_SECONDS, SECONDS_A_TRIAL = 10.0, 0.3
# Half a minute a trial on a slow core, a quarter of an hour in all; fewer show that the test works, not that the bar is met.
EPOCHS = int(os.environ.get("BENCH_EPOCHS", "9"))
CARD = {
    "title": "U-Net", "paper": "none", "licence": "MIT", "prompt": "none", "uses_modality": False, "pretrained": "none",
    "pretrained_on": [],
}  # fmt: skip
# What a process of `run` does between its start and its report.
RUN = """
import io, json, sys
from rich.console import Console
from harness.config import ExecutorConfig
from harness.execution import make_executor
from harness.execution.progress import ProgressDisplay
from harness.trial_spec import TrialSpec
from harness.trial import TrialContext

executor, specs, store, cache = sys.argv[1:]
trials = [TrialSpec.from_json(content) for content in json.load(open(specs))]
context = TrialContext(store, cache, predictions=False, keep_weights=False)
progress = ProgressDisplay(len(trials), Console(file=io.StringIO()))
outcomes = make_executor(ExecutorConfig(name=executor, device="cpu")).run(trials, context, progress)
assert all(outcome.state == "done" for outcome in outcomes), [(outcome.state, outcome.reason) for outcome in outcomes]
"""
IMPORTS = "import harness.training.fit, harness.evaluation.measure, harness.planning.plan, baselines.networks.smp"


def make_trials(folder: Path) -> list[TrialSpec]:
    """A U-Net of a ResNet-18 on 96 px phantoms, with twelve seeds."""
    model = {"_target_": "baselines.networks.smp.SmpNetwork", "architecture": "unet", "encoder_name": "resnet18"}
    config = RunConfig(
        data=DataConfig(
            modalities=["dermoscopy"],
            cache=str(folder / "cache"),
            phantoms=PhantomConfig(images_per_domain=16, image_size=96),
        ),
        protocol=ProtocolConfig(max_folds=1),
        training=TrainingConfig(image_size=96, epochs=EPOCHS),
        store=StoreConfig(root=str(folder / "runs")),
        seeds=list(range(TRIALS)),
        methods={"unet": {"card": CARD, "version": 1, "model": model, "training": {}}},
    )
    return build_plan(config).trials


def seconds(*words: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", *words], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    return time.perf_counter() - began


def least_time(trials: list[float]) -> float:
    """What the workers need for the trials when each takes the next one at once: one may have to wait for the other's last."""
    free = [0.0] * WORKERS
    for took in trials:
        heapq.heapreplace(free, free[0] + took)
    return max(free)


@pytest.fixture
def two_cores() -> Iterator[None]:
    """This process, and all that it starts, on two cores only: Ray finds as many workers."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:WORKERS])
    yield
    os.sched_setaffinity(0, before)


@pytest.mark.performance
@pytest.mark.skipif(usable_cores() < WORKERS, reason="two workers need two cores")
def test_two_workers_do_almost_twice_the_work_of_one(tmp_path: Path, two_cores: None) -> None:
    trials, cache = make_trials(tmp_path), str(tmp_path / "cache")

    def run(executor: str, some: list[TrialSpec], store: str) -> float:
        specs = tmp_path / f"{store}.json"
        specs.write_text(json.dumps([trial.to_json() for trial in some]))
        return seconds(RUN, executor, str(specs), str(tmp_path / store), cache)

    run("serial", trials[:1], "warm")  # decodes the images
    serial = run("serial", trials[: TRIALS // 2], "serial")
    ray = run("ray", trials, "ray")
    serial += run("serial", trials[TRIALS // 2 :], "serial")
    imports = seconds(IMPORTS)
    serial -= imports  # one process of all twelve would have paid for them once

    one, two = Store(tmp_path / "serial"), Store(tmp_path / "ray")
    for trial in trials:
        bits = [(store.measurement_folder(trial.ids) / "samples.parquet").read_bytes() for store in (one, two)]
        assert bits[0] == bits[1]
    # What the trials themselves took; on two busy cores each is a little slower, which is no work of Ray's.
    results = [two.result(trial.id) for trial in trials]
    working = least_time([result["seconds"] for result in results if result is not None])
    overhead = ray - imports - working
    print(
        f"\n{TRIALS} trials: {serial:.1f} s serial, {ray:.1f} s on {WORKERS} workers: {serial / ray:.2f} times the throughput;"
        f" imports {imports:.1f} s, trials {working:.1f} s, the rest {overhead:.1f} s"
    )
    assert serial / ray >= THROUGHPUT
    assert overhead <= START_SECONDS + SECONDS_A_TRIAL * TRIALS
