"""A start is read once for all tests of a process: each gets a copy."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch
from support.copies import copies_of

from baselines.sam.prompt_free import adaptation
from baselines.sam.prompt_free.start import Start, read_start


@cache
def _read(family: str, weights: str) -> Callable[[], Start]:
    with torch.random.fork_rng():  # whether it was read before changes no random number
        return copies_of(read_start(family, weights))


@pytest.fixture(autouse=True)
def quick_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adaptation, "read_start", lambda family, weights: _read(family, weights)())
