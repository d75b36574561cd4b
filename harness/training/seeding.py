"""Seeds every source of random numbers that training draws from."""

from __future__ import annotations

import random

import numpy as np
import torch


def seed_everything(*parts: int) -> None:
    """Seeds Python, NumPy and torch from whole numbers; different parts give unrelated streams."""
    state = np.random.SeedSequence(list(parts)).generate_state(2, np.uint64)
    random.seed(int(state[0]))
    np.random.seed(int(state[0] % 2**32))  # noqa: NPY002 (libraries draw from the global state)
    torch.manual_seed(int(state[1] >> 1))
