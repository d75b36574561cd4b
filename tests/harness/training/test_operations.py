"""What a training step asks of the device beside the network's own work: little, and no wait."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from invented_samples import invented
from support.operations import Counting
from torch import nn

from baselines.networks.smp import SmpNetwork
from delightsam.training.method import DeLightSAMMethod
from harness.config import TrainingConfig
from harness.data.batches import pixels
from harness.training import steps
from harness.training.fit import TrainingData, fit

CPU = torch.device("cpu")
MODALITIES = ["dermoscopy", "xray"]
CONFIG = TrainingConfig(image_size=32, epochs=3, batch_size=4, augmentation="standard", clip_norm=1.0)


@pytest.fixture
def data() -> TrainingData:
    cache, samples = invented({"dermoscopy": 8, "xray": 8})
    keys = sorted(samples)
    return TrainingData(cache, samples, MODALITIES, keys[:6] + keys[8:14], keys[6:8] + keys[14:])


def train_counting(
    method: nn.Module, data: TrainingData, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> list[Counting]:
    """Trains, and counts the operations of each epoch's steps (without validation)."""
    epochs: list[Counting] = []
    train_epoch = steps.train_epoch

    def counted(*arguments: Any) -> float:
        with Counting() as counting:
            loss = train_epoch(*arguments)
        epochs.append(counting)
        return loss

    monkeypatch.setattr("harness.training.fit.train_epoch", counted)
    fit(method, data, CONFIG, seed=0, device=CPU, folder=folder)
    return epochs


def networks() -> Iterator[Any]:
    yield pytest.param(lambda: SmpNetwork(MODALITIES, "unet", "tu-test_resnet"), id="unet")
    yield pytest.param(lambda: DeLightSAMMethod(MODALITIES), id="delightsam")


@pytest.mark.parametrize("build", networks())
@pytest.mark.usefixtures("shallow")
def test_an_epoch_waits_once(build: Any, data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For all its losses together. A loss that is read in every step shows here as three waits."""
    for epoch in train_counting(build(), data, tmp_path, monkeypatch)[1:]:
        assert sum(epoch.waits.values()) == 0, epoch.waits


def test_a_loss_that_is_read_is_seen(data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    method, loss = SmpNetwork(MODALITIES, "unet", "tu-test_resnet"), SmpNetwork.training_loss

    def reads(self: Any, batch: Any, step: Any) -> Any:
        found = loss(self, batch, step)
        float(found[0])
        return found

    monkeypatch.setattr(SmpNetwork, "training_loss", reads)
    assert sum(train_counting(method, data, tmp_path, monkeypatch)[1].waits.values()) == 3


class Straight(nn.Module):
    """A network of a few operations that are easy to count: forward and backward take `own` of them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 1, 1)

    def predict(self, images: torch.Tensor, modality: torch.Tensor) -> torch.Tensor:
        return self.conv(images)

    def training_loss(self, batch: Any, step: Any) -> Any:
        return (self.conv(batch.images) - batch.masks).mean(), {}


def test_few_operations_beside_the_network(data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batch, augmentation, clipping, optimiser, loss: 60 at most for a step."""
    method = Straight()
    batch = torch.rand(4, 3, 32, 32)
    with Counting() as own:
        (method.conv(batch) - 0.5).mean().backward()
    epoch = train_counting(method, data, tmp_path, monkeypatch)[1]
    assert epoch.count / 3 - own.count <= 60, dict(epoch.names)


def test_an_epoch_copies_its_numbers_once(data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copies: list[tuple[int, ...]] = []
    sent = pixels.sent

    def counted(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
        copies.append(tuple(tensor.shape))
        return sent(tensor, device)

    monkeypatch.setattr("harness.data.batches.loader.sent", counted)
    fit(Straight(), data, CONFIG, seed=0, device=CPU, folder=tmp_path)
    # Of three epochs, and of the validation images after each of them.
    assert copies == [(3, 12), (3, 4)] * 3
