"""Times of calls: by the device's own clock on a GPU, by turns, warm until stable."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

import torch

WARM_UPS = 10
_STABLE = 1.05
"""Warm is what took three times in a row within this factor."""

Run = Callable[[], Any]
Name = TypeVar("Name", bound=Hashable)


def seconds_of(run: Run, device: torch.device) -> float:
    """Seconds of one call. On a GPU its own events say when the work began and ended there."""
    if device.type == "cuda":
        return _seconds_on_gpu(run, device)
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def _seconds_on_gpu(run: Run, device: torch.device) -> float:
    stream = torch.cuda.current_stream(device)
    begun, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    wait(device)  # else the work of an earlier call would be between them
    begun.record(stream)
    run()
    ended.record(stream)
    ended.synchronize()
    return float(begun.elapsed_time(ended)) / 1000


def wait(device: torch.device) -> None:
    """Until a GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def by_turns(
    runs: Mapping[Name, Run], device: torch.device, budget_seconds: float, *, fewest: int, most: int, warm: bool = True
) -> dict[Name, list[float]]:
    """Seconds of each call, one after the other in turns: what disturbs the machine disturbs all of them.

    Args:
        budget_seconds: a fifth at most goes to warming up.
        fewest: turns, however long they take.
        most: turns.
        warm: calls each at least once before; False: each was called already, and that is enough.
    """
    started = time.perf_counter()

    def spent() -> float:
        return time.perf_counter() - started

    for number, run in enumerate(runs.values() if warm else (), start=1):
        seconds = [seconds_of(run, device)]
        while spent() <= budget_seconds / 5 * number / len(runs) and not _is_warm(seconds):
            seconds.append(seconds_of(run, device))
    times: dict[Name, list[float]] = {name: [] for name in runs}
    turns = 0
    while runs and turns < most and (turns < fewest or spent() < budget_seconds):
        for name, run in runs.items():
            times[name].append(seconds_of(run, device))
        turns += 1
    return times


def _is_warm(seconds: list[float]) -> bool:
    last = seconds[-3:]
    return len(seconds) >= WARM_UPS or (len(last) == 3 and max(last) <= _STABLE * min(last))
