"""Runs the real commands in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from .forked import finished

# The smallest real run: two modalities, a light encoder, a few images of 64 px.
SMALL = (
    "data.modalities=[dermoscopy,xray]",
    "data.phantoms.images_per_domain=4",
    "data.phantoms.image_size=64",
    "training.image_size=64",
    "training.epochs=3",
    "training.amp=off",
    "method=[unet,mean_mask]",
    "methods.unet.model.encoder_name=mobilenet_v2",
    "+methods.unet.model.decoder_channels=[16,16,8,8,8]",
    "store.checkpoint_seconds=0",
    "store.keep_weights=false",
    "efficiency_seconds=0.1",
    "efficiency_image_size=32",
)

Bench = Callable[..., subprocess.CompletedProcess[str]]


PLAIN = {"OMP_NUM_THREADS": "1", "COLUMNS": "160", "NO_COLOR": "1"}


def environment() -> dict[str, str]:
    return {**os.environ, **PLAIN}


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "harness", *words]


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all processes that run the tests."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def shared_cache(shared_folder: Path) -> Path:
    """Phantoms and decoded arrays are the same for all runs of this session: drawn once."""
    return shared_folder / "cache"


@pytest.fixture
def bench(tmp_path: Path, shared_cache: Path) -> Bench:
    """`bench("run", ...)` in an empty folder; `run` and `plan` get the shared cache."""

    def call(*words: str, timeout: float = 240) -> subprocess.CompletedProcess[str]:
        extra = [f"data.cache={shared_cache}"] if words and words[0] in ("run", "plan") else []
        return finished([*words, *extra], tmp_path, timeout, **PLAIN)

    return call
