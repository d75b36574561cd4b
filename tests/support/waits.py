"""Short trainings, in which each epoch's steps are watched (without validation)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from invented_samples import invented
from torch import nn

from harness.config import TrainingConfig
from harness.training import steps
from harness.training.fit import TrainingData, fit
from support.device import StandInDevice

CPU = torch.device("cpu")
MODALITIES = ["dermoscopy", "xray"]
CONFIG = TrainingConfig(image_size=32, epochs=3, batch_size=4, augmentation="standard", clip_norm=1.0)
READ_ONCE = Counter({"Tensor.tolist": 1})
"""Of an epoch: its losses are read together, after the last step."""


def training_data() -> TrainingData:
    """Twelve images to train on, in three batches, and four to validate; three domains of each of two modalities."""
    cache, samples = invented({"dermoscopy": 8, "xray": 8})
    keys = sorted(samples)
    return TrainingData(cache, samples, MODALITIES, keys[:6] + keys[8:14], keys[6:8] + keys[14:])


def train_on_a_stand_in(method: nn.Module, folder: Path, config: TrainingConfig = CONFIG) -> list[StandInDevice]:
    """Trains; what the steps of each epoch waited for and copied."""
    return train_inside(StandInDevice, method, folder, config)


def train_inside(context: Any, method: nn.Module, folder: Path, config: TrainingConfig = CONFIG) -> list[Any]:
    """Trains, each epoch's steps inside a context of their own; these contexts."""
    epochs: list[Any] = []
    train_epoch = steps.train_epoch

    def counted(*arguments: Any) -> float:
        with context() as counting:
            loss = train_epoch(*arguments)
        epochs.append(counting)
        return loss

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.training.fit.train_epoch", counted)
        fit(method, training_data(), config, seed=0, device=CPU, folder=folder)
    return epochs
