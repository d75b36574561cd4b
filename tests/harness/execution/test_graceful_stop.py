"""SIGTERM: running trials keep their state and stop in bounded time; causes of dead tries in words; trials one by one."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import toy_methods
from ray.tune.search import Searcher
from rich.console import Console

from harness.config import ExecutorConfig
from harness.errors import StopExpired, UserError
from harness.execution import make_executor
from harness.execution.graceful_stop import GracefulStop
from harness.execution.progress import ProgressDisplay
from harness.execution.ray.callbacks import cause_of
from harness.execution.ray.trial_queue import TrialQueue
from harness.execution.ray.watchdog import dead_server, ending_with
from harness.planning.plan import Plan
from harness.store.store import Store
from harness.store.trial_state import TrialState
from harness.trial import TrialContext

ToyPlan = Callable[..., Plan]


@pytest.fixture
def context(tmp_path: Path) -> TrialContext:
    return TrialContext(str(tmp_path / "runs"), str(tmp_path / "cache"), checkpoint_seconds=1e6)


def quiet() -> ProgressDisplay:
    return ProgressDisplay(1, Console(file=io.StringIO()))


def sigterm() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_sigterm_keeps_the_state_and_the_same_trials_go_on_with_the_same_bytes(
    toy_plan: ToyPlan, context: TrialContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = toy_plan("TwoStages", "TinyConv", epochs=4).trials
    executor = make_executor(ExecutorConfig(name="serial", device="cpu"))
    whole = replace(context, store_root=context.store_root + "-whole")
    executor.run(trials, whole, quiet())
    original, steps = toy_methods.TwoStages.training_loss, []

    def loss(self: Any, batch: Any, step: Any) -> Any:
        steps.append(step.epoch)
        if len(steps) == 1:
            sigterm()
        return original(self, batch, step)

    monkeypatch.setattr(toy_methods.TwoStages, "training_loss", loss)
    before = signal.getsignal(signal.SIGTERM)
    outcomes = executor.run(trials, context, quiet())
    assert signal.getsignal(signal.SIGTERM) is before
    assert [outcome.state for outcome in outcomes] == ["interrupted", "interrupted"]
    store = Store(context.store_root)
    assert store.status(trials[0].id).state == "interrupted"
    assert store.status(trials[0].id).reason == "asked to stop after epoch 1 of 4"
    assert store.status(trials[1].id) == TrialState("pending")

    outcomes = executor.run(trials, context, quiet())
    assert [outcome.state for outcome in outcomes] == ["done", "done"]
    assert steps.count(0) * 4 == len(steps), "the first epoch was trained again"
    for trial in trials:
        one, two = (Store(where.store_root).measurement_folder(trial.ids) for where in (context, whole))
        assert (one / "samples.parquet").read_bytes() == (two / "samples.parquet").read_bytes()


def test_an_epoch_that_takes_too_long_is_left(
    toy_plan: ToyPlan, context: TrialContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    (trial,) = toy_plan().trials

    def loss(self: Any, batch: Any, step: Any) -> Any:
        sigterm()
        time.sleep(60)

    monkeypatch.setattr(toy_methods.TinyConv, "training_loss", loss)
    executor = make_executor(ExecutorConfig(name="serial", device="cpu", drain_seconds=0.2))
    (outcome,) = executor.run([trial], context, quiet())
    assert outcome.state == "interrupted"
    assert Store(context.store_root).status(trial.id).state == "interrupted"
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_a_second_sigterm_waits_for_nothing() -> None:
    stop = GracefulStop(100)
    with stop.on_sigterm():
        sigterm()
        assert stop.asked.is_set()
        assert not stop.expired
        with pytest.raises(StopExpired):
            sigterm()
    expired = GracefulStop(0)
    expired.ask()
    assert expired.expired


def test_outside_the_main_thread_signals_are_left_alone() -> None:
    before, met = signal.getsignal(signal.SIGTERM), []

    def look() -> None:
        with GracefulStop(1).on_sigterm():
            met.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert met == [before]


def test_trials_are_handed_over_one_by_one(toy_plan: ToyPlan, context: TrialContext) -> None:
    trials, store = toy_plan("TinyConv", "Floor").trials, Store(context.store_root)
    queue = TrialQueue(trials, store, lambda trial: {"CPU": 1.0})
    assert store.trial_ids() == []
    assert queue.suggest("x") == {"trial_id": trials[0].id, "ids": asdict(trials[0].ids), "resources": {"CPU": 1.0}}
    assert store.trial_ids() == [trials[0].id]
    assert store.spec(trials[0].ids) == trials[0]
    queue.suggest("y")
    assert queue.suggest("z") == Searcher.FINISHED
    assert queue.error is None


def test_a_store_that_fails_ends_the_queue_and_is_reported(
    toy_plan: ToyPlan, context: TrialContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(context.store_root)
    queue = TrialQueue(toy_plan("TinyConv", "Floor").trials, store, lambda trial: {"CPU": 1.0})

    def full(*args: Any) -> None:
        raise UserError("the disk is full")

    monkeypatch.setattr(Store, "start_trial", full)
    assert queue.suggest("x") == queue.suggest("y") == Searcher.FINISHED
    assert str(queue.error) == "the disk is full"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("", "its process died (killed, or out of memory)"),
        ("The actor died because its node has died. Node Id: 1", "its node was lost"),
        ("Task was killed due to the node running low on memory.", "its node ran out of memory"),
        ("x\nharness.execution.gpu.GpuBusy: after 120 s only 1.0 of", "after 120 s only 1.0 of"),
        (
            "The actor died unexpectedly\n  before finishing",
            "its process died: The actor died unexpectedly before finishing",
        ),
    ],
)
def test_causes_are_described_in_words(error: str, words: str) -> None:
    assert words in cause_of(error)


def test_a_dead_server_of_ray_ends_a_process_that_hangs(capsys: pytest.CaptureFixture[str]) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    servers = {"raylet": process}
    assert dead_server(servers) is None
    ended: list[int] = []
    with ending_with(servers, patience=0.0, end=ended.append):
        process.kill()
        process.wait()
        assert dead_server(servers) == "raylet"
        limit = time.monotonic() + 10
        while not ended and time.monotonic() < limit:
            time.sleep(0.05)
    assert ended == [1]
    assert "Ray itself died (its raylet was killed)" in capsys.readouterr().err


def test_causes_of_dead_attempts_stay_through_later_statuses(context: TrialContext) -> None:
    store = Store(context.store_root)
    store.write_status("t", "running", host="node1", epoch=3)
    for number in range(25):
        store.record_attempt("t", f"cause {number}")
    assert store.status("t").state == "interrupted"
    store.write_status("t", "running", epoch=4)
    attempts = store.status("t").attempts
    assert len(attempts) == 20
    assert attempts[-1].cause == "cause 24"
    assert attempts[-20].host == "unknown"  # a status of the driver's names no host
    assert store.status("none").attempts == ()


def test_a_store_at_an_address_is_refused() -> None:
    with pytest.raises(UserError, match=r"store\.root=s3://bucket/runs is an address"):
        Store("s3://bucket/runs")


def test_a_store_through_a_link_is_the_same_store(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "link").symlink_to("runs")
    with Store(tmp_path / "runs").exclusive():
        hold = "import sys; from harness.store.store import Store; Store(sys.argv[1]).exclusive().__enter__()"
        other = subprocess.run([sys.executable, "-c", hold, str(tmp_path / "link")], capture_output=True, text=True)
    assert "is in use by process" in other.stderr
