"""SWAD: the mean of all weights along the valley of the validation loss.

Cha et al., "SWAD: Domain Generalization by Seeking Flat Minima", NeurIPS 2021, arXiv 2102.08604.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from baselines.algorithms.averaging import averaged_tensors, flat, move_towards, views
from baselines.algorithms.base import Algorithm
from baselines.algorithms.memory import Count, Memory
from baselines.algorithms.settings import check_range


class SWAD(Algorithm):
    """Weights of every step are averaged, from where the validation loss stops falling to where it rises for good.

    Algorithm 1 of the paper. The loss is 1 - Dice on validation images of the training domains, once an epoch (the paper:
    the loss itself, every 50 to 500 steps). Averaging starts with the first of `start_patience` epochs of which it is the
    best; it ends before the first of `end_patience` epochs that all have a loss above `tolerance` times the mean of those
    first ones. When a stage of training is over the method's weights become the average, so it belongs with
    `training.selection=last` and without `patience`: epochs before that are judged, and learn, as without SWAD. With no
    start found by then the average is that of the last epoch (as in the official code). Batch norm's running statistics
    are averaged like weights; the paper froze batch norm. While it trains, and in its checkpoints, it keeps up to
    `end_patience` + 2 copies of the weights.

    Args:
        start_patience: the paper's N_s = 3, in epochs.
        end_patience: the paper's N_e = 6, in epochs.
        tolerance: the paper's r = 1.3.

    Raises:
        ValueError: a setting below 1.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        method: Callable[..., nn.Module],
        start_patience: int = 3,
        end_patience: int = 6,
        tolerance: float = 1.3,
    ) -> None:
        super().__init__(modalities, method)
        check_range("SWAD", "start_patience", start_patience, 1)
        check_range("SWAD", "end_patience", end_patience, 1)
        check_range("SWAD", "tolerance", tolerance, 1)
        self.start_patience, self.end_patience, self.tolerance = start_patience, end_patience, tolerance
        self.valley = _Valley()
        self._stage_is_over = False

    def after_step(self, step: Any) -> None:
        super().after_step(step)
        if step.index == 0:
            self.valley.clear()
        self.valley.add_step(list(averaged_tensors(self.method).values()))
        self._stage_is_over = step.index + 1 == step.total

    @torch.no_grad()
    def after_epoch(self, score: float) -> None:
        super().after_epoch(score)
        self.valley.end_epoch(1 - score, self.start_patience, self.end_patience, self.tolerance)
        if self._stage_is_over:
            tensors = list(averaged_tensors(self.method).values())
            for tensor, mean in zip(tensors, views(self.valley.result(), tensors), strict=True):
                tensor.copy_(mean)
            self.valley.clear()
        self.valley.read_count()


class _Valley(Memory):
    """The averages that may still be needed: of the valley so far, of the last epochs, of the steps since."""

    losses: Tensor  # (E,) float64 of the epochs that are neither part of the average nor out
    epochs: Tensor  # (E, P) float32: the mean weights of each of them
    steps: Tensor  # (1, P) float32: the mean weights of the steps since the last epoch's end, or (0, P)
    mean: Tensor  # (1, P) float32: the mean of the valley so far, or (0, P)
    counts: Tensor  # int64: steps in `steps`, epochs in `mean`
    threshold: (
        Tensor  # float64: the loss up to which an epoch is in the valley; infinite: the valley was not reached yet
    )
    ended: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("epochs", "steps", "mean"):
            self.register_buffer(name, torch.zeros(0, 0))
        self.register_buffer("losses", torch.zeros(0, dtype=torch.float64))
        self.register_buffer("counts", torch.zeros(2, dtype=torch.int64))
        self.register_buffer("threshold", torch.tensor(math.inf, dtype=torch.float64))
        self.register_buffer("ended", torch.tensor(False))
        self._taken = Count()  # of `counts[0]`

    def clear(self) -> None:
        for name in ("epochs", "steps", "mean"):
            setattr(self, name, getattr(self, name).new_zeros(0, 0))
        self.losses = self.losses[:0]
        self.counts.zero_()
        self.threshold.fill_(math.inf)
        self.ended.fill_(False)

    def read_count(self) -> None:
        """Between epochs: the steps of the next one then need not wait for it."""
        self._taken.value(self.counts[0])

    def add_step(self, tensors: list[Tensor]) -> None:
        taken = self._taken.value(self.counts[0])
        if taken == 0:
            self.steps = flat(tensors)[None]
        else:
            move_towards(views(self.steps[0], tensors), tensors, 1 / (taken + 1))
        self._taken.add_one(self.counts[0])

    def end_epoch(self, loss: float, start_patience: int, end_patience: int, tolerance: float) -> None:
        steps, self.steps = self.steps, self.steps[:0]
        self.counts[0] = 0
        if self.ended:
            return
        self.epochs = torch.cat([self.epochs.view(-1, steps.shape[1]), steps])
        self.losses = torch.cat([self.losses, self.losses.new_tensor([loss])])
        if self.threshold.isinf():
            self._keep_last(start_patience)
            if len(self.losses) == start_patience and (self.losses >= self.losses[0]).all():
                self.threshold.copy_(tolerance * self.losses.mean())
        while not self.threshold.isinf() and len(self.losses) >= end_patience and not self.ended:
            if (self.losses > self.threshold).all():
                self.ended.fill_(True)
                self._keep_last(0)
            else:
                self._average_first()

    def result(self) -> Tensor:
        """(P,) float32: the mean weights of the valley if training ends now."""
        if self.threshold.isinf():
            return self.epochs[-1]
        # The last epochs count up to the last one that is still in the valley.
        while len(self.losses) and (self.losses <= self.threshold).any():
            self._average_first()
        return self.mean[0]

    def _keep_last(self, count: int) -> None:
        first = max(0, len(self.losses) - count)
        self.losses, self.epochs = self.losses[first:], self.epochs[first:]

    def _average_first(self) -> None:
        self.counts[1] += 1
        if self.counts[1] == 1:
            self.mean = self.epochs[:1].clone()
        else:
            self.mean.lerp_(self.epochs[:1], 1 / int(self.counts[1]))
        self._keep_last(len(self.losses) - 1)
