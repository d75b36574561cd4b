"""Energy by a stand-in for a GPU's counter."""

from __future__ import annotations

import pytest
import torch

from harness.efficiency import energy
from harness.efficiency.energy import energy_counter, energy_per_image


class Gpu:
    """Takes 60 mJ for a batch and 10 mJ a second for being there; a batch takes 0.2 s, once the program waits for it."""

    def __init__(self) -> None:
        self.time, self.batches, self.waiting = 0.0, 0, 0

    def run(self) -> None:
        self.waiting += 1

    def wait(self) -> None:
        self.batches, self.time, self.waiting = self.batches + self.waiting, self.time + 0.2 * self.waiting, 0

    def counter(self) -> int:
        assert self.waiting == 0, "the counter was read while the GPU was still at work"
        return round(60 * self.batches + 10 * self.time)

    def clock(self) -> float:
        return self.time


def test_energy_is_that_of_the_whole_gpu_shared_by_the_images() -> None:
    gpu = Gpu()
    found = energy_per_image(gpu.run, 4, gpu.counter, gpu.wait, gpu.clock)
    assert found == pytest.approx((60 + 0.2 * 10) / 4, rel=0.02)
    assert gpu.time >= energy.SECONDS  # long enough for a counter that moves fifty times a second


def test_a_batch_that_takes_longer_is_run_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "SECONDS", 0.1)
    gpu = Gpu()
    assert energy_per_image(gpu.run, 1, gpu.counter, gpu.wait, gpu.clock) == 62
    assert gpu.batches == 2  # one to warm up


def test_where_nobody_tells_there_is_no_figure() -> None:
    gpu = Gpu()
    assert energy_per_image(gpu.run, 1, None, gpu.wait) is None and gpu.batches == 0
    assert energy_per_image(gpu.run, 1, lambda: None, gpu.wait, gpu.clock) is None
    assert energy_counter(torch.device("cpu")) is None


def test_without_the_driver_s_library_there_is_no_counter(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr("ctypes.CDLL", missing)
    assert energy_counter(torch.device("cuda")) is None
