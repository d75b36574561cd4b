"""Tensors that grow while an algorithm learns, kept with the weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


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
        return self.rows[list(domains)]

    @torch.no_grad()
    def write(self, domains: Sequence[int], values: Tensor) -> None:
        """Puts `values` (len(domains), width) in the place of what `read` gave."""
        self.rows[list(domains)] = values.detach().to(self.rows.dtype)
