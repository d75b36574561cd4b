"""Recorded passes: forward and backward of a batch as one CUDA graph, where a method says that this is right.

A network of hundreds of small kernels is bound by the program that launches them. A recording launches all of them at once; they
are the same kernels in the same order, with the same random numbers, so the bits are the same, too.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from harness.data.batches.loader import Batch
from harness.hardware import is_out_of_memory

_BEFORE = 2
"""Passes of a shape that run by themselves before it is recorded: libraries choose and load their kernels."""
_SHAPES = 4
"""At most so many shapes are recorded: each keeps its own gradients. An epoch has one or two."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Recording:
    graph: torch.cuda.CUDAGraph
    batch: Batch
    loss: Tensor
    gradients: Mapping[str, Tensor]


class RecordedPasses:
    """The passes of a stage that are recorded, by the shape of their batch.

    Args:
        parameters: those that train.
    """

    def __init__(self, parameters: Mapping[str, torch.nn.Parameter]) -> None:
        self._parameters = parameters
        self._seen: dict[torch.Size, int] = {}
        self._recorded: dict[torch.Size, _Recording] = {}
        self._works = True

    def __call__(self, batch: Batch, run: Callable[[Batch], Tensor]) -> Tensor | None:
        """The loss of a batch, left on the device; the parameters' gradients, None before, are then this batch's.

        Args:
            run: a batch -> its loss, with the gradients added to the parameters'. What it does may depend on the values of the
                batch's tensors, and on nothing else of the batch.

        Returns:
            None where there is no recording: nothing was done.
        """
        shape = batch.images.shape
        if shape not in self._recorded:
            self._seen[shape] = self._seen.get(shape, 0) + 1
            if self._works and self._seen[shape] > _BEFORE and len(self._recorded) < _SHAPES:
                self._record(batch, run)
        found = self._recorded.get(shape)
        if found is None:
            return None
        for kept, given in zip(_tensors(found.batch), _tensors(batch), strict=True):
            kept.copy_(given)
        found.graph.replay()
        for name, gradient in found.gradients.items():
            self._parameters[name].grad = gradient
        return found.loss.clone()

    def _record(self, batch: Batch, run: Callable[[Batch], Tensor]) -> None:
        """Notes the kernels of a pass; none of them runs yet."""
        kept = replace(
            batch,
            **dict(zip(_TENSORS, (tensor.clone() for tensor in _tensors(batch)), strict=True)),
            keys=[""] * len(batch),
            known_modality=None,
            known_images=None,
        )
        graph = torch.cuda.CUDAGraph()
        torch.cuda.empty_cache()  # a recording takes memory of its own
        try:
            with torch.cuda.graph(graph):
                loss = run(kept)
        except RuntimeError as error:
            self._works = False
            for parameter in self._parameters.values():
                parameter.grad = None
            reason = "there is too little memory" if is_out_of_memory(error) else str(error).splitlines()[0]
            log.warning(
                "Training steps can't be recorded (%s): they run one operation at a time, which is slower.", reason
            )
            return
        gradients = {name: p.grad for name, p in self._parameters.items() if p.grad is not None}
        self._recorded[batch.images.shape] = _Recording(graph, kept, loss, gradients)


_TENSORS = ("images", "masks", "modality", "domain")


def _tensors(batch: Batch) -> list[Tensor]:
    return [getattr(batch, name) for name in _TENSORS]
