"""Networks without random weights, for tests that fill them or count them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from torch import Tensor, nn

_DRAWN = (
    "kaiming_normal_", "kaiming_uniform_", "normal_", "orthogonal_", "trunc_normal_", "uniform_", "xavier_normal_",
    "xavier_uniform_",
)  # fmt: skip


@contextmanager
def nothing_drawn() -> Iterator[None]:
    """Weights stay what the memory held: to draw millions of numbers takes longer than all else of a network."""

    def leave(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return tensor

    with pytest.MonkeyPatch.context() as patch:
        for name in _DRAWN:
            patch.setattr(nn.init, name, leave)
        yield
