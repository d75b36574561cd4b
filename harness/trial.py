"""One trial: train a method on a split with a seed, predict its images, measure the masks, and keep each of these."""

from __future__ import annotations

import contextlib
import math
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.data.corruptions.form import CorruptedForm
from harness.errors import (
    TrialFailed,
    TrialInterrupted,
    UserError,
    described,
    place,
    printable,
    raise_stop_behind,
)
from harness.methods.crossing import WRAPPED
from harness.protocols.leaks import check_split
from harness.store.store import Store
from harness.store.trial_state import now
from harness.trial_spec import TrialSpec

if TYPE_CHECKING:
    import torch
    from torch import nn

    from harness.data.batches.array_cache import ArrayCache
    from harness.data.dataset import Dataset
    from harness.data.folder.sample import Sample
    from harness.evaluation.measure import MeasuringThreads
    from harness.inference.predict import Prediction
    from harness.methods.adapter import MethodAdapter
    from harness.training.checkpoint import FitState
    from harness.training.epoch_result import EpochResult

    Report = Callable[[EpochResult | None], None]


@dataclass(frozen=True)
class TrialContext:
    """Where a trial runs: nothing here changes its numbers on the same device."""

    store_root: str
    cache_folder: str
    device: str = "cpu"
    predictions: bool = True
    keep_weights: bool = True
    checkpoint_seconds: float = 20.0
    # An algorithm that changes nothing in training gets the weights of the method by itself, where the store has them.
    take_over: bool = True
    command: tuple[str, ...] = ()


def run_trial(
    spec: TrialSpec,
    context: TrialContext,
    report: Report = lambda epoch: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Runs what the store lacks of the trial and returns its final status: a stopped training goes on at its checkpoint,
    kept weights are not trained and kept masks not predicted again.

    Args:
        report: called with the result of each epoch, and with None when the test begins.
        should_stop: asked after each epoch; True: the trial keeps its state and ends as `{"state": "interrupted", ...}`.

    Returns:
        `state` and `reason`. A trial that fails by itself (NaN loss, out of memory, an error in the method's code) is
        recorded with its cause, and is "failed".

    Raises:
        UserError: the data or the store is at fault; other trials would meet the same.
    """
    store, trial_id = Store(context.store_root), spec.id
    status = _Status(store, trial_id, {"started": now(), "host": platform.node(), "pid": os.getpid()})
    try:
        with store.trial_lock(trial_id):
            if store.result(spec.ids) is not None:  # by another process, while this one waited for the lock
                return {"state": "done", "reason": None}
            store.quarantine_trial(spec.ids)
            store.start_trial(spec)
            status.write("running", epoch=0)
            _run(store, spec, context, report, should_stop, status)
            status.write("done", seconds=(store.result(spec.ids) or {}).get("seconds"))
        return {"state": "done", "reason": None}
    except TrialInterrupted as stop:
        status.write("interrupted", reason=str(stop))
        return {"state": "interrupted", "reason": str(stop)}
    except UserError as error:
        raise_stop_behind(error)
        with contextlib.suppress(UserError, OSError):  # for example the very disk that is full
            status.write("failed", reason=str(error))
        raise
    except (Exception, SystemExit) as error:  # the method's own code may raise anything; the others go on
        raise_stop_behind(error)
        if isinstance(error, SystemExit) and not place(error):
            raise  # Ray Tune ends a trial so
        reason = printable(str(error)) if isinstance(error, TrialFailed) else described(error)
        _keep_traceback(store, trial_id)
        status.write("failed", reason=reason)
        return {"state": "failed", "reason": reason}


@dataclass(frozen=True)
class _Status:
    """Writes status.json for one attempt; each record includes the host and process id."""

    store: Store
    trial_id: str
    place: dict[str, Any]

    def write(self, state: str, **details: Any) -> None:
        self.store.write_status(self.trial_id, state, **self.place, **details)


def _run(
    store: Store,
    spec: TrialSpec,
    context: TrialContext,
    report: Report,
    should_stop: Callable[[], bool],
    status: _Status,
) -> None:
    from harness.data.dataset import Dataset
    from harness.evaluation.measure import Map, MeasuringThreads, measure_masks
    from harness.metrics import REGISTRY

    dataset = Dataset.open(Path(spec.data.root))
    _check_split(spec, dataset)
    samples = dataset.by_key()
    map_: Map = map
    if spec.method.trainer is not None:
        _run_outside(store, spec, context, samples, report, should_stop, status)
    elif not store.has_masks(spec.ids):
        source = _kept_weights(store, spec, context)
        prepared = prepare_trial(spec, context, samples, _predicted_keys(spec) if source else spec.split.keys)
        if source is None:
            _train(prepared, store, context, report, should_stop, status)
        elif source == spec.id:
            prepared.load_weights(store.weights(source))
        else:
            _take_over(prepared, store, source)
        report(None)
        with MeasuringThreads(store, spec, samples, list(REGISTRY), spec.trained.cpu_threads) as measuring:
            predict_and_keep(prepared, store, measuring)
        map_ = measuring.map
    measure_masks(store, spec, samples, list(REGISTRY), map_)
    (store.trial_folder(spec.id) / "error.txt").unlink(missing_ok=True)  # of an earlier attempt
    if not context.predictions:
        store.forget_masks(spec.ids)
    if not context.keep_weights:
        store.weights(spec.id).unlink(missing_ok=True)


def _run_outside(
    store: Store,
    spec: TrialSpec,
    context: TrialContext,
    samples: dict[str, Sample],
    report: Report,
    should_stop: Callable[[], bool],
    status: _Status,
) -> None:
    """Trains and predicts by the method's own commands what the store lacks."""
    from harness.external_trainers import OutsideTrial

    outside = OutsideTrial(spec, store, samples, context.device, should_stop, lambda: status.write("running", epoch=0))
    if not store.has_masks(spec.ids):
        if not outside.trained:
            outside.train(context.command)
        report(None)
        outside.predict()
    outside.clean(keep_model=context.keep_weights)


def _predicted_keys(spec: TrialSpec) -> tuple[str, ...]:
    return (*spec.split.test, *spec.split.validation)


def _train(
    prepared: PreparedTrial,
    store: Store,
    context: TrialContext,
    report: Report,
    should_stop: Callable[[], bool],
    status: _Status,
) -> None:
    """Trains the prepared method and keeps its weights, and how they came about."""
    from harness.training.callbacks import usual_callbacks
    from harness.training.fit import TrainingData, fit

    spec, folder = prepared.spec, store.trial_folder(prepared.spec.id)

    def tell(epoch: EpochResult) -> None:
        dice = None if math.isnan(epoch.dice) else epoch.dice  # JSON has no NaN
        status.write("running", epoch=epoch.epoch, epochs=epoch.epochs, dice=dice, epoch_seconds=epoch.seconds)
        report(epoch)

    checkpoints = folder / "checkpoint"
    state = fit(
        prepared.method,
        TrainingData(prepared.cache, prepared.samples, spec.modalities, spec.split.train, spec.scored),
        spec.trained,
        seed=spec.seed,
        device=prepared.device,
        folder=checkpoints,
        callbacks=usual_callbacks(
            checkpoints, report=tell, checkpoint_seconds=context.checkpoint_seconds, should_stop=should_stop
        ),
    )
    _keep_training(prepared, store, context, state)
    shutil.rmtree(checkpoints, ignore_errors=True)


def _kept_weights(store: Store, spec: TrialSpec, context: TrialContext) -> str | None:
    """The training whose weights serve this trial: its own, or that of the method by itself; None where none is kept."""
    candidates = (spec.id, spec.alone_id if context.take_over else None)
    return next((each for each in candidates if each is not None and store.has_weights(each)), None)


def _take_over(prepared: PreparedTrial, store: Store, alone: str) -> None:
    """Keeps the weights of the training `alone` as this trial's own, with how they came about."""
    from harness.training.weights import save_weights

    spec = prepared.spec
    prepared.load_weights(store.weights(alone), prefix=WRAPPED)
    save_weights(prepared.method, store.weights(spec.id), about=spec.weights_metadata())
    store.copy_training(alone, spec.ids)
    # Of an attempt that trained by itself.
    shutil.rmtree(store.trial_folder(spec.id) / "checkpoint", ignore_errors=True)


def _keep_training(prepared: PreparedTrial, store: Store, context: TrialContext, state: FitState) -> None:
    import pandas as pd

    from harness.methods.adapter import MethodAdapter
    from harness.store import provenance
    from harness.training.weights import save_weights

    spec = prepared.spec
    save_weights(prepared.method, store.weights(spec.id), about=spec.weights_metadata())
    columns = None if state.curves else ["epoch", "stage", "train_loss", "learning_rate", "seconds"]
    store.finish_training(
        spec.ids,
        curves=pd.DataFrame(state.curves, columns=columns),
        provenance=provenance.describe(context.device, list(context.command)),
        summary={
            # Earlier attempts included.
            "training_seconds": round(state.seconds, 3),
            "epochs": state.epoch,
            "chosen_epoch": state.best_epoch,
            "images_seen": state.images_seen,
            "micro_batch": state.micro_batch,
            "stages": [stage.to_json() for stage in MethodAdapter(prepared.method).stages()],
        },
    )


def predict_and_keep(prepared: PreparedTrial, store: Store, measuring: MeasuringThreads) -> None:
    """Predicts the test and validation images of a trained method; `measuring` keeps the masks in the store.

    Corrupted forms of the test images, where the trial asks for them, are made batch by batch.
    """
    import pandas as pd

    from harness.evaluation.measure import ROLES, measured_keys
    from harness.hardware import memory_kept
    from harness.methods.adapter import MethodAdapter

    spec, began = prepared.spec, time.monotonic()
    guesses = []
    adapter = MethodAdapter(prepared.method)  # one for all, so that the method's fastest form is made once
    plain = [(role, prepared.predict(spec.split.of(role), adapter=adapter)) for role in ROLES]
    corrupted = [(form.role, prepared.predict(keys, form, adapter)) for form, keys in spec.corrupted()]
    with memory_kept(prepared.device.type):
        for role, predictions in [*plain, *corrupted]:
            for found in predictions:
                measuring.keep(role, found.key, found.mask)
                if found.guessed_modality is not None:
                    guesses.append({"role": role, "key": found.key, "guessed_modality": found.guessed_modality})
    measuring.all_kept()
    store.finish_prediction(
        spec.ids,
        masks=measured_keys(spec),
        guesses=pd.DataFrame(guesses) if guesses else None,
        summary={"prediction_seconds": round(time.monotonic() - began, 3)},
    )


@dataclass(frozen=True)
class PreparedTrial:
    """A trial's method on its device, and the decoded images that it may touch."""

    spec: TrialSpec
    method: nn.Module
    device: torch.device
    cache: ArrayCache
    samples: dict[str, Sample]

    def load_weights(self, path: Path, prefix: str = "") -> None:
        """Takes the weights of a file that `save_weights` wrote.

        Args:
            prefix: how the method's names begin, where the file is of a method that it wraps.

        Raises:
            UserError: they don't fit: the method's code has changed since.
        """
        from safetensors.torch import load_file

        try:
            self.method.load_state_dict({prefix + name: tensor for name, tensor in load_file(path).items()})
        except RuntimeError as error:
            raise UserError(
                f"{path} does not fit {self.spec.method.name}: its code has changed since it was trained, and its version"
                f" has not. Raise `version` in the method's YAML, or give a new store.root. ({error})"
            ) from error

    def predict(
        self, keys: Sequence[str], form: CorruptedForm | None = None, adapter: MethodAdapter | None = None
    ) -> Iterator[Prediction]:
        """The masks of the images `keys`, by the trial's own settings: see `predict_images`.

        Args:
            form: in which the images are shown to the method; None: as they are.
            adapter: the method's, where it predicts several times with the same weights.
        """
        from harness.data.batches.corrupted import CorruptedPixels
        from harness.inference.predict import predict_images

        settings, asked = self.spec.predicted, self.spec.corruptions
        source = None
        if form is not None and asked is not None:
            source = CorruptedPixels(self.cache, self.device, form.name, form.severity, asked.seed)
        return predict_images(
            adapter or self.method, keys, cache=self.cache, samples=self.samples, modalities=self.spec.modalities,
            batch_size=settings.batch_size, device=self.device, amp=settings.amp, source=source,
        )  # fmt: skip


def prepare_trial(
    spec: TrialSpec, context: TrialContext, samples: dict[str, Sample], keys: Iterable[str]
) -> PreparedTrial:
    """Sets threads and seed, decodes the images `keys` and builds the method; `run` and `search` start from here.

    Args:
        samples: sample key -> sample, of the trial's dataset.
        keys: of the images that are needed; no other is read.
    """
    import torch

    from harness.data.batches.array_cache import ArrayCache
    from harness.data.batches.geometry import Geometry
    from harness.methods.adapter import MethodAdapter
    from harness.methods.building import build_method
    from harness.training.seeding import make_deterministic, seed_everything

    training, folder = spec.trained, Path(context.cache_folder)
    torch.set_num_threads(training.cpu_threads)
    device = torch.device(context.device)
    make_deterministic(device)
    needed = [samples[key] for key in sorted(set(keys))]
    cache = ArrayCache.open(needed, training.image_size, folder, geometry=Geometry(training.geometry, training.tiled))
    seed_everything(spec.seed, 0)
    method = build_method(spec.method.name, spec.method.model, spec.modalities, prompt=spec.method.prompt).to(device)
    MethodAdapter(method).use_cache(folder / "embeddings")
    return PreparedTrial(spec, method, device, cache, samples)


def _check_split(spec: TrialSpec, dataset: Dataset) -> None:
    """The guard: the images are those that the trial was planned on, and none leaks."""
    split, samples = spec.split, dataset.by_key()
    missing = [key for key in (*split.train, *split.validation, *split.test) if key not in samples]
    if missing:
        raise UserError(
            f"{dataset.root} lacks {len(missing)} images of split {split.name}, the first is {missing[0]}."
            " Restore the data, or plan the run again on what is there."
        )
    if split.with_content(samples).content != split.content:
        raise UserError(f"The images in {dataset.root} changed since the trial was planned. Run the command again.")
    check_split(split, samples)


def _keep_traceback(store: Store, trial_id: str) -> None:
    import traceback

    from harness.files import atomic_write_text

    atomic_write_text(store.trial_folder(trial_id) / "error.txt", printable(traceback.format_exc()))
