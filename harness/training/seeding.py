"""The same bits again: seeds for every source of random numbers, and a GPU that keeps to an order."""

from __future__ import annotations

import os
import random

import numpy as np
import torch


def make_deterministic(device: torch.device) -> None:
    """Has a GPU add up in the same order each time, where it knows a way to."""
    if device.type != "cuda":
        return
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Only a help to find reads of what was never written, and a launch for every tensor.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def seed_everything(*parts: int) -> None:
    """Seeds Python, NumPy and torch from whole numbers; different parts give unrelated streams."""
    state = np.random.SeedSequence(list(parts)).generate_state(2, np.uint64)
    random.seed(int(state[0]))
    np.random.seed(int(state[0] % 2**32))  # noqa: NPY002 (libraries draw from the global state)
    torch.manual_seed(int(state[1] >> 1))
