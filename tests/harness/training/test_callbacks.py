"""What happens after an epoch, and in which order."""

from __future__ import annotations

import json
import math
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import toy_methods
from toy_training import CONFIG, CPU, make, make_data

from harness.errors import TrialInterrupted
from harness.training.callbacks import CheckpointWriter, usual_callbacks
from harness.training.epoch_result import EpochResult
from harness.training.fit import fit

EPOCH = EpochResult(3, 8, "train", 0.5, 0.25, "validation", 0.01, 1.5)


def run(folder: Path, **options: object) -> None:
    fit(
        make(toy_methods.TinyConv), make_data(), CONFIG, seed=0, device=CPU, folder=folder,
        callbacks=usual_callbacks(folder, **options),  # type: ignore[arg-type]
    )  # fmt: skip


def test_a_stop_keeps_the_state_reports_the_epoch_and_then_ends_the_fit(tmp_path: Path) -> None:
    """The answer of the first question holds: a stop that is asked for in between finds its checkpoint written."""
    reported: list[tuple[int, bool]] = []
    answers = iter([False, True])

    def report(epoch: EpochResult) -> None:
        reported.append((epoch.epoch, (tmp_path / "training.pt").exists()))

    with pytest.raises(TrialInterrupted, match="asked to stop after epoch 2 of 4"):
        run(tmp_path, report=report, checkpoint_seconds=math.inf, should_stop=lambda: next(answers))
    assert reported == [(1, False), (2, True)]


def test_the_last_epoch_is_not_stopped(tmp_path: Path) -> None:
    last: list[bool] = []
    run(tmp_path, report=lambda epoch: last.append(epoch.is_last), should_stop=lambda: len(last) == 3 and last[-1])
    assert last == [False, False, False, True]
    with pytest.raises(TrialInterrupted):
        run(tmp_path / "other", should_stop=lambda: True)


@pytest.mark.parametrize("stops", [False, True])
def test_a_fit_ends_when_its_checkpoint_is_on_the_disk(tmp_path: Path, stops: bool) -> None:
    """A thread writes it: one that went on would write into the folder of a trial that has ended."""
    callbacks = usual_callbacks(tmp_path, checkpoint_seconds=1e-9, should_stop=lambda: stops)
    writer = callbacks[0]
    assert isinstance(writer, CheckpointWriter)
    with pytest.raises(TrialInterrupted) if stops else nullcontext():
        fit(make(toy_methods.TinyConv), make_data(), CONFIG, seed=0, device=CPU, folder=tmp_path, callbacks=callbacks)
    assert writer.file.path.exists() and writer.file.writing is None


def test_an_epoch_survives_json_and_is_a_row_of_the_curves() -> None:
    assert EpochResult.from_json({"trial_id": "t", **json.loads(json.dumps(EPOCH.to_json()))}) == EPOCH
    assert replace(EPOCH, scored_on="test").curve_row() == {
        "epoch": 3, "stage": "train", "train_loss": 0.5, "test_dice": 0.25, "learning_rate": 0.01, "seconds": 1.5,
    }  # fmt: skip
