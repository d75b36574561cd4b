"""Counts what PyTorch is asked to do. Waits and copies are counted in support.device."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


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
