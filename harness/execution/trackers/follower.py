"""Follows a run for one tracker: each epoch once, whatever was killed and begun again in between."""

from __future__ import annotations

import json
import logging
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from harness.files import atomic_write_json
from harness.metrics import REGISTRY
from harness.store.store import Store
from harness.trial_spec import TrialSpec

if TYPE_CHECKING:
    from harness.execution.trackers.tracker import Tracker
    from harness.training.epoch_result import EpochResult

_END_SECONDS = 60.0
log = logging.getLogger(__name__)


class Follower:
    """Passes on what `ProgressDisplay` hears, in a thread of its own: a slow tool holds nothing up.

    For each trial that has not ended a note in `<store>/trackers/<tool>/open/` says which run of the tool it is and how many
    epochs were logged. A trial goes on from a checkpoint that may be older: an epoch is never logged twice. Epochs
    that nobody heard (the driver was dead) are logged from the trial's curves when it is done.
    """

    def __init__(self, name: str, tracker: Tracker, store: Store, trials: Sequence[TrialSpec]) -> None:
        self.name, self.tracker, self.store = name, tracker, store
        self.trials = {trial.id: trial for trial in trials}
        self.notes = store.root / "trackers" / name / "open"
        self.open: dict[str, dict[str, Any]] = {}
        self.heard = set[str]()
        self.broken = False
        self.calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._work, name=f"tracker {name}", daemon=True)

    def __enter__(self) -> Follower:
        self.thread.start()
        self.calls.put(self._catch_up)
        return self

    def __exit__(self, *error: object) -> None:
        self.calls.put(self.tracker.end)
        self.calls.put(None)
        self.thread.join(_END_SECONDS)
        if self.thread.is_alive():
            log.warning(
                "Tracker %s did not end within %.0f s: what was logged last may be lost.", self.name, _END_SECONDS
            )

    def start(self, trial_id: str) -> None:
        self.heard.add(trial_id)
        self.calls.put(lambda: self._start(trial_id))

    def update(self, trial_id: str, epoch: EpochResult | None) -> None:
        if epoch is not None:
            self.calls.put(lambda: self._epoch(trial_id, epoch.curve_row()))

    def end_trial(self, trial_id: str, state: str) -> None:
        self.calls.put(lambda: self._end(trial_id, state))

    # --- in the thread -------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while (call := self.calls.get()) is not None:
            if self.broken:
                continue
            try:
                call()
            except Exception as error:  # of somebody else's server, library or disk: never the run's end
                self.broken = True
                log.warning(
                    "Tracker %s failed and gets nothing more of this run: %s: %s. The run goes on; its results are in"
                    " the store.", self.name, type(error).__name__, error,
                )  # fmt: skip

    def _catch_up(self) -> None:
        """Ends what was done while nobody listened: the worker of a killed driver may have finished its trial."""
        for path in sorted(self.notes.glob("*.json")):
            if path.stem not in self.trials or self.store.result(self.trials[path.stem].ids) is None:
                continue
            # A trial of this run may be done before a slow tool comes here: its own calls follow.
            if path.stem not in self.heard:
                self._start(path.stem)
                self._end(path.stem, "done")

    def _start(self, trial_id: str) -> None:
        if trial_id in self.open:
            return  # another try of it
        trial, note = self.trials[trial_id], dict[str, Any]()
        with suppress(OSError, ValueError):
            note = json.loads((self.notes / f"{trial_id}.json").read_text("utf-8"))
        epoch = int(note.get("epoch", 0))
        run = self.tracker.open(f"{trial.label} {trial_id[:12]}", hyperparameters(trial), note.get("run"), epoch)
        self._note(trial_id, run, epoch)

    def _epoch(self, trial_id: str, event: Mapping[str, Any]) -> None:
        note = self.open[trial_id]
        if event["epoch"] == note["epoch"] + 1:
            self.tracker.log(note["run"], event["epoch"], epoch_values(event))
            self._note(trial_id, note["run"], event["epoch"])

    def _end(self, trial_id: str, state: str) -> None:
        if trial_id not in self.open:
            return  # it never began
        results = dict[str, float]()
        if state == "done":
            record = self.store.load(self.trials[trial_id].ids)
            if record.samples is None or record.curves is None:
                raise ValueError(f"the result of trial {trial_id[:12]} can't be read")
            for row in record.curves.to_dict("records"):
                self._epoch(trial_id, {str(key): value for key, value in row.items()})
            results = test_means(record.samples)
        self.tracker.close(self.open.pop(trial_id)["run"], state, results)
        if state == "done":
            (self.notes / f"{trial_id}.json").unlink(missing_ok=True)

    def _note(self, trial_id: str, run: str, epoch: int) -> None:
        self.open[trial_id] = {"run": run, "epoch": epoch}
        atomic_write_json(self.notes / f"{trial_id}.json", self.open[trial_id])


def hyperparameters(trial: TrialSpec) -> dict[str, str | int | float | bool]:
    """What a trial is, flat: `{"method": "unet", "model.width": 8, "training.epochs": 10, "seed": 0, ...}`."""
    found: dict[str, str | int | float | bool] = {
        "method": trial.method.name,
        "fold": trial.split.name,
        "held_out": ", ".join(trial.split.held_out),
        "seed": trial.seed,
        "data": trial.data.name,
        "protocol": trial.protocol.name,
        "scope": trial.protocol.scope,
    }
    groups = {"model": trial.method.model, "trainer": trial.method.trainer or {}, "training": asdict(trial.trained)}
    for group, values in groups.items():
        found |= _flat(values, f"{group}.")
    return found


def _flat(values: Mapping[str, Any], prefix: str) -> dict[str, str | int | float | bool]:
    found = dict[str, str | int | float | bool]()
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value if isinstance(value, str | int | float | bool) else str(value)
    return found


def epoch_values(event: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of an epoch that make curves; NaN (an epoch that was not scored) is left out."""
    names = [name for name in event if name in ("train_loss", "learning_rate") or name.endswith("_dice")]
    return {name: float(event[name]) for name in names if event[name] == event[name]}


def test_means(samples: Any) -> dict[str, float]:
    """`{"test_dice": 0.8, ...}`: the mean of each metric over images within a domain, then over domains."""
    tested = samples[samples.role == "test"]
    names = [name for name in REGISTRY if name in tested]
    means = tested.groupby(["modality", "domain"])[names].mean().mean()
    return {f"test_{name}": float(value) for name, value in means.items() if value == value}
