"""One member of a population: trained a few epochs at a time, from its own state or from another's."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import TrialFailed, TrialInterrupted
from harness.files import atomic_write_bytes, atomic_write_json, read_json
from harness.search.configurations import Values
from harness.search.curves import Curve, EpochScore
from harness.trial import PreparedTrial, TrialContext, prepare_trial
from harness.trial_spec import TrialSpec

if TYPE_CHECKING:
    pass

RATES = ("lr", "initial_lr", "max_lr", "min_lr")
CHANGEABLE = ("learning_rate", "weight_decay", "clip_norm")
"""Training settings that mean the same in the middle of a training."""


@dataclass(frozen=True)
class Step:
    """What a member does next: from `parent`'s folder (None: from scratch) until `to_epoch`, all folds at once.

    `before` are the values that the parent was trained with, `values` those to go on with.
    """

    member: int
    folder: Path
    parent: Path | None
    before: Values
    values: Values
    from_epoch: int
    to_epoch: int


@dataclass(frozen=True)
class StepResult:
    """What is known of a member after a step; `reason` says why its training failed.

    `dice` is the validation Dice that the selection rule would choose, of each trial; `curves` holds it after each epoch.
    """

    dice: list[float]
    curves: list[list[float]]
    reason: str | None = None

    @property
    def objective(self) -> float:
        return sum(self.dice) / len(self.dice) if self.reason is None else math.nan


def read_step_result(step: Step) -> StepResult | None:
    """None while the step is not done."""
    path = step.folder / "step.json"
    if not path.exists():
        return None
    result = read_json(path)
    return StepResult([_number(value) for value in result["dice"]], result["curves"], result["reason"])


def take_step(step: Step, trials: list[TrialSpec], context: TrialContext) -> None:
    """Trains the member on the training images of each trial; reads no test image. Writes its state and `step.json`.

    A step that was interrupted starts again from its parent's state: the same bits, whoever takes it and whenever.
    """
    if read_step_result(step) is not None:
        return
    curves = []
    try:
        for fold, trial in enumerate(trials):
            curves.append(_train(step, fold, trial, context))
        reason = None
    except TrialFailed as error:
        reason = str(error)
    values = [
        [_followed(rows, count, trial) for count in range(1, len(rows) + 1)]
        for rows, trial in zip(curves, trials, strict=False)
    ]
    result = StepResult([each[-1] for each in values], values, reason)
    atomic_write_json(step.folder / "step.json", _json(asdict(result)))


def _train(step: Step, fold: int, trial: TrialSpec, context: TrialContext) -> list[EpochScore]:
    """One trial's part of a step; the scores of all its epochs so far."""
    import torch

    from harness.training.callbacks import usual_callbacks
    from harness.training.fit import TrainingData, fit
    from harness.training.weights import save_weights

    training = trial.trained
    folder = step.folder / str(fold)
    shutil.rmtree(folder, ignore_errors=True)
    if step.parent is not None:
        _inherit(step, step.parent / str(fold) / "training.pt", folder / "training.pt")
    split = trial.split
    prepared = _prepared(trial, context, [*split.train, *split.validation])
    data = TrainingData(prepared.cache, prepared.samples, trial.modalities, split.train, split.validation)
    epochs = iter(range(step.from_epoch + 1, training.epochs + 1_000_000))
    try:
        state = fit(
            prepared.method, data, training, seed=trial.seed, device=prepared.device, folder=folder,
            callbacks=usual_callbacks(folder, checkpoint_seconds=math.inf, should_stop=lambda: next(epochs) >= step.to_epoch),
        )  # fmt: skip
        curves = state.curves
        save_weights(prepared.method, folder / "model.safetensors")
    except TrialInterrupted:
        curves = torch.load(folder / "training.pt", map_location="cpu", weights_only=True)["state"]["curves"]
    return [EpochScore(row["epoch"], row["stage"], row["validation_dice"]) for row in curves]


def _followed(rows: list[EpochScore], count: int, trial: TrialSpec) -> float:
    curve = Curve(trial.trained.selection)
    for score in rows[:count]:
        curve.add(score)
    return curve.value


def _inherit(step: Step, source: Path, target: Path) -> None:
    """The parent's state with the member's own learning rate and weight decay in its optimiser and schedule.

    The schedule goes on where it was, with every rate in it multiplied.
    """
    import torch

    saved = torch.load(source, map_location="cpu", weights_only=True)
    for key, value in step.values.items():
        name, before = key.rpartition(".")[2], step.before[key]
        if name == "learning_rate":
            factor = value / before
            for group in saved["optimizer"]["param_groups"]:
                group.update({rate: group[rate] * factor for rate in RATES if rate in group})
            for rates in ("base_lrs", "_last_lr"):
                if rates in saved["schedule"]:
                    saved["schedule"][rates] = [rate * factor for rate in saved["schedule"][rates]]
        elif name == "weight_decay":
            for group in saved["optimizer"]["param_groups"]:
                # Vectors have none and keep none.
                group["weight_decay"] = value if group["weight_decay"] else 0.0
    buffer = BytesIO()
    torch.save(saved, buffer)
    atomic_write_bytes(target, buffer.getvalue())


def evaluate_member(folder: Path, trials: list[TrialSpec], context: TrialContext) -> None:
    """Writes `tested.parquet`: a row for each test image, by the weights that the member's last step chose."""
    import pandas as pd

    from harness.evaluation.measure import measure_image

    rows = []
    for fold, trial in enumerate(trials):
        prepared = _prepared(trial, context, trial.split.test)
        prepared.load_weights(folder / str(fold) / "model.safetensors")
        rows += [
            measure_image(prepared.samples[found.key], found.mask, "test", trial.evaluation)
            for found in prepared.predict(trial.split.test)
        ]
    buffer = BytesIO()
    pd.DataFrame(rows).to_parquet(buffer, index=False)
    atomic_write_bytes(folder / "tested.parquet", buffer.getvalue())


def _prepared(trial: TrialSpec, context: TrialContext, keys: Sequence[str]) -> PreparedTrial:
    from harness.data.dataset import Dataset

    return prepare_trial(trial, context, Dataset.open(Path(trial.data.root)).by_key(), keys)


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _json(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _json(item) for key, item in value.items()}
    return [_json(item) for item in value] if isinstance(value, list | tuple) else value
