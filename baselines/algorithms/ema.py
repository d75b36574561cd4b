"""EMA: tested with an exponential moving average of the weights.

Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging", SIAM J. Control Optim. 30(4), 1992; in the
form that Tarvainen and Valpola, "Mean teachers are better role models", NeurIPS 2017, arXiv 1703.01780, made usual.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from baselines.algorithms.averaging import averaged_tensors, move_towards
from baselines.algorithms.base import Algorithm
from baselines.algorithms.memory import Count
from baselines.algorithms.settings import check_range


class EMA(Algorithm):
    """Training is the method's own; whatever is predicted in evaluation mode comes from the averaged weights.

    So epochs are compared by the average, too. After step n (from 1) it keeps min(decay, n / (n + 9)) of itself, the
    warm-up of TensorFlow's ExponentialMovingAverage (which counts from 0): short trainings forget their start as well.
    The first step replaces the initial weights. Batch norm's running statistics are averaged alike; all other buffers
    are copied.

    Args:
        decay: 0.999, the usual one; 0: the newest weights, that is the method alone.

    Raises:
        ValueError: `decay` is not in 0..1.
    """

    steps: Tensor

    def __init__(self, modalities: Sequence[str], method: Callable[..., nn.Module], decay: float = 0.999) -> None:
        super().__init__(modalities, method)
        check_range("EMA", "decay", decay, 0, 1)
        self.decay = decay
        self.average = copy.deepcopy(self.method).requires_grad_(False)
        self.register_buffer("steps", torch.tensor(0))
        self._count = Count()

    def predict(self, images: Tensor, modality: Tensor) -> Tensor:
        logits: Tensor = self._tested().predict(images, modality)  # type: ignore[operator]
        return logits

    def deployed_parameters(self) -> Iterable[nn.Parameter]:
        """Those of the average: one copy."""
        if hasattr(self.average, "deployed_parameters"):
            deployed: Iterable[nn.Parameter] = self.average.deployed_parameters()  # type: ignore[operator]
            return deployed
        return self.average.parameters()

    @torch.no_grad()
    def after_step(self, step: Any) -> None:
        super().after_step(step)
        count = self._count.value(self.steps)
        self._count.add_one(self.steps)
        # Copied first; what is averaged is put right afterwards.
        averaged, current = averaged_tensors(self.average), averaged_tensors(self.method)
        theirs = dict(self.method.named_buffers())
        for name, buffer in self.average.named_buffers():
            if name not in averaged:
                buffer.copy_(theirs[name])
        kept = min(self.decay, count / (count + 9)) if count else 0.0
        move_towards([averaged[name] for name in current], list(current.values()), 1 - kept)

    def observe(self, batch: Any) -> None:
        for module in (self.method, self.average):
            module.observe(batch)  # type: ignore[operator]

    def _tested(self) -> nn.Module:
        return self.method if self.training else self.average

    def __getattr__(self, name: str) -> Any:
        if name in ("predict_oracle", "guess_modality"):
            return getattr(self._tested(), name)
        return super().__getattr__(name)
