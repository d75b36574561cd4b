"""Executors: the same trials give the same bytes in this process and in Ray's; one that dies takes no other along."""

from __future__ import annotations

import contextlib
import io
import logging
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
from rich.console import Console

from harness.config import ExecutorConfig, RunConfig
from harness.errors import UserError
from harness.execution import make_executor
from harness.execution.progress import ProgressDisplay
from harness.execution.serial import local_device
from harness.planning.plan import Plan, build_plan
from harness.store.store import Store
from harness.training.epoch_result import EpochResult
from harness.trial import TrialContext

ToyPlan = Callable[..., Plan]


@pytest.fixture
def context(tmp_path: Path) -> TrialContext:
    return TrialContext(store_root=str(tmp_path / "runs"), cache_folder=str(tmp_path / "cache"))


@pytest.fixture
def lines() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def progress(lines: io.StringIO) -> ProgressDisplay:
    return ProgressDisplay(3, Console(file=lines, width=200))


def test_serial_runs_all_and_a_failure_stops_no_other(
    toy_plan: ToyPlan, context: TrialContext, progress: ProgressDisplay, lines: io.StringIO
) -> None:
    trials = toy_plan("Broken", "TinyConv", "Floor").trials
    with progress:
        outcomes = make_executor(ExecutorConfig(name="serial", device="cpu")).run(trials, context, progress)
    assert [(outcome.trial.method.name, outcome.state) for outcome in outcomes] == [
        ("broken", "failed"), ("tinyconv", "done"), ("floor", "done"),
    ]  # fmt: skip
    assert "a mistake in the method's code" in str(outcomes[0].reason)
    store = Store(context.store_root)
    assert [store.result(trial.ids) is not None for trial in trials] == [False, True, True]
    printed = lines.getvalue()
    assert "failed broken fold0 seed 0" in printed
    assert "(3/3)" in printed


def test_serial_stops_where_going_on_makes_no_sense(
    toy_plan: ToyPlan, small_dataset: Path, context: TrialContext, progress: ProgressDisplay
) -> None:
    suite = toy_plan("TinyConv", "Floor")
    (small_dataset / "manifest.csv").write_text("nonsense")
    with pytest.raises(UserError, match=r"manifest\.csv"):
        make_executor(ExecutorConfig(name="serial", device="cpu")).run(suite.trials, context, progress)


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_a_gpu_that_is_not_there_is_refused() -> None:
    assert local_device("auto") == local_device("cpu") == "cpu"
    with pytest.raises(UserError, match=r"executor\.device=cuda, but torch finds no GPU"):
        make_executor(ExecutorConfig(name="serial", device="cuda"))


@pytest.fixture
def quiet_ray() -> Iterator[None]:
    levels = {name: logging.getLogger(name).level for name in ("ray", "ray.tune", "ray.tune.tune")}
    yield
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def family_at_shutdown(monkeypatch: pytest.MonkeyPatch) -> dict[psutil.Process, list[str]]:
    """At Ray's shutdown, filled with the processes it started and their command lines; call it once Ray is imported."""
    import ray

    before, family = set(psutil.Process().children(recursive=True)), dict[psutil.Process, list[str]]()
    shutdown = ray.shutdown

    def noted() -> None:
        for process in set(psutil.Process().children(recursive=True)) - before:
            with contextlib.suppress(psutil.NoSuchProcess):
                family[process] = process.cmdline()
        shutdown()

    monkeypatch.setattr(ray, "shutdown", noted)
    return family


@pytest.mark.e2e
def test_ray_gives_the_same_bytes_and_workers_that_die_are_tried_again(
    toy_config: Callable[..., RunConfig],
    tmp_path: Path,
    context: TrialContext,
    progress: ProgressDisplay,
    lines: io.StringIO,
    quiet_ray: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tests = Path(__file__).resolve().parents[2]
    monkeypatch.setenv("PYTHONPATH", f"{tests.parent}:{tests}")  # where workers find the toy methods
    config = toy_config("DiesHard", "Broken", "TwoStages", "DiesOnce", augmentation="standard")
    marker = tmp_path / "died"
    config.methods["diesonce"]["model"] = {"_target_": "toy_dying.DiesOnce", "marker": str(marker)}
    trials = build_plan(config).trials
    serial = replace(context, store_root=context.store_root + "-serial")
    marker.touch()
    make_executor(ExecutorConfig(name="serial", device="cpu")).run(
        trials[2:], serial, ProgressDisplay(2, Console(file=io.StringIO()))
    )
    marker.unlink()
    stdout = sys.stdout

    executor = make_executor(ExecutorConfig(name="ray", device="cpu", retries=1))
    family = family_at_shutdown(monkeypatch)
    with progress:
        outcomes = executor.run(trials, replace(context, checkpoint_seconds=0), progress)
    assert len(family) > 3
    assert psutil.wait_procs(list(family), timeout=20)[1] == [], "Ray left processes behind"
    scripts = {Path(word).name for words in family.values() for word in words[:4]}
    assert "gcs_server" in scripts and not scripts & {"dashboard.py", "monitor.py", "log_monitor.py"}

    by_method = {outcome.trial.method.name: outcome for outcome in outcomes}
    assert {name: outcome.state for name, outcome in by_method.items()} == {
        "dieshard": "failed", "broken": "failed", "twostages": "done", "diesonce": "done",
    }  # fmt: skip
    assert "its process died" in str(by_method["dieshard"].reason)
    assert "(2 attempts)" in str(by_method["dieshard"].reason)
    assert "a mistake in the method's code" in str(by_method["broken"].reason)
    store, other = Store(context.store_root), Store(serial.store_root)
    assert store.status(trials[0].id).state == "failed"
    assert "its process died" in store.status(trials[0].id).reason
    for trial in trials[2:]:
        assert store.weights(trial.id).read_bytes() == other.weights(trial.id).read_bytes()
        one, two = (where.measurement_folder(trial.ids) / "samples.parquet" for where in (store, other))
        assert one.read_bytes() == two.read_bytes()
    assert [len(store.status(trial.id).attempts) for trial in trials] == [2, 0, 0, 1]
    (died,) = store.status(trials[3].id).attempts
    assert died.cause.startswith("its process died: ")
    assert died.host == platform.node()
    assert store.load(trials[3].ids).status.state == "done"
    assert not (store.root / "ray").exists()
    assert sys.stdout is stdout
    printed = lines.getvalue()
    assert all(f"start  {method} fold0 seed 0" in printed for method in by_method)
    assert "again  diesonce fold0 seed 0\n       its process died: " in printed
    assert "(4/3)" in printed  # the display expects three


def test_progress_off_a_terminal_is_plain_lines(monkeypatch: pytest.MonkeyPatch, lines: io.StringIO) -> None:
    clock = [0.0]
    monkeypatch.setattr("harness.execution.progress.time.monotonic", lambda: clock[0])
    display = ProgressDisplay(2, Console(file=lines, width=60))
    event = EpochResult(1, 9, "train", 0.5, 0.25, "validation", 0.01, 1.0)
    with display:
        display.start("a", "unet fold0 seed 0")
        display.start("a", "unet fold0 seed 0")
        display.update("a", event)
        clock[0] = 31.0
        display.update("a", replace(event, epoch=4))
        clock[0] = 40.0
        display.update("a", replace(event, epoch=5))
        display.update("a", None)
        display.end("a", "failed", "the loss became [nan]")
        display.end("a", "failed", "twice")
        display.end("unknown", "done", None)
    assert lines.getvalue().splitlines() == [
        "start  unet fold0 seed 0",
        "       unet fold0 seed 0: epoch 4/9  loss 0.500  dice 0.250",
        "failed unet fold0 seed 0  40 s  (1/2)",
        "       the loss became [nan]",
    ]


def test_progress_on_a_terminal_draws_bars_and_keeps_only_failures() -> None:
    screen = io.StringIO()
    display = ProgressDisplay(2, Console(file=screen, width=120, force_terminal=True, color_system=None))
    with display:
        display.start("a", "unet fold0 seed 0")
        display.end("a", "done", None)
        display.start("b", "otsu fold0 seed 0")
        display.end("b", "failed", "cause")
    assert "start  unet" not in screen.getvalue()
    assert "failed otsu fold0 seed 0" in screen.getvalue()
    assert "trials" in screen.getvalue()
