"""CUDA graphs: a function's launches, recorded once for one shape and sent again as one."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from delightsam.inference.stacks import Chosen

_KEPT = 8
_WARM_UPS = 3
Function = Callable[[Tensor, Chosen, bool], Tensor]


@dataclass(frozen=True)
class _Recorded:
    graph: torch.cuda.CUDAGraph
    images: Tensor
    chosen: Chosen
    result: Tensor


class GraphedFunction:
    """A function of images and modalities on a GPU: same values, one launch for a call of a shape it has met.

    The graphs share their memory; the least recently used one goes when there are more than a few.
    """

    def __init__(self, function: Function) -> None:
        self._function = function
        self._recorded: OrderedDict[tuple[object, ...], _Recorded] = OrderedDict()
        self._pool: Any = None

    def __call__(self, images: Tensor, chosen: Chosen, added: bool) -> Tensor:
        key = (images.shape, images.dtype, chosen if isinstance(chosen, int) else None, added)
        if key not in self._recorded:
            self._recorded[key] = self._record(images, chosen, added)
            if len(self._recorded) > _KEPT:
                self._recorded.popitem(last=False)
        self._recorded.move_to_end(key)
        recorded = self._recorded[key]
        recorded.images.copy_(images)
        if isinstance(recorded.chosen, Tensor) and isinstance(chosen, Tensor):
            recorded.chosen.copy_(chosen)
        recorded.graph.replay()
        return recorded.result.clone()

    def _record(self, images: Tensor, chosen: Chosen, added: bool) -> _Recorded:
        images = images.clone(memory_format=torch.channels_last)
        chosen = chosen.clone() if isinstance(chosen, Tensor) else chosen
        # What is made at a first call (index tables, library handles) must be there before the recording.
        stream = torch.cuda.Stream(images.device)
        stream.wait_stream(torch.cuda.current_stream(images.device))
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UPS):
                self._function(images, chosen, added)
        torch.cuda.current_stream(images.device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            result = self._function(images, chosen, added)
        self._pool = self._pool or graph.pool()
        return _Recorded(graph, images, chosen, result)
