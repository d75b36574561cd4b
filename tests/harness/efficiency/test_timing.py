"""Turns, warming up, and which clock is read: a GPU's by stand-ins for its events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from harness.efficiency import timing
from harness.efficiency.timing import by_turns, seconds_of

CPU = torch.device("cpu")


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was timed, in order; each call takes a second, on a clock that stands still."""
    found: list[str] = []

    def timed(run: Callable[[], Any], device: torch.device) -> float:
        found.append(run())
        return 1.0

    monkeypatch.setattr(timing, "seconds_of", timed)
    return found


def test_forms_take_turns(turns: list[str]) -> None:
    """A machine that gets slower meanwhile slows all of them."""
    found = by_turns({"a": lambda: "a", "b": lambda: "b"}, CPU, 60.0, fewest=1, most=20)
    assert turns[:6] == ["a"] * 3 + ["b"] * 3  # warm once three times are alike
    assert turns[6:] == ["a", "b"] * 20
    assert found == {"a": [1.0] * 20, "b": [1.0] * 20}


def test_without_time_each_is_called_once_to_warm_up_and_then_a_few_times(turns: list[str]) -> None:
    by_turns({"a": lambda: "a", "b": lambda: "b"}, CPU, 0.0, fewest=2, most=20)
    assert turns == ["a", "b"] + ["a", "b"] * 2
    turns.clear()
    by_turns({"a": lambda: "a"}, CPU, -1.0, fewest=1, most=20, warm=False)
    assert turns == ["a"]
    assert by_turns({}, CPU, 1.0, fewest=1, most=20) == {}


class Gpu:
    """Does work in order: what is recorded or run is done only once the program waits for it."""

    def __init__(self) -> None:
        self.time, self.waiting = 0.0, list[Callable[[], None]]()

    def wait(self, device: object = None) -> None:
        for work in self.waiting:
            work()
        self.waiting.clear()

    def run(self) -> None:
        self.waiting.append(lambda: setattr(self, "time", self.time + 0.25))


def test_a_gpu_is_timed_by_its_own_events(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu, stream = Gpu(), object()

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing
            self.at: float | None = None

        def record(self, on: object) -> None:
            assert on is stream
            gpu.waiting.append(lambda: setattr(self, "at", gpu.time))

        def synchronize(self) -> None:
            gpu.wait()

        def elapsed_time(self, other: Event) -> float:
            assert self.at is not None and other.at is not None, "read before the GPU had come so far"
            return 1000 * (other.at - self.at)

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", gpu.wait)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    monkeypatch.setattr("time.perf_counter", lambda: pytest.fail("the program's clock was read"))
    gpu.run()  # of an earlier call: no part of the time
    assert seconds_of(gpu.run, torch.device("cuda")) == 0.25
    assert gpu.time == 0.5


def test_a_cpu_is_timed_by_the_program_s_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter((3.0, 5.0))
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    monkeypatch.setattr(torch.cuda, "Event", lambda **_: pytest.fail("there is no GPU"))
    assert seconds_of(lambda: None, CPU) == 2
