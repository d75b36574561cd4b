"""Which passes are recorded and what a replay gives; that a real graph gives the same bits is tested on a GPU (test_on_gpu)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from harness.data.batches.loader import Batch, Known
from harness.training import recording
from harness.training.recording import RecordedPasses


class Graph:
    """Stands for a CUDA graph: replays what ran while it was open, on the same tensors."""

    open: Graph | None = None
    runs: Any = None

    def replay(self) -> None:
        self.runs()


@pytest.fixture(autouse=True)
def graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def recorded(graph: Graph, pool: object) -> Iterator[None]:
        Graph.open = graph
        yield
        Graph.open = None

    for name, stand_in in (("CUDAGraph", Graph), ("graph", recorded), ("graph_pool_handle", object)):
        monkeypatch.setattr(torch.cuda, name, stand_in)


class Passes:
    """A loss of one weight; counts the passes that were launched operation by operation."""

    def __init__(self) -> None:
        self.weight = torch.nn.Parameter(torch.tensor(2.0))
        self.recorded = RecordedPasses({"weight": self.weight})
        self.launched = 0

    def run(self, batch: Batch) -> torch.Tensor:
        if Graph.open is None:
            self.launched += 1
            return self.pass_of(batch, torch.zeros(()), torch.zeros(()))
        loss, gradient = torch.zeros(()), torch.zeros(())
        Graph.open.runs = lambda: self.pass_of(batch, loss, gradient)
        self.weight.grad = gradient
        return loss

    def pass_of(self, batch: Batch, loss: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        loss.copy_(batch.images.sum() * self.weight.detach())
        self.weight.grad = gradient.copy_(batch.images.sum())
        return loss

    def __call__(self, batch: Batch, key: object = ()) -> tuple[float, float]:
        self.weight.grad = None
        loss = self.recorded(batch, key, self.run)  # type: ignore[arg-type]
        if loss is None:
            loss = self.run(batch)
        assert self.weight.grad is not None
        return float(loss), float(self.weight.grad)


def batch(value: float, images: int = 2) -> Batch:
    numbers = torch.zeros(images, dtype=torch.int64)
    pixels = torch.full((images, 3, 4, 4), value)
    return Batch(pixels, pixels[:, :1], numbers, numbers, ["k"] * images, Known(numbers, [0] * images))


def test_from_the_third_batch_of_a_kind_on_it_is_replayed_with_the_batchs_own_values() -> None:
    passes = Passes()
    for value in (1.0, 2.0, 3.0, 4.0, 5.0):
        assert passes(batch(value)) == (192 * value, 96 * value)
    assert passes.launched == 2


def test_other_shapes_and_keys_are_recorded_apart() -> None:
    passes = Passes()
    for number in range(4):
        for images, key in ((2, "a"), (2, "b"), (3, "a")):
            assert passes(batch(number, images), key) == (2 * 48 * images * number, 48 * images * number)
    assert passes.launched == 6


def test_a_replayed_loss_is_not_overwritten_by_the_next() -> None:
    passes = Passes()
    for value in (1.0, 1.0, 1.0):
        passes(batch(value))
    first = passes.recorded(batch(5.0), (), passes.run)
    passes.recorded(batch(7.0), (), passes.run)
    assert first is not None and float(first) == 192 * 5


def test_what_can_not_be_recorded_runs_on_by_itself(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    @contextmanager
    def refused(graph: object, pool: object) -> Iterator[None]:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")
        yield

    monkeypatch.setattr(torch.cuda, "graph", refused)
    passes = Passes()
    for value in (1.0, 2.0, 3.0, 4.0):
        assert passes(batch(value)) == (192 * value, 96 * value)
    assert passes.launched == 4
    assert caplog.text.count("can't be recorded (operation not permitted when stream is capturing)") == 1


def test_at_most_so_many_kinds_are_recorded() -> None:
    passes = Passes()
    for key in range(recording._KINDS + 2):
        for _ in range(3):
            passes(batch(1.0), key)
    assert passes.launched == 2 * recording._KINDS + 2 * 3
