"""One trial: train a method on a split with a seed, test it, and keep the result."""

from __future__ import annotations

import contextlib
import os
import platform
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import TrialFailed, TrialInterrupted, UserError
from harness.protocols.leaks import check_split
from harness.protocols.split import Split
from harness.store.records import now
from harness.store.store import Store
from harness.trial_spec import TrialSpec

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from torch import nn

    from harness.config.schema import MetricsConfig
    from harness.data.batches.array_cache import ArrayCache
    from harness.data.dataset import Dataset
    from harness.data.folder.sample import Sample
    from harness.training.checkpoint import FitState


@dataclass(frozen=True)
class TrialContext:
    """Where a trial runs: nothing here changes its numbers on the same device."""

    store_root: str
    cache_folder: str
    device: str = "cpu"
    predictions: bool = True
    keep_weights: bool = True
    checkpoint_seconds: float = 20.0
    command: tuple[str, ...] = ()


def run_trial(
    spec: TrialSpec,
    context: TrialContext,
    report: Callable[[dict[str, Any]], None] = lambda event: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Runs the trial, or goes on with it where an earlier try stopped, and returns its final status.

    A trial that fails by itself (NaN loss, out of memory, an error in the method's code) is recorded with its cause and
    returned as `{"state": "failed", "reason": ...}`.

    Args:
        report: called with {phase: training, epoch, epochs, train_loss, dice, ...} after each epoch, {phase: testing} after the last.
        should_stop: asked after each epoch; True: the trial keeps its state and ends as `{"state": "interrupted", ...}`.

    Raises:
        UserError: the data or the store is at fault; other trials would meet the same.
    """
    store, trial_id = Store(context.store_root), spec.id
    status = _Status(store, trial_id, {"started": now(), "host": platform.node(), "pid": os.getpid()})
    try:
        with store.trial_lock(trial_id):
            if store.result(trial_id) is not None:  # by another process, while this one waited for the lock
                return {"state": "done", "reason": None}
            store.quarantine_trial(trial_id)
            store.start_trial(spec)
            status.write("running", epoch=0)
            _run(store, spec, context, report, should_stop, status)
        return {"state": "done", "reason": None}
    except TrialInterrupted as stop:
        status.write("interrupted", reason=str(stop))
        return {"state": "interrupted", "reason": str(stop)}
    except UserError as error:
        with contextlib.suppress(UserError, OSError):  # for example the very disk that is full
            status.write("failed", reason=str(error))
        raise
    except Exception as error:  # the method's own code may raise anything; its cause is kept, the others go on
        reason = str(error) if isinstance(error, TrialFailed) else f"{type(error).__name__}: {error}"
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
    report: Callable[[dict[str, Any]], None],
    should_stop: Callable[[], bool],
    status: _Status,
) -> None:
    from harness.data.dataset import Dataset
    from harness.training.fit import TrainingData, fit
    from harness.training.weights import save_weights

    dataset = Dataset.open(Path(spec.data.root))
    split = _checked_split(spec, dataset)
    prepared = prepare_trial(spec, context, dataset.by_key(), split.keys)
    folder = store.trial_folder(spec.id)
    data = TrainingData(prepared.cache, prepared.samples, spec.modalities, split.train, spec.scored)

    def on_epoch(event: dict[str, Any]) -> None:
        status.write(
            "running",
            epoch=event["epoch"],
            epochs=event["epochs"],
            dice=_or_none(event["dice"]),
            epoch_seconds=event["seconds"],
        )
        report({"phase": "training", **event})

    state = fit(
        prepared.method,
        data,
        spec.trained,
        seed=spec.seed,
        device=prepared.device,
        folder=folder / "checkpoint",
        on_epoch=on_epoch,
        checkpoint_seconds=context.checkpoint_seconds,
        should_stop=should_stop,
    )
    trained = time.monotonic()
    report({"phase": "testing"})
    rows = prepared.evaluate(split.test, "test", folder / "predictions" if context.predictions else None)
    rows += prepared.evaluate(split.validation, "validation")
    (folder / "error.txt").unlink(missing_ok=True)  # of an earlier attempt
    if context.keep_weights:
        save_weights(prepared.method, folder / "checkpoint" / "model.safetensors")
    _finish(store, spec, context, state, rows, time.monotonic() - trained)
    (folder / "checkpoint" / "training.pt").unlink(missing_ok=True)


def _finish(
    store: Store,
    spec: TrialSpec,
    context: TrialContext,
    state: FitState,
    rows: list[dict[str, Any]],
    seconds_of_testing: float,
) -> None:
    import pandas as pd

    from harness import provenance

    table = pd.DataFrame(rows)
    table.insert(0, "trial", spec.id)
    tested = table[table.role == "test"]
    store.finish_trial(
        spec.id,
        samples=table,
        curves=pd.DataFrame(
            state.curves,
            columns=None if state.curves else ["epoch", "stage", "train_loss", "learning_rate", "seconds"],
        ),
        provenance=provenance.describe(context.device, list(context.command)),
        summary={
            # Earlier attempts included.
            "seconds": round(state.seconds + seconds_of_testing, 3),
            "training_seconds": round(state.seconds, 3),
            "epochs": state.epoch,
            "chosen_epoch": state.best_epoch,
            "images_seen": state.images_seen,
            "micro_batch": state.micro_batch,
            "warnings": _warnings(tested),
            "test_dice": _or_none(tested.groupby(["modality", "domain"]).dice.mean().mean()),
        },
    )


@dataclass(frozen=True)
class PreparedTrial:
    """A trial's untrained method on its device, and the decoded images that it may touch."""

    spec: TrialSpec
    method: nn.Module
    device: torch.device
    cache: ArrayCache
    samples: dict[str, Sample]

    def evaluate(self, keys: Sequence[str], role: str, predictions: Path | None = None) -> list[dict[str, Any]]:
        """As `evaluate_images`, by the trial's own settings."""
        training = self.spec.trained
        return evaluate_images(
            self.method, keys, role, cache=self.cache, samples=self.samples, modalities=self.spec.modalities,
            batch_size=training.batch_size, device=self.device, amp=training.amp, metrics=self.spec.evaluation,
            predictions=predictions,
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
    from harness.methods.adapter import MethodAdapter
    from harness.methods.building import build_method
    from harness.training.seeding import seed_everything

    training, folder = spec.trained, Path(context.cache_folder)
    torch.set_num_threads(training.cpu_threads)
    if context.device.startswith("cuda"):
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    device = torch.device(context.device)
    cache = ArrayCache.open([samples[key] for key in sorted(set(keys))], training.image_size, folder)
    seed_everything(spec.seed, 0)
    method = build_method(spec.method.name, spec.method.model, spec.modalities, prompt=spec.method.prompt).to(device)
    MethodAdapter(method).use_cache(folder / "embeddings")
    return PreparedTrial(spec, method, device, cache, samples)


def evaluate_images(
    method: nn.Module,
    keys: Sequence[str],
    role: str,
    *,
    cache: ArrayCache,
    samples: dict[str, Sample],
    modalities: list[str],
    batch_size: int,
    device: torch.device,
    amp: str,
    metrics: MetricsConfig,
    predictions: Path | None = None,
) -> list[dict[str, Any]]:
    """Predicts the images `keys` and measures each mask.

    Args:
        role: `test` or `validation`, kept in each row.
        predictions: folder for the predicted masks as 1-bit PNG, or None.

    Returns:
        One `measure_image` per image, with guessed_modality where the method guesses it.

    Raises:
        TrialFailed: the method gave logits of a wrong shape or type, or NaN or infinite ones.
    """
    from harness.evaluation.measure import measure_image
    from harness.inference.predict import predict_images, write_mask

    rows = []
    for found in predict_images(
        method, keys, cache=cache, samples=samples, modalities=modalities, batch_size=batch_size, device=device, amp=amp
    ):
        if predictions is not None:
            write_mask(predictions / f"{found.key}.png", found.mask)
        row = measure_image(samples[found.key], found.mask, role, metrics)
        rows.append(row if found.guessed_modality is None else {**row, "guessed_modality": found.guessed_modality})
    return rows


def _checked_split(spec: TrialSpec, dataset: Dataset) -> Split:
    """The spec's split, after the guard: the images are those that the trial was planned on, and none leaks."""
    split, samples = spec.split, dataset.by_key()
    missing = [key for key in (*split.train, *split.validation, *split.test) if key not in samples]
    if missing:
        raise UserError(
            f"{dataset.root} lacks {len(missing)} images of split {split.name}, the first is {missing[0]}."
            " Restore the data, or plan the run again on what is there."
        )
    if split.with_fingerprint(samples).fingerprint != split.fingerprint:
        raise UserError(f"The images in {dataset.root} changed since the trial was planned. Run the command again.")
    check_split(split, samples)
    return split


def _warnings(tested: pd.DataFrame) -> list[str]:
    """What a person should look at before believing the result."""
    if len(tested) and (tested.predicted_pixels == tested.width * tested.height).all():
        return [
            "every pixel of every test image was called foreground. If predict returns probabilities, leave out the"
            " sigmoid: it returns logits, which are cut at 0"
        ]
    return []


def _or_none(value: float) -> float | None:
    """JSON has no NaN."""
    return None if value != value else float(value)


def _keep_traceback(store: Store, trial_id: str) -> None:
    import traceback

    from harness.files import atomic_write_text

    atomic_write_text(store.trial_folder(trial_id) / "error.txt", traceback.format_exc())
