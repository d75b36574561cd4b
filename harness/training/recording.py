"""Recorded passes: forward and backward of a batch as one CUDA graph, where a method says that this is right.

A network of hundreds of small kernels is bound by the program that launches them. A recording launches all of them at once; they
are the same kernels in the same order, with the same random numbers, so the bits are the same, too.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from harness.data.batches.loader import Batch, Known
from harness.hardware import is_out_of_memory

_BEFORE = 2
"""Passes of a kind that run by themselves before it is recorded: libraries choose and load their kernels."""
_KINDS = 8
"""At most so many kinds of batches are recorded: each keeps gradients of its own."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Recording:
    graph: torch.cuda.CUDAGraph
    batch: Batch
    loss: Tensor
    gradients: Mapping[str, Tensor]


class RecordedPasses:
    """The passes of a stage that are recorded, by the kind of their batch.

    Args:
        parameters: those that train.
    """

    def __init__(self, parameters: Mapping[str, torch.nn.Parameter]) -> None:
        self._parameters = parameters
        self._seen: dict[Hashable, int] = {}
        self._recorded: dict[Hashable, _Recording] = {}
        # All share it: what one leaves there is used up before the next one runs.
        self._memory = torch.cuda.graph_pool_handle()
        self._works = True

    def __call__(self, batch: Batch, key: Hashable, run: Callable[[Batch], Tensor]) -> Tensor | None:
        """The loss of a batch, left on the device; the parameters' gradients, None before, are then this batch's.

        Args:
            key: batches of one key and shape are of one kind: `run` does the same operations for all of them.
            run: a batch -> its loss, with the gradients added to the parameters'.

        Returns:
            None where there is no recording: nothing was done.
        """
        kind = (batch.images.shape, key)
        if kind not in self._recorded:
            self._seen[kind] = self._seen.get(kind, 0) + 1
            if self._works and self._seen[kind] > _BEFORE and len(self._recorded) < _KINDS:
                self._record(batch, kind, run)
        found = self._recorded.get(kind)
        if found is None:
            return None
        given = _tensors(batch)
        for name, kept in _tensors(found.batch).items():
            kept.copy_(given[name])
        found.graph.replay()
        for name, gradient in found.gradients.items():
            self._parameters[name].grad = gradient
        return found.loss.clone()

    def _record(self, batch: Batch, kind: Hashable, run: Callable[[Batch], Tensor]) -> None:
        """Notes the kernels of a pass; none of them runs yet."""
        kept = replace(batch, **{name: tensor.clone() for name, tensor in _tensors(batch).items()}, known_images=None)  # type: ignore[arg-type]
        kept.known_modality = Known(kept.modality, batch.modality_list)
        graph = torch.cuda.CUDAGraph()
        torch.cuda.empty_cache()  # a recording takes memory of its own
        try:
            with torch.cuda.graph(graph, pool=self._memory):
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
        self._recorded[kind] = _Recording(graph, kept, loss, gradients)


def _tensors(batch: Batch) -> dict[str, Tensor]:
    names = ("images", "masks", "modality", "domain", "prepared")
    return {name: tensor for name in names if (tensor := getattr(batch, name)) is not None}
