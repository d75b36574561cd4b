"""The fit loop, one for every method.

Every epoch starts from a seed made of (trial seed, epoch), and the state after an epoch is kept on the disk, so a trial
that is killed goes on from its last checkpoint and ends with the same bits as one that was not.
"""

from __future__ import annotations

import copy
import gc
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.config import TrainingConfig
from harness.data.batches.array_cache import ArrayCache
from harness.data.batches.augmentation import Augmentation
from harness.data.batches.loader import Batch, EpochLoader, evaluation_batches
from harness.data.dataset import Sample
from harness.errors import TrialFailed, TrialInterrupted, UserError
from harness.files import atomic_write_bytes
from harness.hardware import autocast, is_out_of_memory
from harness.methods.adapter import MethodAdapter
from harness.methods.contract import Stage, Step
from harness.training.checkpoint import FitState
from harness.training.optimizers import make_optimizer, make_schedule
from harness.training.seeding import seed_everything
from harness.training.selection import RULES
from harness.training.stages import epochs_per_stage, freeze_all_but, train_mode
from harness.training.steps import _gradients, _restore_gradients
from harness.training.validation import macro_dice

log = logging.getLogger(__name__)


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
    on_epoch: Callable[[dict[str, Any]], None] = lambda event: None,
    checkpoint_seconds: float = 0.0,
    should_stop: Callable[[], bool] = lambda: False,
) -> FitState:
    """Trains `method` in place and leaves in it the weights that the selection rule chose.

    Args:
        folder: where the checkpoint of an unfinished fit lives; one found there is gone on from.
        checkpoint_seconds: epochs shorter than this share a checkpoint, where writing it would cost more than a kill loses.
        should_stop: asked after each epoch; True: the state is kept and the fit ends with TrialInterrupted.
        on_epoch: called after each epoch with {stage, epoch, epochs, train_loss, validation_dice, ...}.

    Returns:
        The final state: learning curves, the chosen epoch, images seen, the micro-batch that fitted in memory.

    Raises:
        TrialFailed: the loss is NaN or infinite, or not even one image fits in memory.
        TrialInterrupted: `should_stop` said so.
        UserError: the selection rule or `patience` needs images to look at, and there are none.
    """
    return _Fit(method, data, config, seed, device, folder, on_epoch, checkpoint_seconds, should_stop).run()


class _Fit:
    def __init__(
        self,
        method: torch.nn.Module,
        data: TrainingData,
        config: TrainingConfig,
        seed: int,
        device: torch.device,
        folder: Path,
        on_epoch: Callable[[dict[str, Any]], None],
        checkpoint_seconds: float,
        should_stop: Callable[[], bool],
    ) -> None:
        self.method, self.data, self.config, self.seed, self.device = method, data, config, seed, device
        self.on_epoch, self.checkpoint_seconds, self.should_stop = on_epoch, checkpoint_seconds, should_stop
        self.path = folder / "training.pt"
        self.adapter = MethodAdapter(method)
        self.stages = self.adapter.stages()
        # What the method froze when it was built stays frozen in every stage.
        self.learnable = frozenset(name for name, value in method.named_parameters() if value.requires_grad)
        self.epochs = epochs_per_stage(self.stages, config.epochs)
        self.rule = RULES[config.selection]
        if any(self.epochs) and not data.score and (self.rule.name != "last" or config.patience is not None):
            raise UserError(
                f"training.selection={config.selection} with training.patience={config.patience} looks at {self.rule.scored_on}"
                " images, and the split has none. Add images, or use training.selection=last training.patience=null."
            )
        self.augmentation = Augmentation(config.augmentation)
        self.loader = EpochLoader(
            data.cache,
            data.train,
            data.modalities,
            data.samples,
            batch_size=config.batch_size,
            sampling=config.sampling,
            batching=config.batching,
            seed=seed,
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.amp == "float16")
        self.state = FitState(micro_batch=config.batch_size)
        self.started = self.last_checkpoint = time.monotonic()

    def run(self) -> FitState:
        saved = self._load_checkpoint()
        while self.state.stage < len(self.stages):
            stage = self.stages[self.state.stage]
            if stage.gradient:
                self._run_stage(stage, self.epochs[self.state.stage], saved)
                self._choose()
            else:
                self._observe(stage)
            saved = None
            self.state.stage, self.state.epoch_in_stage = self.state.stage + 1, 0
        self.method.requires_grad_(False)
        self.method.eval()
        self.state.seconds += time.monotonic() - self.started
        return self.state

    def _choose(self) -> None:
        """Ends a stage with its chosen weights: the next stage starts from them."""
        if self.state.best_weights is not None:
            self.method.load_state_dict(self.state.best_weights)
            self.state.best_weights = None

    def _observe(self, stage: Stage) -> None:
        """One pass over the training images as they are; nothing is random, so an interrupted pass just starts again."""
        self.method.eval()
        with torch.no_grad():
            for batch in self._batches(self.data.train):
                self.adapter.observe(batch.to(self.device))
                self.state.images_seen += len(batch)

    def _run_stage(self, stage: Stage, epochs: int, saved: dict[str, Any] | None) -> None:
        parameters = freeze_all_but(self.method, stage.trainable, self.learnable)
        steps_per_epoch = math.ceil(len(self.loader) / self.config.accumulation)
        optimizer = make_optimizer(parameters, self.config, stage.learning_rate)
        schedule = make_schedule(optimizer, self.config, epochs, steps_per_epoch)
        if saved is not None:
            optimizer.load_state_dict(saved["optimizer"])
            schedule.load_state_dict(saved["schedule"])
            self.scaler.load_state_dict(saved["scaler"])
        if self.state.epoch_in_stage == 0:
            # A new stage is judged by itself: its start may be worse than the end of the one before.
            self.state.best_score, self.state.epochs_without_gain = None, 0
        while self.state.epoch_in_stage < epochs and not self._out_of_patience():
            started = time.monotonic()
            seed_everything(self.seed, 1, self.state.epoch)
            loss = self._train_epoch(stage, optimizer, schedule, epochs * steps_per_epoch, parameters)
            score = self._score() if stage.scored else float("nan")
            self.adapter.after_epoch(score)
            self.state.epoch += 1
            self.state.epoch_in_stage += 1
            self._select(score, stage.scored)
            rate = max(group["lr"] for group in optimizer.param_groups)
            event = self._note_epoch(stage, loss, score, rate, time.monotonic() - started)
            ended = self.state.epoch_in_stage == epochs and self.state.stage == len(self.stages) - 1
            stop = not ended and self.should_stop()
            if not ended and (stop or time.monotonic() - self.last_checkpoint >= self.checkpoint_seconds):
                self._save_checkpoint(optimizer, schedule)
            # Last: who hears of the epoch may end the fit here, and a later one goes on from what was kept.
            self.on_epoch(event)
            if stop:
                raise TrialInterrupted(f"asked to stop after epoch {self.state.epoch} of {sum(self.epochs)}")

    def _train_epoch(
        self,
        stage: Stage,
        optimizer: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
        total_steps: int,
        parameters: Mapping[str, torch.nn.Parameter],
    ) -> float:
        train_mode(self.method)
        losses, accumulation, batches = [], self.config.accumulation, len(self.loader)
        step_index = self.state.epoch_in_stage * math.ceil(batches / accumulation)
        optimizer.zero_grad(set_to_none=True)
        for number, batch in enumerate(self.loader.epoch(self.state.epoch)):
            batch = self._augmented(batch, stage)
            step = Step(step_index + number // accumulation, total_steps, self.state.epoch, stage.name)
            # The last group of an epoch may hold fewer batches.
            group = min(accumulation, batches - number // accumulation * accumulation)
            losses.append(self._backward_within_memory(batch, step, 1.0 / group))
            self.state.images_seen += len(batch)
            if (number + 1) % accumulation == 0 or number + 1 == batches:
                self.scaler.unscale_(optimizer)
                if self.config.clip_norm is not None:
                    torch.nn.utils.clip_grad_norm_(parameters.values(), self.config.clip_norm)
                self.scaler.step(optimizer)
                self.scaler.update()
                optimizer.zero_grad(set_to_none=True)
                schedule.step()
                self.adapter.after_step(step)
        return float(np.mean(losses))

    def _augmented(self, batch: Batch, stage: Stage) -> Batch:
        """The batch on its device, augmented as the stage's `views` say."""
        if stage.views is None:
            return self.augmentation(batch.to(self.device))
        if stage.views > 0:
            # On the CPU: a GPU draws other random numbers.
            batch = self.augmentation.version(batch, self.state.epoch_in_stage % stage.views)
        return batch.to(self.device)

    def _backward_within_memory(self, batch: Batch, step: Step, weight: float) -> float:
        """Forward and backward of a batch, in micro-batches that are halved until they fit.

        Gradients of earlier batches of the same accumulation group are put back before a second try.
        """
        kept = _gradients(self.method) if self.config.accumulation > 1 else None
        while True:
            try:
                return self._backward(batch, step, weight)
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                if self.state.micro_batch == 1:
                    raise TrialFailed(
                        f"Out of memory with a single image of {batch.images.shape[-1]} px: use a smaller training.image_size."
                    ) from error
            # Outside the except block, where the traceback no longer holds the tensors.
            self.state.micro_batch = max(1, min(self.state.micro_batch, len(batch)) // 2)
            _restore_gradients(self.method, kept)
            gc.collect()
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _backward(self, batch: Batch, step: Step, weight: float) -> float:
        total = 0.0
        for part in batch.chunks(self.state.micro_batch):
            with autocast(self.device, self.config.amp):
                loss = self.adapter.loss(part, step)
            value = float(loss.detach())
            if not math.isfinite(value):
                raise TrialFailed(
                    f"The training loss became {value} in epoch {step.epoch + 1}, step {step.index + 1} (stage {step.stage})."
                    " Try a smaller training.learning_rate, training.clip_norm=1, or training.amp=off."
                )
            share = len(part) / len(batch)
            self.scaler.scale(loss * (share * weight)).backward()
            total += value * share
        return total

    def _score(self) -> float:
        batches = self._batches(self.data.score)
        return macro_dice(self.adapter, (batch.to(self.device) for batch in batches), self.config.amp)

    def _batches(self, keys: Sequence[str]) -> Iterator[Batch]:
        """Of images as they are, in their order."""
        data = self.data
        return evaluation_batches(data.cache, keys, data.modalities, data.samples, self.config.batch_size)

    def _select(self, score: float, scored: bool) -> None:
        if not scored:
            self.state.best_epoch = self.state.epoch
            return
        gained = self.state.best_score is None or score > self.state.best_score
        self.state.epochs_without_gain = 0 if gained else self.state.epochs_without_gain + 1
        if gained:
            self.state.best_score = score
        if not self.rule.keeps_best:
            self.state.best_epoch = self.state.epoch
        elif gained:
            self.state.best_weights = copy.deepcopy(self.method.state_dict())
            self.state.best_epoch = self.state.epoch

    def _out_of_patience(self) -> bool:
        return self.config.patience is not None and self.state.epochs_without_gain >= self.config.patience

    def _note_epoch(
        self, stage: Stage, loss: float, score: float, learning_rate: float, seconds: float
    ) -> dict[str, Any]:
        row = {
            "epoch": self.state.epoch,
            "stage": stage.name,
            "train_loss": loss,
            f"{self.rule.scored_on}_dice": score,
            "learning_rate": learning_rate,
            "seconds": round(seconds, 3),
        }
        self.state.curves.append(row)
        return {**row, "dice": score, "epochs": sum(self.epochs)}

    def _save_checkpoint(
        self, optimizer: torch.optim.Optimizer, schedule: torch.optim.lr_scheduler.LRScheduler
    ) -> None:
        state = copy.copy(self.state)
        state.seconds += time.monotonic() - self.started
        content = {
            "state": vars(state),
            "method": self.method.state_dict(),
            "optimizer": optimizer.state_dict(),
            "schedule": schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
        }
        # Through memory: torch reports a full disk as a RuntimeError that does not say so.
        buffer = BytesIO()
        torch.save(content, buffer)
        atomic_write_bytes(self.path, buffer.getvalue())
        self.last_checkpoint = time.monotonic()

    def _load_checkpoint(self) -> dict[str, Any] | None:
        if not self.path.exists():
            return None
        # Our own file, written atomically: a fault in what it holds is a fault of the disk, and training anew the remedy.
        try:
            saved = torch.load(self.path, map_location="cpu", weights_only=True)
        except (OSError, MemoryError):
            raise
        except Exception as error:
            log.warning("The checkpoint %s can't be read (%s): training starts anew.", self.path, error)
            self.path.unlink()
            return None
        self.method.load_state_dict(saved["method"])
        self.state = FitState(**saved["state"])
        return dict(saved)
