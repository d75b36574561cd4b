"""Measures what finished trials lack: a new metric, a newer version of one, other rules. Trains nothing, deletes nothing."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

from harness.data.dataset import Dataset
from harness.errors import TrialFailed, UserError, described, raise_stop_behind
from harness.evaluation.measure import Map, MeasuringThreads, measure_masks, missing_metrics
from harness.external_trainers import OutsideTrial
from harness.hardware import usable_cores
from harness.metrics import REGISTRY
from harness.store.store import Store
from harness.trial import TrialContext, predict_and_keep, prepare_trial
from harness.trial_spec import TrialSpec

NOT_TRAINED = "it has not been trained yet: run it first"
_IMAGES_AT_A_TIME = 8


@dataclass(frozen=True)
class Measured:
    """What became of one trial.

    Attributes:
        metrics: those that were computed.
        predicted: its masks had not been kept: they were predicted again from the weights.
        reason: why it could not be measured.
    """

    trial: TrialSpec
    state: Literal["measured", "up to date", "impossible"]
    metrics: tuple[str, ...] = ()
    predicted: bool = False
    reason: str = ""


def measure_missing(
    trial: TrialSpec, context: TrialContext, wanted: Sequence[str], map_: Map, datasets: dict[str, Dataset]
) -> Measured:
    """Computes those of the `wanted` metrics that the trial's table lacks or that have a newer version since.

    Args:
        map_: as of a pool: see `measuring_pool`.
        datasets: those opened so far, by root.

    Raises:
        UserError: the store can't be written.
    """
    store = Store(context.store_root)
    with store.trial_lock(trial.id):
        metrics = missing_metrics(store, trial.ids, wanted)
        if not metrics:
            return Measured(trial, "up to date")
        if not store.has_masks(trial.ids) and (reason := _why_not_predicted(store, trial)):
            return Measured(trial, "impossible", reason=reason)
        store.quarantine_trial(trial.ids)
        store.start_trial(trial)
        try:
            predicted = not store.has_masks(trial.ids)
            if trial.data.root not in datasets:
                datasets[trial.data.root] = Dataset.open(Path(trial.data.root))
            samples = datasets[trial.data.root].by_key()
            if predicted and trial.method.trainer is not None:
                outside = OutsideTrial(trial, store, samples, context.device)
                outside.predict()
                outside.clean(keep_model=True)
            elif predicted:
                prepared = prepare_trial(trial, context, samples, (*trial.split.test, *trial.split.validation))
                prepared.load_weights(store.weights(trial.id))
                with MeasuringThreads(store, trial, samples, metrics, usable_cores()) as measuring:
                    predict_and_keep(prepared, store, measuring)
                map_ = measuring.map
            measure_masks(store, trial, samples, metrics, map_)
        except OSError:  # the store, or the disk below it
            raise
        except BrokenProcessPool as error:
            raise UserError(
                "A process that measured was killed, probably for want of memory. What is measured is kept; the same"
                " command goes on."
            ) from error
        except (UserError, TrialFailed, KeyError) as error:
            reason = f"{trial.data.root} lacks the image {error}" if isinstance(error, KeyError) else str(error)
            return Measured(trial, "impossible", reason=reason)
        except Exception as error:  # the method's own code may raise anything; the others go on
            raise_stop_behind(error)
            return Measured(trial, "impossible", reason=described(error))
        if predicted and not context.predictions:
            store.forget_masks(trial.ids)
        return Measured(trial, "measured", tuple(metrics), predicted)


def _why_not_predicted(store: Store, trial: TrialSpec) -> str:
    """Why a trial without masks can't be predicted again; "" where its weights are there."""
    if trial.method.trainer is not None and OutsideTrial(trial, store, {}, "cpu").trained:
        return ""
    if store.has_weights(trial.id):
        return ""
    if trial.is_external:
        return "its masks were not kept: evaluate them again"
    if store.trained(trial.id) is None:
        return NOT_TRAINED
    return "neither its masks nor its weights were kept: run it again, with store.keep_weights=true"


@contextlib.contextmanager
def measuring_pool(metrics: Sequence[str]) -> Iterator[Map]:
    """The `map` of a pool of processes, one for each core."""
    modules = sorted({REGISTRY[name].compute.__module__ for name in metrics})
    # Not forked: torch's threads don't survive that.
    pool = ProcessPoolExecutor(
        usable_cores(), mp_context=get_context("spawn"), initializer=_import_all, initargs=(modules,)
    )
    try:
        yield partial(pool.map, chunksize=_IMAGES_AT_A_TIME)
    finally:
        pool.shutdown(cancel_futures=True)


def _import_all(modules: list[str]) -> None:
    """A metric from outside is registered where its module is imported."""
    for name in modules:
        importlib.import_module(name)
