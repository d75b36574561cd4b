"""The validation Dice of a trial, epoch by epoch: all that a search is shown of it.

Nothing here reads a test image or a row of a tested one. What was once trained is never trained again to be judged: the
epochs of a finished trial stand in its `curves.csv`, those of an unfinished one in the sweep's own folder.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from harness.files import atomic_write_json, read_json
from harness.store.store import Store
from harness.training.epoch_result import EpochResult
from harness.trial_spec import TrialIds


@dataclass(frozen=True)
class EpochScore:
    """`epoch` counts from 1; `dice` is NaN in a stage that is not scored."""

    epoch: int
    stage: str
    dice: float


class Curve:
    """Follows what the selection rule would choose: the best epoch of the newest stage, or the last epoch.

    `value` is its validation Dice, NaN before there is one.
    """

    def __init__(self, selection: str) -> None:
        self.keeps_best = selection != "last"
        self.stage: str | None = None
        self.value = math.nan

    def add(self, score: EpochScore) -> None:
        if score.stage != self.stage:
            # A new stage starts from the chosen weights of the one before and is judged by itself.
            self.stage, self.value = score.stage, math.nan
        if not self.keeps_best or math.isnan(self.value) or score.dice > self.value:
            self.value = score.dice


class EpochLog:
    """The scores of one trial. Equal trials have equal scores, so it does not matter which run trained which epoch."""

    def __init__(self, store: Store, ids: TrialIds, folder: Path) -> None:
        self.path = folder / "epochs" / f"{ids.training}.json"
        self.finished = store.result(ids) is not None
        self.scores = _of_result(store, ids) if self.finished else self._kept()

    def add(self, epoch: EpochResult) -> EpochScore | None:
        """Keeps an epoch that `run_trial` reports; None when it was known (trained again from an older checkpoint)."""
        if epoch.epoch <= len(self.scores):
            return None
        score = EpochScore(epoch.epoch, epoch.stage, epoch.dice)
        self.scores.append(score)
        rows = [[each.epoch, each.stage, None if math.isnan(each.dice) else each.dice] for each in self.scores]
        atomic_write_json(self.path, rows)
        return score

    def _kept(self) -> list[EpochScore]:
        if not self.path.exists():
            return []
        return [
            EpochScore(epoch, stage, math.nan if dice is None else dice) for epoch, stage, dice in read_json(self.path)
        ]


def _of_result(store: Store, ids: TrialIds) -> list[EpochScore]:
    import pandas as pd

    curves = pd.read_csv(store.trial_folder(ids.training) / "curves.csv", float_precision="round_trip")
    if "validation_dice" not in curves:
        return []
    columns = zip(curves["epoch"], curves["stage"], curves["validation_dice"], strict=True)
    return [EpochScore(int(epoch), str(stage), float(dice)) for epoch, stage, dice in columns]
