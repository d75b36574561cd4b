"""How long trials will take, from finished trials of the same methods in the same store."""

from __future__ import annotations

from statistics import median

from harness.store.store import Store
from harness.trial_spec import TrialSpec


class Estimator:
    """Learns from a store, once, how many seconds a method takes for each image, epoch and pixel of what it is trained on.

    For each geometry by itself: with tiles an image is predicted in many windows.
    """

    def __init__(self, store: Store) -> None:
        self.rates: dict[tuple[str, str], list[float]] = {}
        for ids in (ids for trial_id in store.trial_ids() for ids in store.ids_of(trial_id)):
            result = store.result(ids)
            if result is not None and "seconds" in result:  # of external masks nothing was trained here
                spec = store.spec(ids)
                self.rates.setdefault(_kind(spec), []).append(result["seconds"] / _work(spec))

    def seconds(self, trial: TrialSpec) -> float | None:
        """Seconds the trial will take on a machine like the one that filled the store; None: nothing to learn from."""
        rates = self.rates.get(_kind(trial))
        return median(rates) * _work(trial) if rates else None


def _kind(trial: TrialSpec) -> tuple[str, str]:
    return trial.method.name, trial.predicted.size_words.partition(", ")[2]


def _work(trial: TrialSpec) -> float:
    """Images x pixels that a trial handles, each epoch's anew."""
    split, training = trial.split, trial.trained
    corrupted = sum(len(keys) for _, keys in trial.corrupted())
    images = len(split.train) * training.epochs + len(split.test) + len(split.validation) + corrupted
    return float(max(1, images) * training.image_size**2)
