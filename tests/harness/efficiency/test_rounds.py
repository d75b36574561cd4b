"""Two rounds of one method: pooled times, how far they differ, and throughput by batch and form."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.efficiency import rounds
from harness.efficiency.measure import Measurement, measure


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that only methods let pass, on a machine that knows float32 alone."""
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    monkeypatch.setattr(rounds, "number_formats", lambda device: ["float32"])
    return now


class Timed(nn.Module):
    """Takes `start` seconds for a batch and `each` for an image of it; its other form `factor` times as long."""

    def __init__(self, clock: list[float], start: float, each: float, factor: float | None = 0.5) -> None:
        super().__init__()
        self.clock, self.start, self.each, self.factor = clock, start, each, factor
        if factor is not None:
            self.accelerated = self._accelerated

    def predict(self, images: Tensor, modality: Tensor) -> Tensor:
        self.clock[0] += self.start + self.each * len(images)
        return images[:, :1]

    def _accelerated(self, image_size: int, batch_size: int, dtype: torch.dtype) -> nn.Module:
        assert self.factor is not None
        return Timed(self.clock, self.factor * self.start, self.factor * self.each, None)


def test_the_times_of_both_rounds_are_pooled_and_their_difference_is_kept(clock: list[float]) -> None:
    method, measurement = Timed(clock, 0.0, 0.010), Measurement(32, budget_seconds=10, max_batch=1)
    measurement.add_round(method)
    first = measurement.row()
    assert (first["rounds"], first["latency_iterations"], first["latency_drift"]) == (1, 20, None)
    assert first["latency_ms_p50"] == pytest.approx(10)
    method.each = 0.013  # the machine got slower
    measurement.add_round(method)
    row = measurement.row()
    assert (row["rounds"], row["latency_iterations"]) == (2, 40)
    assert row["latency_drift"] == pytest.approx(0.3)
    assert row["latency_ms_p50"] == pytest.approx(11.5) and row["latency_ms_p95"] == pytest.approx(13)
    assert row["latency_ms_by_size"]["64"] == pytest.approx(11.5)


def test_what_is_counted_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for name in ("peak_memory", "count_macs", "count_parameters"):
        monkeypatch.setattr(f"harness.efficiency.measure.{name}", lambda *_, name=name: calls.append(name) or {})
    monkeypatch.setattr(Measurement, "_count", lambda self, method: self._counted.update(gmacs=calls.append("count")))
    measure(Timed([0.0], 0.0, 0.0, None), 32, budget_seconds=0.05, max_batch=1)
    assert calls == ["count"]


def test_throughput_of_each_batch_and_of_each_form_at_the_best_one(clock: list[float]) -> None:
    # Of a batch of b images: b / (0.05 + 0.001 b) a second, twice that in the fast form.
    method = Timed(clock, 0.05, 0.001)
    row = measure(method, 32, budget_seconds=60, max_batch=8)
    rates = {str(batch): batch / (0.05 + 0.001 * batch) for batch in (1, 2, 4, 8)}
    assert row["throughput_by_batch"] == pytest.approx(rates)
    assert (row["throughput_batch"], row["throughput_images_per_second"]) == (8, pytest.approx(rates["8"]))
    found = {form["form"]: form["throughput_images_per_second"] for form in row["forms"]}
    assert found == pytest.approx({"plain": rates["8"], "accelerated": 2 * rates["8"]})


def test_where_one_image_alone_is_best_its_times_say_the_throughput(clock: list[float]) -> None:
    row = measure(Timed(clock, 0.0, 1.0), 32, budget_seconds=1)
    assert (row["throughput_batch"], row["throughput_by_batch"]) == (1, {"1": pytest.approx(1)})
    found = {form["form"]: form["throughput_images_per_second"] for form in row["forms"]}
    assert found == pytest.approx({"plain": 1, "accelerated": 2})


def test_a_form_without_time_or_memory_has_no_throughput(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    row = measure(Timed(clock, 0.05, 0.001, factor=3), 32, budget_seconds=3, max_batch=2)
    assert row["throughput_batch"] == 2
    found = {form["form"]: form["throughput_images_per_second"] for form in row["forms"]}
    assert found == {"plain": pytest.approx(2 / 0.052), "accelerated": None}

    def too_large(self: Any, image_size: int, batch_size: int, dtype: torch.dtype) -> nn.Module:
        fast = Timed(clock, 0.025, 0.0005, None)
        if batch_size > 1:
            fast.predict = lambda *_: (_ for _ in ()).throw(RuntimeError("CUDA out of memory"))  # type: ignore[method-assign]
        return fast

    monkeypatch.setattr(Timed, "_accelerated", too_large)
    method = Timed(clock, 0.05, 0.001)
    found = {form["form"]: form["throughput_images_per_second"] for form in measure(method, 32, max_batch=2)["forms"]}
    assert found["accelerated"] is None and found["plain"] > 0
