"""Twelve trials on two workers of Ray, one thread each, against the same trials one after another in this process.

The serial trials run in two halves, one before and one after Ray's, so that a machine that grows slower or faster meanwhile
treats both alike.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from harness.config import (
    DataConfig,
    ExecutorConfig,
    PhantomConfig,
    ProtocolConfig,
    RunConfig,
    StoreConfig,
    TrainingConfig,
)
from harness.execution import make_executor
from harness.execution.progress import ProgressDisplay
from harness.provenance import usable_cores
from harness.store import Store
from harness.suite import Trial, build_suite
from harness.trial import TrialContext

TRIALS, WORKERS = 12, 2
THROUGHPUT = 1.7
START_SECONDS, SECONDS_A_TRIAL = 10.0, 0.3
EPOCHS = int(os.environ.get("BENCH_EPOCHS", "12"))
CARD = {
    "title": "U-Net", "paper": "none", "licence": "MIT", "prompt": "none", "uses_modality": False, "pretrained": "none",
    "pretrained_on": [],
}  # fmt: skip


def make_trials(folder: Path) -> list[Trial]:
    """A U-Net of a ResNet-18 on 96 px phantoms, with twelve seeds."""
    model = {"_target_": "baselines.networks.SmpNetwork", "architecture": "unet", "encoder_name": "resnet18"}
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
    return build_suite(config).trials


def seconds(executor: str, trials: list[Trial], folder: Path, store: str) -> float:
    context = TrialContext(str(folder / store), str(folder / "cache"), predictions=False, keep_weights=False)
    progress = ProgressDisplay(len(trials), Console(file=io.StringIO()))
    began = time.perf_counter()
    outcomes = make_executor(ExecutorConfig(name=executor, device="cpu")).run(trials, context, progress)
    assert [outcome.state for outcome in outcomes] == ["done"] * len(trials)
    return time.perf_counter() - began


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
    trials = make_trials(tmp_path)
    seconds("serial", trials[:1], tmp_path, "warm")  # draws phantoms, decodes them, imports what is needed
    half = TRIALS // 2
    serial = seconds("serial", trials[:half], tmp_path, "serial")
    ray = seconds("ray", trials, tmp_path, "ray")
    serial += seconds("serial", trials[half:], tmp_path, "serial")

    overhead = ray - serial / WORKERS
    print(
        f"\n{TRIALS} trials: {serial:.1f} s serial, {ray:.1f} s on {WORKERS} workers: {serial / ray:.2f} times the throughput;"
        f" {overhead:.1f} s more than half of serial"
    )
    one, two = Store(tmp_path / "serial"), Store(tmp_path / "ray")
    for trial in trials:
        bits = [(store.trial_folder(trial.id) / "samples.parquet").read_bytes() for store in (one, two)]
        assert bits[0] == bits[1]
    assert serial / ray >= THROUGHPUT
    assert overhead <= START_SECONDS + SECONDS_A_TRIAL * TRIALS
