"""Tensors that grow while an algorithm learns, kept with the weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from baselines.algorithms.draws import sent


class Memory(nn.Module):
    """A module whose buffers take the sizes that a loaded state gives them."""

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name, buffer in self.named_buffers(recurse=False):
            kept = state_dict.get(prefix + name)
            if kept is not None:
                setattr(self, name, buffer.new_empty(kept.shape))
        super()._load_from_state_dict(state_dict, prefix, *rest)


class DomainMemory(Memory):
    """A row of numbers for each training domain, zeros until it is written.

    Args:
        width: numbers in a row.
    """

    rows: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(0, width))

    def read(self, domains: Sequence[int]) -> Tensor:
        """(len(domains), width) float32, a copy."""
        missing = max(domains) + 1 - len(self.rows)
        if missing > 0:
            self.rows = torch.cat([self.rows, self.rows.new_zeros(missing, self.rows.shape[1])])
        return self.rows.index_select(0, self._index(domains))

    @torch.no_grad()
    def write(self, domains: Sequence[int], values: Tensor) -> None:
        """Puts `values` (len(domains), width) in the place of what `read` gave."""
        self.rows.index_copy_(0, self._index(domains), values.detach().to(self.rows.dtype))

    def _index(self, domains: Sequence[int]) -> Tensor:
        return sent(torch.tensor(list(domains)), self.rows.device)


class Count:
    """A buffer of one whole number, which is read only after something else changed it: to read is to wait."""

    def __init__(self) -> None:
        self._state: tuple[int, int] | None = None
        self._value = 0

    def value(self, buffer: Tensor) -> int:
        if self._state != (buffer.data_ptr(), buffer._version):
            self._note(buffer, int(buffer))
        return self._value

    def add_one(self, buffer: Tensor) -> None:
        value = self.value(buffer)
        buffer += 1
        self._note(buffer, value + 1)

    def _note(self, buffer: Tensor, value: int) -> None:
        self._state, self._value = (buffer.data_ptr(), buffer._version), value
