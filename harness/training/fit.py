"""The fit loop, one for every method.

Every epoch starts from a seed made of (trial seed, epoch), and the state after an epoch is kept on the disk, so a trial
that is killed goes on from its last checkpoint and ends with the same bits as one that was not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from harness.config import TrainingConfig
from harness.data.batches.array_cache import ArrayCache
from harness.data.batches.augmentation import Augmentation
from harness.data.batches.loader import Batch, EpochLoader, evaluation_batches
from harness.data.batches.pixels import Pixels
from harness.data.dataset import Sample
from harness.errors import TrialFailed, UserError
from harness.hardware import memory_kept
from harness.methods.adapter import MethodAdapter
from harness.methods.contract import Stage
from harness.training.callbacks import Callback
from harness.training.checkpoint import CheckpointFile, FitState
from harness.training.epoch_result import EpochResult
from harness.training.optimizers import make_optimizer, make_schedule
from harness.training.recording import RecordedPasses
from harness.training.seeding import seed_everything
from harness.training.selection import RULES, SelectionRule, load_selected_weights, select_weights
from harness.training.stages import epochs_per_stage, freeze_all_but
from harness.training.steps import StageBatches, Trainer, train_epoch
from harness.training.validation import macro_dice


@dataclass(frozen=True)
class TrainingData:
    """What the loop may touch. `score` are the keys the selection rule looks at: validation's, but for `oracle`."""

    cache: ArrayCache
    samples: dict[str, Sample]
    modalities: list[str]
    train: Sequence[str]
    score: Sequence[str]


def fit(
    method: torch.nn.Module,
    data: TrainingData,
    config: TrainingConfig,
    *,
    seed: int,
    device: torch.device,
    folder: Path,
    callbacks: Sequence[Callback] = (),
) -> FitState:
    """Trains `method` in place and leaves in it the weights that the selection rule chose.

    Args:
        folder: a checkpoint found there is gone on from.
        callbacks: called after each epoch, in their order: see `usual_callbacks`.

    Returns:
        The final state: learning curves, the chosen epoch, images seen, the micro-batch that fitted in memory.

    Raises:
        TrialFailed: the loss is NaN or infinite, not even one image fits in memory, or weights came or went.
        TrialInterrupted: a callback was asked to stop.
        UserError: the selection rule or `patience` needs images to look at, and there are none.
    """
    adapter, started = MethodAdapter(method), time.monotonic()
    stages, rule = adapter.stages(), RULES[config.selection]
    epochs = epochs_per_stage(stages, config.epochs)
    if any(epochs):
        _check_scored(data, config, rule)
    pixels = Pixels(data.cache, {*data.train, *data.score}, device)
    augmentation, loader = Augmentation(config.augmentation), _loader(pixels, data, config, seed)
    scaler = torch.amp.GradScaler(device.type, enabled=config.amp == "float16")
    # What the method froze when it was built stays frozen in every stage.
    learnable = frozenset(name for name, value in method.named_parameters() if value.requires_grad)
    names = frozenset(method.state_dict())
    state, saved = CheckpointFile.in_folder(folder).load(method) or (FitState(micro_batch=config.batch_size), None)
    while state.stage < len(stages):
        stage = stages[state.stage]
        if not stage.gradient:
            _observe(adapter, pixels, data, config, state)
            _check_names(method, names)
        else:
            batches = StageBatches(loader, augmentation, stage.views)
            trainer = _start_stage(adapter, stage, epochs[state.stage], config, learnable, batches, scaler, device)
            if saved is not None:
                _restore(trainer, saved)
            if state.epoch_in_stage == 0:
                # A new stage is judged by itself: its start may be worse than the end of the one before.
                state.best_score, state.epochs_without_gain = None, 0
            while state.epoch_in_stage < trainer.epochs and not _out_of_patience(state, config):
                last = state.stage == len(stages) - 1
                epoch = _run_epoch(trainer, pixels, data, rule, state, sum(epochs), last, seed)
                _check_names(method, names)
                for callback in callbacks:
                    callback.after_epoch(state, trainer, epoch)
            load_selected_weights(state, method)
        saved = None
        state.stage, state.epoch_in_stage = state.stage + 1, 0
    method.requires_grad_(False)
    method.eval()
    state.seconds += time.monotonic() - started
    return state


def _run_epoch(
    trainer: Trainer,
    pixels: Pixels,
    data: TrainingData,
    rule: SelectionRule,
    state: FitState,
    epochs: int,
    in_last_stage: bool,
    seed: int,
) -> EpochResult:
    """Trains an epoch, scores it and notes whether it is the chosen one; `epochs` is the number planned in all."""
    began = time.monotonic()
    seed_everything(seed, 1, state.epoch)
    scored = trainer.stage.scored
    with memory_kept(trainer.device.type):
        loss = train_epoch(trainer, state)
        score = _score(trainer.method, pixels, data, trainer.config) if scored else float("nan")
    # Before the selection, which SWAD relies on: it puts its averaged weights in place.
    trainer.method.after_epoch(score)
    state.epoch, state.epoch_in_stage = state.epoch + 1, state.epoch_in_stage + 1
    select_weights(state, trainer.method.module, rule, score, scored)
    epoch = EpochResult(
        epoch=state.epoch,
        epochs=epochs,
        stage=trainer.stage.name,
        train_loss=loss,
        dice=score,
        scored_on=rule.scored_on,
        learning_rate=trainer.learning_rate,
        seconds=round(time.monotonic() - began, 3),
        is_last=in_last_stage and state.epoch_in_stage == trainer.epochs,
    )
    state.curves.append(epoch.curve_row())
    return epoch


def _check_names(method: torch.nn.Module, names: frozenset[str]) -> None:
    """A weight that came while training is not trained, and a method that is built anew can't load it."""
    changed = sorted(names.symmetric_difference(method.state_dict()))
    if changed:
        came = "came while it trained" if changed[0] not in names else "is gone since it was built"
        raise TrialFailed(
            f"'{changed[0]}' in the state of {type(method).__name__} {came}. Expected all weights and buffers to be made in"
            " __init__, and none to be removed."
        )


def _check_scored(data: TrainingData, config: TrainingConfig, rule: SelectionRule) -> None:
    if not data.score and (rule.name != "last" or config.patience is not None):
        raise UserError(
            f"training.selection={config.selection} with training.patience={config.patience} looks at {rule.scored_on}"
            " images, and the split has none. Add images, or use training.selection=last training.patience=null."
        )


def _loader(pixels: Pixels, data: TrainingData, config: TrainingConfig, seed: int) -> EpochLoader:
    return EpochLoader(
        pixels,
        data.train,
        data.modalities,
        data.samples,
        batch_size=config.batch_size,
        sampling=config.sampling,
        batching=config.batching,
        seed=seed,
    )


def _start_stage(
    adapter: MethodAdapter,
    stage: Stage,
    epochs: int,
    config: TrainingConfig,
    learnable: frozenset[str],
    batches: StageBatches,
    scaler: torch.amp.GradScaler,
    device: torch.device,
) -> Trainer:
    """Freezes what the stage does not train; a new optimiser and schedule for the rest."""
    parameters = freeze_all_but(adapter.module, stage.trainable, learnable)
    optimizer = make_optimizer(parameters, config, stage.learning_rate)
    schedule = make_schedule(optimizer, config, epochs, math.ceil(len(batches) / config.accumulation))
    # Gradients of a recorded pass are not added to others', and a loss scale of float16 changes with the steps.
    recordable = device.type == "cuda" and config.accumulation == 1 and not scaler.is_enabled()
    passes = RecordedPasses(parameters) if config.compile == "on" and recordable else None
    return Trainer(adapter, stage, epochs, parameters, optimizer, schedule, scaler, config, device, batches, passes)


def _restore(trainer: Trainer, saved: dict[str, Any]) -> None:
    trainer.optimizer.load_state_dict(saved["optimizer"])
    trainer.schedule.load_state_dict(saved["schedule"])
    trainer.scaler.load_state_dict(saved["scaler"])


def _observe(
    adapter: MethodAdapter, pixels: Pixels, data: TrainingData, config: TrainingConfig, state: FitState
) -> None:
    """One pass over the training images as they are; nothing is random, so an interrupted pass just starts again."""
    adapter.module.eval()
    with torch.no_grad():
        for batch in _batches(pixels, data, data.train, config):
            adapter.observe(batch)
    state.images_seen += len(data.train)


def _score(adapter: MethodAdapter, pixels: Pixels, data: TrainingData, config: TrainingConfig) -> float:
    return macro_dice(adapter, _batches(pixels, data, data.score, config), config.amp)


def _batches(pixels: Pixels, data: TrainingData, keys: Sequence[str], config: TrainingConfig) -> Iterator[Batch]:
    """Of images as they are, in their order; of tiles those that cover the image."""
    return evaluation_batches(pixels, keys, data.modalities, data.samples, config.batch_size, covering=True)


def _out_of_patience(state: FitState, config: TrainingConfig) -> bool:
    return config.patience is not None and state.epochs_without_gain >= config.patience
