"""How long trials will take, from finished trials of the same methods in the same store."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median

from harness.store.store import Store
from harness.trial_spec import TrialSpec


class Estimator:
    """Learns from a store, once, how many seconds a method takes for each image, epoch and pixel of what it is trained on.

    For each geometry by itself: with tiles an image is predicted in many windows.

    Args:
        planned: trials of the run to come: what takes over the weights of one of them, or of one in the store, only predicts.
    """

    def __init__(self, store: Store, planned: Iterable[TrialSpec] = ()) -> None:
        self.rates: dict[tuple[str, str, bool], list[float]] = {}
        self.trained = {*store.trial_ids(), *(trial.id for trial in planned)}
        for ids in (ids for trial_id in store.trial_ids() for ids in store.ids_of(trial_id)):
            result = store.result(ids)
            if result is not None and "seconds" in result:  # of external masks nothing was trained here
                spec, trains = store.spec(ids), "weights_of" not in result
                seconds = result["seconds" if trains else "prediction_seconds"]
                self.rates.setdefault(_kind(spec, trains), []).append(seconds / _work(spec, trains))

    def seconds(self, trial: TrialSpec) -> float | None:
        """Seconds the trial will take on a machine like the one that filled the store; None: nothing to learn from."""
        trains = trial.alone_id not in self.trained
        rates = self.rates.get(_kind(trial, trains))
        return median(rates) * _work(trial, trains) if rates else None


def _kind(trial: TrialSpec, trains: bool) -> tuple[str, str, bool]:
    return trial.method.name, trial.predicted.size_words.partition(", ")[2], trains


def _work(trial: TrialSpec, trains: bool) -> float:
    """Images x pixels that a trial handles, each epoch's anew."""
    split, training = trial.split, trial.trained
    corrupted = sum(len(keys) for _, keys in trial.corrupted())
    images = len(split.train) * training.epochs * trains + len(split.test) + len(split.validation) + corrupted
    return float(max(1, images) * training.image_size**2)
