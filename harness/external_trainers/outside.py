"""One trial of a method that a program of its own trains: train, predict, and what is kept of both."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import TrialFailed
from harness.evaluation.measure import measured_keys
from harness.external_trainers import folder
from harness.external_trainers.process import Command
from harness.files import atomic_write_json, atomic_write_text
from harness.methods.trainer import Trainer, check_usable, expanded
from harness.store.store import Store
from harness.trial_spec import TrialSpec

if TYPE_CHECKING:
    from harness.data.folder.sample import Sample

WORK, LOG = "trainer", "trainer.log"
_BEGUN = ".train_begun"
_SECONDS = ".seconds.json"


@dataclass(frozen=True)
class OutsideTrial:
    """A trial and where it runs.

    Attributes:
        device: "cpu" or "cuda".
        should_stop: asked while a command runs; True ends it.
        heartbeat: called now and then while a command runs.
    """

    spec: TrialSpec
    store: Store
    samples: Mapping[str, Sample]
    device: str
    should_stop: Callable[[], bool] = lambda: False
    heartbeat: Callable[[], None] = lambda: None

    @property
    def work(self) -> Path:
        """Its folder. It stays when an attempt ends early, and the same command goes on in it."""
        return self.store.trial_folder(self.spec.id) / WORK

    @property
    def trainer(self) -> Trainer:
        return self.spec.method.outside

    @property
    def trained(self) -> bool:
        """Whether the model is there, as it was trained."""
        return self.store.trained(self.spec.id) is not None and (self.work / folder.MODEL).is_dir()

    def train(self, command: Sequence[str]) -> None:
        """Runs the train command, or goes on with it, and keeps how the model came about.

        Args:
            command: the words that the bench was started with.

        Raises:
            TrialFailed, TrialInterrupted: see `Command.run`.
        """
        import pandas as pd

        from harness.store import provenance

        check_usable(self.spec.method.name, self.trainer)
        folder.write_folder(self.work, self.spec, self.samples, self.device)
        resume = (self.work / _BEGUN).exists()
        atomic_write_text(self.work / _BEGUN, "")
        with self._counted():
            self._run("train", self.trainer.train, resume=resume)
        self.store.finish_training(
            self.spec.ids,
            curves=pd.DataFrame(columns=["epoch", "stage", "train_loss", "learning_rate", "seconds"]),
            provenance=provenance.describe(self.device, list(command)),
            summary={"training_seconds": round(self._seconds(), 3), **folder.read_summary(self.work)},
        )

    def predict(self) -> None:
        """Runs the predict command and keeps the masks.

        Raises:
            TrialFailed: it failed, or did not leave exactly one sound mask for each test and validation image.
            TrialInterrupted: it was stopped.
        """
        check_usable(self.spec.method.name, self.trainer)
        began = time.monotonic()
        folder.write_folder(self.work, self.spec, self.samples, self.device)
        predictions = self.work / folder.PREDICTIONS
        _emptied(predictions)
        self._run("predict", self.trainer.predict, resume=False)
        for role, key, mask in folder.read_predictions(self.work, self.spec, self.samples):
            self.store.write_mask(self.spec.ids, role, key, mask)
        self.store.finish_prediction(
            self.spec.ids,
            masks=measured_keys(self.spec),
            summary={"prediction_seconds": round(time.monotonic() - began, 3)},
        )

    def clean(self, *, keep_model: bool) -> None:
        """Removes the work folder, but for the model where that is kept."""
        folder.clean_folder(self.work, keep_model=keep_model)

    def _run(self, stage: str, command: Sequence[str], *, resume: bool) -> None:
        try:
            Command(
                stage=stage,
                words=expanded(command, self.work),
                log=self.store.trial_folder(self.spec.id) / LOG,
                lock=self.work / ".lock",
                environment=self._environment(command, resume=resume),
                timeout_seconds=self.trainer.timeout_hours * 3600,
            ).run(self.should_stop, self.heartbeat)
        except OSError as error:
            raise TrialFailed(f"The {stage} command could not be started: {error}") from error

    def _environment(self, command: Sequence[str], *, resume: bool) -> dict[str, str]:
        threads = str(self.spec.trained.cpu_threads)
        own = {
            "BENCH_WORK": str(self.work),
            "BENCH_RESUME": str(int(resume)),
            "BENCH_SEED": str(self.spec.seed),
            "BENCH_DEVICE": self.device,
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "PYTHONUNBUFFERED": "1",
        }
        if self.device == "cpu":
            own["CUDA_VISIBLE_DEVICES"] = ""
        if command[0] == "{python}":  # the same Python finds the same modules, wherever this process found them
            own["PYTHONPATH"] = os.pathsep.join(path or os.getcwd() for path in sys.path)  # noqa: PTH109
        return {**os.environ, **own}

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """Adds the time of the block to that of earlier attempts; of one that was killed the time is lost."""
        before, began = self._seconds(), time.monotonic()
        try:
            yield
        finally:
            atomic_write_json(self.work / _SECONDS, {"train": before + time.monotonic() - began})

    def _seconds(self) -> float:
        try:
            return float(json.loads((self.work / _SECONDS).read_text("utf-8"))["train"])
        except (OSError, ValueError, KeyError):
            return 0.0


def _emptied(path: Path) -> None:
    """Masks of an earlier attempt must not stand for those of this one."""
    import shutil

    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
