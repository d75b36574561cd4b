"""Results of a run as DataFrames, and its trained methods as objects that predict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import UserError
from harness.store.queries import best_trial, find_trial
from harness.store.store import Store
from reports.records.records import Records
from reports.records.runs import find_suite, read_runs
from reports.records.selection import Selection, select
from reports.records.tidy import images_table, trials_table

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from harness.inference.predictors import TrialPredictor
    from reports.tables.leaderboard import Leaderboard

    Image = NDArray[np.uint8] | str | Path


@dataclass(frozen=True)
class Results:
    """What the store knows of one run.

    Attributes:
        store: folder of the store.
        records: trials, methods and samples as the report reads them.

    >>> results = load_results(store)
    >>> sorted(results.images["method"].unique())
    ['boxed', 'delightsam', 'otsu', 'unet']
    >>> results.trials.loc[results.trials["state"] != "done", ["method", "fold", "state"]].values.tolist()
    [['otsu', 'fold1', 'missing'], ['unet', 'fold2', 'failed']]
    """

    store: Path
    records: Records = field(repr=False)

    @property
    def name(self) -> str:
        """Of the suite."""
        return self.records.suite.name

    @property
    def time(self) -> str:
        """When the run was started, as `load_results(time=...)` takes it."""
        return self.records.suite.time

    @property
    def folder(self) -> Path:
        """Of the run, in the store."""
        return self.records.suite.folder

    @property
    def report(self) -> Path:
        """The page that the run wrote."""
        return self.folder / "report" / "leaderboard.html"

    @property
    def complete(self) -> bool:
        """Whether every trial that the run asked for has a result."""
        return all(trial.state == "done" for trial in self.records.trials)

    @cached_property
    def images(self) -> pd.DataFrame:
        """One row for each trial and image, see `reports.records.tidy.IMAGE_COLUMNS`, then one column for each metric."""
        return images_table(self.records)

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One row for each trial, also those without a result, see `reports.records.tidy.TRIAL_COLUMNS`, then the metrics."""
        return trials_table(self.records)

    @property
    def curves(self) -> pd.DataFrame:
        """One row for each trial and epoch: method, fold, seed, epoch, stage, train_loss, validation_dice ..."""
        return self.records.curves.copy()

    @cached_property
    def board(self) -> Leaderboard:
        """All tables of the report, computed from these records: means with intervals, tests, costs."""
        from reports.tables.leaderboard import build_leaderboard

        return build_leaderboard(self.records)

    @property
    def leaderboard(self) -> pd.DataFrame:
        """One row for each method, best first; a method that lacks a trial has no mean and no rank.

        >>> table = load_results(store).leaderboard
        >>> table[["method", "track"]].values.tolist()
        [['delightsam', 'automatic'], ['boxed', 'oracle'], ['otsu', 'incomplete'], ['unet', 'incomplete']]
        """
        return self.board.table.copy()

    def select(
        self,
        *,
        methods: Sequence[str] = (),
        modalities: Sequence[str] = (),
        domains: Sequence[str] = (),
        seeds: Sequence[int] = (),
    ) -> Results:
        """The results of a part of the run: means, ranks and figures are then of this part. Names may hold * and ?.

        >>> part = load_results(store).select(methods=["unet", "otsu"], modalities=["fundus"])
        >>> sorted(part.images["method"].unique()), list(part.images["modality"].unique())
        (['otsu', 'unet'], ['fundus'])

        Raises:
            UserError: a name fits nothing.
        """
        for name, given in (("methods", methods), ("modalities", modalities), ("domains", domains)):
            if isinstance(given, str):
                raise UserError(f"{name}={given!r}: expected a list, such as {name}=[{given!r}].")
        chosen = Selection(tuple(methods), tuple(modalities), tuple(domains), (), tuple(seeds))
        return Results(self.store, select(self.records, chosen))

    def trained(self, trial: str | None = None, *, method: str | None = None, device: str = "auto") -> TrainedTrial:
        """A trained method, ready to predict.

        Args:
            trial: the first letters of a training's id (column `trial` of `trials`).
            method: in its place: the best trial of the store's latest run with this method, by validation Dice.
            device: auto, cpu or cuda.

        Raises:
            UserError: no such trial, not finished, or its weights were not kept.
        """
        from harness.execution.serial import local_device

        if (trial is None) == (method is None):
            raise UserError("Give either a trial's id or method=...")
        store = Store(self.store)
        training = find_trial(store, trial) if trial is not None else best_trial(store, method)[0]
        return TrainedTrial(store.root, training, local_device(device))


@dataclass(frozen=True)
class TrainedTrial:
    """The method that a finished trial trained, with the trial's own image size and precision."""

    store: Path
    id: str
    device: str

    def predict(self, images: Sequence[Image], modality: str | None = None) -> list[NDArray[np.bool_]]:
        """The mask (H, W) of each image, at the image's own size: those that the trial stored for its test images.

        Args:
            images: arrays (H, W, 3) of uint8, or paths of files.
            modality: what they show, such as "fundus"; "auto" where the method can tell; None where it needs none.

        Raises:
            UserError: a file that can't be read, or a modality that the method does not know or needs to be given.
        """
        predictor = self._predictor.of_modality(modality)
        arrays = [_array(image) for image in images]
        masks: list[NDArray[np.bool_]] = []
        for start in range(0, len(arrays), predictor.batch_size):
            masks += predictor.segment(arrays[start : start + predictor.batch_size])[0]
        return masks

    @cached_property
    def _predictor(self) -> TrialPredictor:
        from harness.inference.predictors import trained_method

        return trained_method(Store(self.store), self.id, self.device)


def _array(image: Image) -> NDArray[np.uint8]:
    import numpy as np

    from harness.data.reading import read_image

    if isinstance(image, str | Path):
        return read_image(Path(image).expanduser())
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        found = f"{image.dtype} of shape {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise UserError(f"Expected an image as an array (H, W, 3) of uint8, or a path; found {found}.")
    return image


def load_results(store: str | Path = "runs", *, suite: str | None = None, time: str | None = None) -> Results:
    """The results of a run: the newest in the store that has any, or the one that is named.

    >>> results = load_results(store, suite="simulated")
    >>> len(results.trials), results.complete
    (12, False)
    >>> float(results.images.query("role == 'test'").groupby("method")["dice"].mean()["delightsam"]) > 0.5
    True

    Args:
        store: its folder, as store.root=...
        suite: the newest run of this suite.
        time: the run that was started then, as its folder is named.

    Raises:
        UserError: no such run; names those that there are.
    """
    place = Store(store)
    return Results(place.root, read_runs([(place, find_suite(place, suite, time))]))
