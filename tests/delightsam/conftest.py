"""Weights without weights files: tensors filled from their names, and the authors' recorded outputs.

`authors_forward.npz` and `authors_keys.txt` were recorded by running the authors' public code (xq141839/De-LightSAM,
commit d2260d7, Apache-2.0) in float32 on a CPU: its state dict's keys and shapes, and its outputs for the weights and
the input that `filled_like_authors` and `authors_input` make again here.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from support.copies import copies_of
from support.depth import REAL, depth
from support.numbers import nothing_drawn
from torch import Tensor

from delightsam import DeLightSAM, from_authors
from delightsam.modeling import tiny_vit

HERE = Path(__file__).parent


@cache
def filled_tensor(name: str, shape: tuple[int, ...], wide: tuple[str, ...] = ("gaussian", "query")) -> Tensor:
    """Normal values seeded by the name, scaled by the fan-in except where the name holds a word of `wide`.

    Drawn once for all models that have it: not to be changed in place.
    """
    if not shape:
        return torch.zeros((), dtype=torch.int64)
    random = np.random.default_rng(zlib.crc32(name.encode()))
    values = random.standard_normal(shape).astype(np.float32)
    if len(shape) >= 2:
        if not any(word in name for word in wide):
            values = values / np.float32(np.sqrt(np.prod(shape[1:])))
    elif name.endswith(("weight", "running_var")):
        values = 1 + np.float32(0.1) * np.abs(values)
    else:
        values = np.float32(0.1) * values
    return torch.from_numpy(values.astype(np.float32))


@pytest.fixture(scope="session")
def fill() -> Callable[..., Tensor]:
    """`filled_tensor` for tests, which can't import this file."""
    return filled_tensor


def authors_shapes() -> dict[str, tuple[int, ...]]:
    lines = (HERE / "authors_keys.txt").read_text("utf-8").splitlines()
    names = (line.split(" ") for line in lines)
    return {name: tuple(map(int, shape.split("x"))) if shape else () for name, shape in names}


@pytest.fixture(scope="session")
def authors_state() -> dict[str, Tensor]:
    """The authors' state dict of one modality, filled by the recipe of the recording. Not to be changed in place."""
    state = {name: filled_tensor(name, shape) for name, shape in authors_shapes().items()}
    state["patch_decoder.3.bias"] = torch.full((1,), -0.5)
    return state


@pytest.fixture(scope="session")
def authors_outputs() -> dict[str, Tensor]:
    with np.load(HERE / "authors_forward.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


@pytest.fixture(scope="session")
def authors_model(authors_state: dict[str, Tensor]) -> DeLightSAM:
    """Six modalities, all with the same controller, as the recording has it."""
    return from_authors(dict.fromkeys(range(6), authors_state))


@pytest.fixture
def whole() -> Iterator[None]:
    """Models of their real depth, for a test in a file of shallow ones."""
    with depth(REAL):
        yield


@lru_cache(maxsize=6)
def _built(depths: tuple[int, ...], fields: tuple[tuple[str, object], ...]) -> Callable[[], DeLightSAM]:
    with nothing_drawn():
        model = DeLightSAM(**{"modalities": (0, 2, 5), **dict(fields)})
    wide = ("decoder.queries", "decoder.frequencies")
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    model.load_state_dict({name: filled_tensor(name, shape, wide) for name, shape in shapes.items()})
    return copies_of(model.eval())


@pytest.fixture
def build() -> Callable[..., DeLightSAM]:
    """Builds a model in eval mode whose every tensor is filled from its name, so that each controller differs.

    It knows the modalities 0, 2 and 5 by default. Each is a copy of one that is filled once.
    """
    return lambda **fields: _built(tiny_vit.DEPTHS, tuple(sorted(fields.items())))()


@pytest.fixture
def images() -> Callable[[int, int], Tensor]:
    """Normal noise (batch, 3, size, size) from a fixed seed, as normalised images."""

    def make(batch: int, size: int) -> Tensor:
        return torch.randn((batch, 3, size, size), generator=torch.Generator().manual_seed(size))

    return make
