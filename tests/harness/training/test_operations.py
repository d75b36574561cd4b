"""What a training step asks of the device beside the network's own work: little, and no wait."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.device import StandInDevice
from support.operations import Counting
from support.waits import CPU, MODALITIES, READ_ONCE, train_inside, train_on_a_stand_in, training_data
from torch import nn

from baselines.networks.smp import SmpNetwork
from delightsam.training.method import DeLightSAMMethod
from harness.data.batches.array_cache import ArrayCache
from harness.data.batches.corrupted import CorruptedPixels
from harness.data.batches.loader import evaluation_batches
from harness.data.batches.pixels import Pixels


def networks() -> Iterator[Any]:
    yield pytest.param(lambda: SmpNetwork(MODALITIES, "unet", "tu-test_resnet"), id="unet")
    yield pytest.param(lambda: DeLightSAMMethod(MODALITIES), id="delightsam")


@pytest.mark.parametrize("build", networks())
@pytest.mark.usefixtures("shallow")
def test_an_epoch_waits_once(build: Any, tmp_path: Path) -> None:
    """For all its losses together. Constants are made in the first."""
    for epoch in train_on_a_stand_in(build(), tmp_path)[1:]:
        assert epoch.waits == READ_ONCE, epoch.places


READS: dict[str, Callable[[torch.Tensor], object]] = {
    "float": lambda loss: float(loss.detach()),
    "int": lambda loss: int(loss.detach()),
    "bool": lambda loss: 1 if loss > 0 else 2,
    "item": torch.Tensor.item,
    "tolist": torch.Tensor.tolist,
    "cpu": lambda loss: loss.detach().cpu(),
    "to": lambda loss: loss.detach().to("cpu"),
    "numpy": lambda loss: loss.detach().numpy(),
    "__array__": lambda loss: np.asarray(loss.detach()),
    "format": lambda loss: f"{loss:.3f}",
    "nonzero": torch.nonzero,
    "a mask": lambda loss: loss[None][loss[None] > 0],
    "an index": lambda loss: [3, 4][loss.detach().clamp(0, 1).long()],
    "a list": lambda loss: loss[None][[0]],
    "torch.tensor": lambda loss: torch.tensor([1.0], device=loss.device),
    "to a device": lambda loss: torch.rand(3).to(loss.device),
    "to a tensor's": lambda loss: torch.rand(3).to(loss.detach()),
    "copy_": lambda loss: torch.empty_like(loss).copy_(torch.rand(())),
}


@pytest.mark.parametrize("read", READS)
def test_a_wait_in_a_step_is_seen(read: str, tmp_path: Path) -> None:
    """Each once in each of three steps; the epoch's own comes on top."""

    class Waits(Straight):
        def training_loss(self, batch: Any, step: Any) -> Any:
            loss, parts = super().training_loss(batch, step)
            READS[read](loss)
            return loss, parts

    for epoch in train_on_a_stand_in(Waits(), tmp_path)[1:]:
        assert (epoch.waits - READ_ONCE).total() == 3, epoch.waits


def test_what_lies_on_the_host_is_read_without_a_wait(tmp_path: Path) -> None:
    class Draws(Straight):
        def training_loss(self, batch: Any, step: Any) -> Any:
            drawn = torch.rand(4)
            if drawn[0] * 2 > 3 or drawn.view(2, 2).sum(1).tolist()[0] > 3:
                raise AssertionError
            return super().training_loss(batch, step)

    for epoch in train_on_a_stand_in(Draws(), tmp_path)[1:]:
        assert epoch.waits == READ_ONCE


class Straight(nn.Module):
    """A network of a few operations that are easy to count: forward and backward take `own` of them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 1, 1)

    def predict(self, images: torch.Tensor, modality: torch.Tensor) -> torch.Tensor:
        return self.conv(images)

    def training_loss(self, batch: Any, step: Any) -> Any:
        return (self.conv(batch.images) - batch.masks).mean(), {}


def test_few_operations_beside_the_network(tmp_path: Path) -> None:
    """Batch, augmentation, clipping, optimiser, loss: 60 at most for a step."""
    method = Straight()
    batch = torch.rand(4, 3, 32, 32)
    with Counting() as own:
        (method.conv(batch) - 0.5).mean().backward()
    epoch = train_inside(Counting, method, tmp_path)[1]
    assert epoch.count / 3 - own.count <= 60, dict(epoch.names)


NUMBERS, IMAGES, MASKS = (3, 12), (4, 32, 32, 3), (4, 32, 32)


def test_an_epoch_copies_its_numbers_once_and_each_batch(tmp_path: Path) -> None:
    for epoch in train_on_a_stand_in(Straight(), tmp_path)[1:]:
        assert epoch.copies == [NUMBERS, *[IMAGES, MASKS] * 3]


def test_images_that_lie_on_the_device_are_not_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Resident(Pixels):
        """As on a GPU with room for them."""

        def __init__(self, cache: ArrayCache, keys: Iterable[str], device: torch.device | str = "cpu") -> None:
            super().__init__(cache, keys, device)
            self._resident = torch.from_numpy(cache.images.copy()), torch.from_numpy(cache.masks.copy())

    monkeypatch.setattr("harness.training.fit.Pixels", Resident)
    for epoch in train_on_a_stand_in(Straight(), tmp_path)[1:]:
        assert epoch.copies == [NUMBERS] and epoch.waits == READ_ONCE


def test_validation_and_corrupted_images_are_copied_without_a_wait() -> None:
    data = training_data()
    keys = sorted(data.samples)[:6]
    corrupted = CorruptedPixels(data.cache, CPU, "noise", 3, 0)
    for source in (None, corrupted):
        with StandInDevice() as device:
            pixels = Pixels(data.cache, keys, CPU)
            assert len([*evaluation_batches(pixels, keys, MODALITIES, data.samples, 4, source)]) == 2
        assert device.copies == [(3, 6), IMAGES, MASKS, (2, 32, 32, 3), (2, 32, 32)]
        assert not device.waits
