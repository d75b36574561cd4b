"""Data in memory and short fits, for tests of the fit loop."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.config import TrainingConfig
from harness.data.batches.array_cache import ArrayCache
from harness.data.folder.sample import Sample
from harness.training.callbacks import usual_callbacks
from harness.training.checkpoint import FitState
from harness.training.epoch_result import EpochResult
from harness.training.fit import TrainingData, fit
from harness.training.seeding import seed_everything

SIZE = 32
CPU = torch.device("cpu")
CONFIG = TrainingConfig(
    image_size=SIZE, epochs=4, batch_size=4, augmentation="flips", learning_rate=0.02, selection="last"
)
ONE_STEP = replace(
    CONFIG, epochs=1, batch_size=8, augmentation="none", optimizer="sgd", schedule="constant", weight_decay=0.0,
    clip_norm=None,
)  # fmt: skip


def make_data(train: int = 8, validation: int = 4, test: int = 4, scored_on: str = "validation") -> TrainingData:
    """Dark discs on light ground in memory: domains a and b are trained and validated on, c is the unseen one."""
    random = np.random.default_rng(0)
    keys = [f"xray/{'ab'[i % 2]}/{i}" for i in range(train + validation)] + [f"xray/c/{i}" for i in range(test)]
    y, x = np.mgrid[:SIZE, :SIZE]
    centres = random.uniform(10, 22, (len(keys), 2, 1, 1))
    masks = (y - centres[:, 0]) ** 2 + (x - centres[:, 1]) ** 2 < 60
    images = np.where(masks, 60, 190)[..., None] + random.normal(0, 10, (*masks.shape, 3))
    cache = ArrayCache(
        images.clip(0, 255).astype(np.uint8), masks.astype(np.uint8), {key: i for i, key in enumerate(keys)}, Path()
    )
    samples = {
        key: Sample(*key.split("/"), Path(), Path(), SIZE, SIZE, 0.2, key, key)  # type: ignore[misc]
        for key in keys
    }
    roles = {
        "train": keys[:train],
        "validation": keys[train : train + validation],
        "test": keys[train + validation :],
    }
    return TrainingData(cache, samples, ["xray"], roles["train"], roles[scored_on])


def make(kind: type[nn.Module], seed: int = 0, **options: Any) -> nn.Module:
    seed_everything(seed, 0)
    return kind(["xray"], **options)


def run(
    method: nn.Module,
    config: TrainingConfig = CONFIG,
    data: TrainingData | None = None,
    *,
    seed: int = 0,
    folder: Path | None = None,
    on_epoch: Callable[[EpochResult], None] = lambda epoch: None,
) -> FitState:
    return fit(
        method, data or make_data(), config, seed=seed, device=CPU, folder=folder or Path("/nonexistent"),
        callbacks=usual_callbacks(
            folder or Path("/nonexistent"), report=on_epoch, checkpoint_seconds=0 if folder else math.inf
        ),
    )  # fmt: skip


def curves(state: FitState) -> list[dict[str, Any]]:
    """Without the clock."""
    return [{key: value for key, value in row.items() if key != "seconds"} for row in state.curves]


def same_bits(one: nn.Module | dict[str, Tensor], other: nn.Module | dict[str, Tensor]) -> bool:
    a, b = (m.state_dict() if isinstance(m, nn.Module) else m for m in (one, other))
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def copy_of(method: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in method.state_dict().items()}


def distance(one: dict[str, Tensor], other: nn.Module) -> float:
    return math.sqrt(sum(float((one[k] - p.detach()).square().sum()) for k, p in other.named_parameters()))
