"""Trackers: what each tool's own reader finds in its files, and that each epoch is logged once."""

from __future__ import annotations

import io
import json
import logging
import struct
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console
from support.specs import trial_spec
from support.stores import finished_trial

from harness.cli.run import _execute, _followers
from harness.config.loading import load_config
from harness.errors import UserError
from harness.execution.progress import ProgressDisplay
from harness.execution.trackers import make_followers
from harness.execution.trackers.follower import Follower, epoch_values, hyperparameters
from harness.store.store import Store
from harness.training.epoch_result import EpochResult

TRIAL = trial_spec(
    method={"name": "unet", "model": {"_target_": "a.B", "width": 8, "head": {"depth": 2}, "weights": None}},
    split={"held_out": ["xray/a"]},
    seed=3,
    data={"name": "phantoms"},
    protocol={"scope": "universal"},
    training={"epochs": 6, "learning_rate": 0.01},
)
# Two domains of one and of two images: the mean over domains is not that over images.
SAMPLES = pd.DataFrame(
    {
        "role": ["test"] * 3 + ["validation"], "modality": ["xray"] * 4, "domain": ["a", "b", "b", "a"],
        "dice": [0.2, 0.8, 0.6, 1.0], "hd95": [1.0, 2.0, 2.0, 9.0],
    }
)  # fmt: skip
RESULTS = {"test_dice": 0.45, "test_hd95": 1.5}


def event(epoch: int) -> dict[str, Any]:
    dice = float("nan") if epoch == 2 else epoch / 10
    row = {"epoch": epoch, "stage": "all", "train_loss": 1 / epoch, "validation_dice": dice, "learning_rate": 0.01}
    return {**row, "seconds": 0.1}


def result_of(epoch: int) -> EpochResult:
    return EpochResult(epoch, 6, "all", 1 / epoch, float("nan") if epoch == 2 else epoch / 10, "validation", 0.01, 0.1)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "runs")
    store.prepare()
    return store


@pytest.fixture(autouse=True)
def _tools_may_take_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine wandb's own process needs more than the minute that a run gives it to end."""
    monkeypatch.setattr("harness.execution.trackers.follower._END_SECONDS", 600.0)


def finish(store: Store, epochs: int = 6) -> None:
    curves = pd.DataFrame([event(epoch) for epoch in range(1, epochs + 1)])
    finished_trial(store, TRIAL, SAMPLES, curves=curves)


def display(follower: Follower) -> ProgressDisplay:
    return ProgressDisplay(1, Console(file=io.StringIO()), [follower])


def follower_of(name: str, store: Store) -> Follower:
    (follower,) = make_followers([name], "toys", store, [TRIAL])
    return follower


def killed(follower: Follower) -> None:
    """Waits until it has logged all that it received, then drops it, as SIGKILL of the driver would."""
    logged_all = threading.Event()
    follower.calls.put(logged_all.set)
    assert logged_all.wait(60)
    assert not follower.broken
    follower.calls.put(None)


def disturbed(name: str, store: Store) -> None:
    """Three epochs, SIGKILL, and on from the checkpoint of the second; the fifth is never reported."""
    first = follower_of(name, store)
    first.__enter__()
    progress = display(first)
    progress.start(TRIAL.id, TRIAL.label)
    for epoch in (1, 2, 3):
        progress.update(TRIAL.id, result_of(epoch))
    killed(first)
    if name == "wandb":
        sys.modules["wandb"].teardown()  # its own process would have gone with the driver
    with follower_of(name, store) as second:
        progress = display(second)
        progress.start(TRIAL.id, TRIAL.label)
        for epoch in (3, 4, 6):
            progress.update(TRIAL.id, result_of(epoch))
        progress.update(TRIAL.id, None)
        finish(store)
        progress.end(TRIAL.id, "done", None)
    assert not second.broken
    assert list((store.root / "trackers" / name / "open").iterdir()) == []


def read_tensorboard(store: Store) -> tuple[dict[str, list[tuple[int, float]]], dict[str, Any]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import plugin_data_pb2

    (folder,) = (path for path in (store.root / "trackers" / "tensorboard").iterdir() if path.name != "open")
    assert folder.name == f"unet_fold0_seed_3_{TRIAL.id[:12]}"
    reader = EventAccumulator(str(folder)).Reload()
    scalars = {tag: [(event.step, event.value) for event in reader.Scalars(tag)] for tag in reader.Tags()["scalars"]}
    content = reader.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    started = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
    return scalars, {key: getattr(value, value.WhichOneof("kind")) for key, value in started.hparams.items()}


def read_mlflow(store: Store) -> tuple[dict[str, list[tuple[int, float]]], dict[str, Any]]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{store.root}/trackers/mlflow/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("toys").experiment_id])
    assert (run.info.run_name, run.info.status) == (f"unet fold0 seed 3 {TRIAL.id[:12]}", "FINISHED")
    history = {tag: client.get_metric_history(run.info.run_id, tag) for tag in run.data.metrics}
    return {tag: [(m.step, m.value) for m in metrics] for tag, metrics in history.items()}, run.data.params


def read_wandb(store: Store) -> tuple[dict[str, list[tuple[int, float]]], dict[str, Any]]:
    from wandb.proto import wandb_internal_pb2

    scalars: dict[str, list[tuple[int, float]]] = {}
    config, summary, names = {}, {}, set()
    for path in sorted((store.root / "trackers" / "wandb").glob("wandb/offline-run-*/run-*.wandb")):
        for line in leveldb_records(path.read_bytes()[7:]):
            record = wandb_internal_pb2.Record.FromString(line)
            names |= {(record.run.run_id, record.run.display_name)} if record.run.run_id else set()
            config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
            summary |= {(item.key or item.nested_key[0]): json.loads(item.value_json) for item in record.summary.update}
            for item in record.history.item:
                key = item.key or item.nested_key[0]
                scalars.setdefault(key, []).append((record.history.step.num, json.loads(item.value_json)))
    assert [name for _, name in names] == [f"unet fold0 seed 3 {TRIAL.id[:12]}"]
    assert summary["state"] == "done"
    return scalars | {key: [(0, value)] for key, value in summary.items() if key.startswith("test_")}, config


def leveldb_records(content: bytes) -> Iterator[bytes]:
    """The records of a LevelDB log: blocks of 32 KiB with parts of [crc32, length, whole | first | middle | last]."""
    record = b""
    for start in range(-7, len(content), 32768):  # the first block has lost its 7 bytes of file header
        block, at = content[max(0, start) : start + 32768], 0
        while at + 7 <= len(block):
            _, length, kind = struct.unpack_from("<IHB", block, at)
            record += block[at + 7 : at + 7 + length]
            at += 7 + length
            if kind in (1, 4):
                yield record
                record = b""


@pytest.mark.parametrize(
    ("name", "read"), [("tensorboard", read_tensorboard), ("mlflow", read_mlflow), ("wandb", read_wandb)]
)
def test_each_epoch_is_logged_once_whatever_is_killed(
    name: str, read: Callable[[Store], Any], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "WANDB_MODE", "WANDB_DIR", "WANDB_PROJECT"):
        monkeypatch.delenv(variable, raising=False)
    disturbed(name, store)
    scalars, hyper = read(store)
    assert scalars["train_loss"] == [(epoch, pytest.approx(1 / epoch)) for epoch in range(1, 7)]
    assert [step for step, _ in scalars["validation_dice"]] == [1, 3, 4, 5, 6]  # the second was not scored
    assert {key: value[-1][1] for key, value in scalars.items() if key.startswith("test_")} == pytest.approx(RESULTS)
    assert float(hyper["training.learning_rate"]) == 0.01
    assert int(hyper["model.head.depth"]) == 2
    assert hyper["held_out"] == "xray/a"


@dataclass
class Notebook:
    """A tool that writes down its calls; `fails` names one that raises."""

    fails: str = ""
    calls: list[tuple[Any, ...]] = field(default_factory=list)

    def _note(self, *call: Any) -> None:
        self.calls.append(call)
        if call[0] == self.fails:
            raise ConnectionError("no route to host")

    def open(self, name: str, hyperparameters: Mapping[str, Any], run: str | None, epoch: int) -> str:
        self._note("open", name, run, epoch)
        return run or "r1"

    def log(self, run: str, epoch: int, values: Mapping[str, float]) -> None:
        self._note("log", run, epoch)

    def close(self, run: str, state: str, results: Mapping[str, float]) -> None:
        self._note("close", run, state, dict(results))

    def end(self) -> None:
        self._note("end")


def test_what_a_worker_finished_alone_is_made_up_for(store: Store) -> None:
    with Follower("notes", Notebook(), store, [TRIAL]) as follower:
        follower.start(TRIAL.id)
        follower.update(TRIAL.id, result_of(1))
    finish(store, epochs=2)
    tool = Notebook()
    with Follower("notes", tool, store, [TRIAL]):
        pass
    assert tool.calls == [
        ("open", f"unet fold0 seed 3 {TRIAL.id[:12]}", "r1", 1), ("log", "r1", 2),
        ("close", "r1", "done", pytest.approx(RESULTS)), ("end",),
    ]  # fmt: skip
    again = Notebook()
    with Follower("notes", again, store, [TRIAL]):
        pass
    assert again.calls == [("end",)]


def test_a_trial_that_is_done_before_a_slow_tool_begins_goes_on_in_the_same_run(store: Store) -> None:
    with Follower("notes", Notebook(), store, [TRIAL]) as follower:
        follower.start(TRIAL.id)
        follower.update(TRIAL.id, result_of(1))
    tool, begins = Notebook(), threading.Event()
    follower = Follower("notes", tool, store, [TRIAL])
    follower.calls.put(lambda: begins.wait(60) or None)
    with follower:
        follower.start(TRIAL.id)
        follower.update(TRIAL.id, result_of(2))
        finish(store, epochs=2)
        follower.end_trial(TRIAL.id, "done")
        begins.set()
    assert tool.calls == [
        ("open", f"unet fold0 seed 3 {TRIAL.id[:12]}", "r1", 1), ("log", "r1", 2),
        ("close", "r1", "done", pytest.approx(RESULTS)), ("end",),
    ]  # fmt: skip


def test_a_trial_that_failed_goes_on_in_the_same_run(store: Store) -> None:
    tool = Notebook()
    for _ in range(2):
        with Follower("notes", tool, store, [TRIAL]) as follower:
            follower.start(TRIAL.id)
            follower.update(TRIAL.id, result_of(1))
            follower.start(TRIAL.id)  # a worker died: the next try of the same run
            follower.update(TRIAL.id, result_of(1))
            follower.end_trial(TRIAL.id, "failed")
    name = f"unet fold0 seed 3 {TRIAL.id[:12]}"
    closed = ("close", "r1", "failed", {})
    assert tool.calls == [
        ("open", name, None, 0),
        ("log", "r1", 1),
        closed,
        ("end",),
        ("open", name, "r1", 1),
        closed,
        ("end",),
    ]


@pytest.mark.parametrize("call", ["open", "log", "close", "end"])
def test_a_tool_that_fails_costs_one_warning(call: str, store: Store, caplog: pytest.LogCaptureFixture) -> None:
    tool = Notebook(fails=call)
    finish(store)
    with caplog.at_level(logging.WARNING), Follower("notes", tool, store, [TRIAL]) as follower:
        follower.start(TRIAL.id)
        for epoch in (1, 2, 3):
            follower.update(TRIAL.id, result_of(epoch))
        follower.end_trial(TRIAL.id, "done")
    assert [name for name, *_ in tool.calls].count(call) == 1
    (record,) = caplog.records
    assert "Tracker notes failed" in record.message and "no route to host" in record.message


def test_a_tool_that_hangs_holds_up_no_trial(
    store: Store, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    tool = Notebook()
    monkeypatch.setattr(tool, "open", lambda *arguments: release.wait() and "r1")
    monkeypatch.setattr("harness.execution.trackers.follower._END_SECONDS", 0.05)
    with caplog.at_level(logging.WARNING), Follower("notes", tool, store, [TRIAL]) as follower:
        follower.start(TRIAL.id)
        follower.update(TRIAL.id, result_of(1))
    assert "did not end" in caplog.text
    release.set()
    follower.thread.join(10)


def test_a_missing_library_is_refused_with_the_extra_to_install(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.delitem(sys.modules, "harness.execution.trackers.wandb", raising=False)
    with pytest.raises(UserError, match=r"delightsam-bench\[trackers\]"):
        make_followers(["wandb"], "toys", store, [TRIAL])
    with pytest.raises(UserError, match="Did you mean 'mlflow'"):
        make_followers(["mflow"], "toys", store, [TRIAL])


def test_hyperparameters_are_flat() -> None:
    found = hyperparameters(TRIAL)
    assert found["model.head.depth"] == 2 and found["model.weights"] == "None" and found["seed"] == 3
    assert all(isinstance(value, str | int | float | bool) for value in found.values())
    assert epoch_values(event(2)) == {"train_loss": 0.5, "learning_rate": 0.01}


def test_one_word_switches_a_tracker_on(toy_plan: Callable[..., Any], store: Store) -> None:
    with pytest.raises(UserError, match="Did you mean 'tensorboard'"):
        load_config(["method=[otsu]", "trackers=[tensorbord]"])
    suite = toy_plan("Floor")
    config = replace(suite.config, trackers=load_config(["method=[otsu]", "trackers=[tensorboard]"]).trackers)
    followers = _followers(config, store, suite)
    _execute(suite.trials, config, store, [], Console(file=io.StringIO()), followers)
    (folder,) = (store.root / "trackers" / "tensorboard").glob("floor_fold0_seed_0_*")
    assert {len(list(folder.iterdir())), len(followers)} == {2, 1}  # the curves, and the line of the HParams table
