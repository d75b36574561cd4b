"""Counts what PyTorch is asked to do: operations, and waits for the device."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

WAITS = ("aten._local_scalar_dense", "aten.item", "aten.is_nonzero", "aten.nonzero", "aten.equal")
"""Operations that make a program wait for a GPU. Copies between devices do, too: see `Operations.copies`."""


class Counting(TorchDispatchMode):
    """Counts the operations inside a `with` block, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function.namespace != "profiler":  # a mark in a trace
            self.names[str(function)] += 1
        return function(*args, **(kwargs or {}))

    @property
    def count(self) -> int:
        return self.names.total()

    @property
    def waits(self) -> dict[str, int]:
        return {name: count for name, count in self.names.items() if name.startswith(WAITS)}


@dataclass
class Counted:
    result: Any
    names: Counter[str]

    @property
    def count(self) -> int:
        return self.names.total()


def operations(run: Callable[[], Any]) -> Counted:
    """What `run` gives under inference, and the operations that it took."""
    with torch.inference_mode(), Counting() as counting:
        result = run()
    return Counted(result, counting.names)
