"""Which calls are recorded, replayed and forgotten; that a real graph gives the same values is tested on a GPU (test_accelerated)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import pytest
import torch
from torch import Tensor

from delightsam.inference import graphs
from delightsam.inference.graphs import GraphedFunction
from delightsam.inference.stacks import Chosen


class Graph:
    """Stands for a CUDA graph: replays the call that was made while it was open, on the same tensors."""

    open: Graph | None = None
    call: Callable[[], None]

    def __init__(self) -> None:
        self.memory = object()

    def pool(self) -> object:
        return self.memory

    def replay(self) -> None:
        self.call()


class Stream:
    def __init__(self, device: torch.device) -> None:
        self.device = device

    def wait_stream(self, other: Stream) -> None:
        assert self.device == other.device


pools: list[object] = []


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def recorded(graph: Graph, pool: object) -> Iterator[None]:
        pools.append(pool)
        Graph.open = graph
        yield
        Graph.open = None

    pools.clear()
    for name, stand_in in (
        ("CUDAGraph", Graph), ("graph", recorded), ("Stream", Stream), ("current_stream", Stream),
        ("stream", lambda stream: nullcontext()),
    ):  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, stand_in)


class Function:
    """Twice the images, plus the modality's number, plus 100 for added ones; counts the calls that no graph replays."""

    def __init__(self) -> None:
        self.called = 0

    def __call__(self, images: Tensor, chosen: Chosen, added: bool) -> Tensor:
        self.called += 1
        if Graph.open is not None:
            result = torch.zeros_like(images)
            Graph.open.call = lambda: self.compute(images, chosen, added, result)
            return result
        return self.compute(images, chosen, added, torch.zeros_like(images))

    @staticmethod
    def compute(images: Tensor, chosen: Chosen, added: bool, result: Tensor) -> Tensor:
        number = chosen.view(-1, 1, 1, 1) if isinstance(chosen, Tensor) else chosen
        return result.copy_(images * 2 + number + 100 * added)


RECORDING = graphs._WARM_UPS + 1
"""Calls of the function that a new kind of call takes."""


def images(value: float, count: int = 2) -> Tensor:
    return torch.full((count, 3, 4, 4), value)


def values(result: Tensor) -> list[float]:
    return result[:, 0, 0, 0].tolist()


@pytest.fixture
def function() -> Function:
    return Function()


@pytest.fixture
def graphed(function: Function) -> GraphedFunction:
    return GraphedFunction(function)


def test_a_call_is_recorded_once_and_replayed_with_its_own_images(function: Function, graphed: GraphedFunction) -> None:
    for value in (1.0, 2.0, 3.0):
        assert values(graphed(images(value), 5, False)) == [2 * value + 5] * 2
    assert function.called == RECORDING


def test_modalities_of_a_mixed_batch_are_copied_into_the_graph(function: Function, graphed: GraphedFunction) -> None:
    for numbers in ([0, 5], [5, 0], [3, 3]):
        chosen = torch.tensor(numbers)
        assert values(graphed(images(1.0), chosen, False)) == [2.0 + number for number in numbers]
        assert chosen.tolist() == numbers
    assert function.called == RECORDING


def test_what_changes_the_operations_is_recorded_apart(function: Function, graphed: GraphedFunction) -> None:
    """One modality each, a mixture, added ones, another size, another type; each with its own values afterwards."""
    kinds: list[tuple[Tensor, Chosen, bool]] = [
        (images(1.0), 0, False), (images(1.0), 1, False), (images(1.0), torch.tensor([0, 1]), False),
        (images(1.0), 0, True), (images(1.0, 3), 0, False), (images(1.0).double(), 0, False),
    ]  # fmt: skip
    for _ in range(2):
        for kind in kinds:
            assert torch.equal(graphed(*kind), Function.compute(*kind, torch.zeros_like(kind[0])))
            assert graphed(*kind).dtype == kind[0].dtype
    assert function.called == len(kinds) * RECORDING


def test_a_result_is_not_overwritten_by_the_next_call_nor_are_the_images(graphed: GraphedFunction) -> None:
    given = images(1.0)
    first = graphed(given, 0, False)
    graphed(images(7.0), 0, False)
    assert values(first) == [2.0, 2.0] and values(given) == [1.0, 1.0]


def test_the_least_recently_used_graph_goes(function: Function, graphed: GraphedFunction) -> None:
    for number in range(graphs._KEPT):
        graphed(images(1.0), number, False)
    graphed(images(1.0), 0, False)  # now number 1 was not used for longest
    graphed(images(1.0), graphs._KEPT, False)
    assert function.called == (graphs._KEPT + 1) * RECORDING
    for number in (0, *range(2, graphs._KEPT + 1)):
        assert values(graphed(images(3.0), number, False)) == [6.0 + number] * 2
    assert function.called == (graphs._KEPT + 1) * RECORDING, "one that was still used is gone"
    assert values(graphed(images(3.0), 1, False)) == [7.0, 7.0]
    assert function.called == (graphs._KEPT + 2) * RECORDING


def test_the_graphs_share_the_memory_of_the_first(graphed: GraphedFunction) -> None:
    for number in range(3):
        graphed(images(1.0), number, False)
    first, *others = pools
    assert first is None and others[0] is not None and others == [others[0]] * 2
