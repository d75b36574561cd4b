"""The light encoder with fewer blocks: its tests are quick, and show the same wherever depth does not matter."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from torch import Tensor

from delightsam.modeling import tiny_vit

REAL = tiny_vit.DEPTHS
# One stage keeps two blocks, so that code that takes one block for another fails.
SHALLOW = (1, 1, 2, 1)


@contextmanager
def depth(blocks: tuple[int, ...]) -> Iterator[None]:
    """Models of so many blocks in each of the four stages."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny_vit, "DEPTHS", blocks)
        yield


def cut(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of LiteMedSAM's or MobileSAM's weights those that a shallow encoder has."""
    return {name: tensor for name, tensor in state.items() if not _goes(name.split("."))}


def _goes(name: list[str]) -> bool:
    """`image_encoder.layers.2.blocks.5.mlp...`: the sixth block of the third stage."""
    return name[:2] == ["image_encoder", "layers"] and name[3] == "blocks" and int(name[4]) >= SHALLOW[int(name[2])]
