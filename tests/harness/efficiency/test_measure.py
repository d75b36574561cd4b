"""Costs: counts against known values, times and memory against layers whose cost is known by hand."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from baselines.algorithms.ema import EMA
from baselines.networks.smp import SmpNetwork
from baselines.trivial import OtsuThreshold
from harness.efficiency import measure as efficiency
from harness.efficiency import rounds

COLUMNS = {
    "image_size",
    "parameters_total",
    "parameters_active",
    "parameters_trainable",
    "gmacs",
    "latency_ms_p50",
    "latency_ms_p95",
    "latency_iterations",
    "latency_drift",
    "rounds",
    "forms",
    "left_out",
    "energy_mj_per_image",
    "latency_ms_by_size",
    "size_exponent",
    "throughput_images_per_second",
    "throughput_batch",
    "throughput_by_batch",
    "peak_memory_mib",
    "device",
    "threads",
    "dtype",
    "torch",
}


class Convolution(nn.Module):
    """A 3 x 3 convolution from 3 to 8 channels; `fail_from` is the first batch size that does not fit."""

    def __init__(self, fail_from: int | None = None, message: str = "CUDA out of memory") -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.fail_from, self.message = fail_from, message
        self.batches: list[int] = []

    def predict(self, images: Tensor, modality: Tensor) -> Tensor:
        self.batches.append(len(images))
        assert not self.training and torch.is_inference_mode_enabled() and modality.shape == (len(images),)
        if self.fail_from is not None and len(images) >= self.fail_from:
            raise RuntimeError(self.message)
        out: Tensor = self.layer(images)
        return out[:, :1]


class Attention(nn.Module):
    """Fused attention over the pixels, and an encoder layer: both count as nothing unless they are taken apart."""

    def __init__(self, part: str) -> None:
        super().__init__()
        self.part = part
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def predict(self, images: Tensor, modality: Tensor) -> Tensor:
        tokens = images[:, 0].flatten(1)[:, :, None].expand(-1, -1, 8)
        if self.part == "sdpa":
            heads = tokens[:, None]
            return nn.functional.scaled_dot_product_attention(heads, heads, heads)
        out: Tensor = self.layer(tokens)
        return out


class Switched(Convolution):
    def active_parameters(self) -> int:
        return 7


@pytest.mark.parametrize(
    ("architecture", "encoder", "low", "high"), [("unet", "resnet18", 5.39, 5.41), ("segformer", "mit_b0", 1.7, 1.8)]
)
def test_gmacs_of_known_networks_at_256(architecture: str, encoder: str, low: float, high: float) -> None:
    method = SmpNetwork(["xray"], architecture, encoder).eval()
    assert low < efficiency.count_macs(method, torch.rand(1, 3, 256, 256)) / 1e9 < high


def test_macs_of_a_convolution_by_hand() -> None:
    assert efficiency.count_macs(Convolution().eval(), torch.rand(2, 3, 10, 20)) == 2 * 10 * 20 * 3 * 8 * 9


def test_attention_is_counted() -> None:
    tokens = 16
    attention = 2 * tokens * tokens * 8
    image = torch.rand(1, 3, 4, 4)
    assert efficiency.count_macs(Attention("sdpa").eval(), image) == attention
    projections = tokens * 8 * 8 * 4 + 2 * tokens * 8 * 16
    assert efficiency.count_macs(Attention("encoder layer").eval(), image) == attention + projections
    assert torch.backends.mha.get_fastpath_enabled()


def test_a_row_has_every_column_in_plain_types() -> None:
    method = Convolution().train()
    row = efficiency.measure(method, 32, budget_seconds=0.5, max_batch=4)
    assert set(row) == COLUMNS
    assert json.loads(json.dumps(row)) == row
    assert row["parameters_total"] == row["parameters_active"] == row["parameters_trainable"] == 216
    assert row["gmacs"] == pytest.approx(32 * 32 * 216 / 1e9)
    assert 0 < row["latency_ms_p50"] <= row["latency_ms_p95"] and row["throughput_images_per_second"] > 0
    assert (row["image_size"], row["dtype"], row["torch"]) == (32, "float32", str(torch.__version__))
    assert row["threads"] == torch.get_num_threads() and row["device"]
    assert method.training


def test_frozen_and_inactive_parameters_are_counted_apart() -> None:
    method = Switched()
    method.layer.weight.requires_grad_(False)
    assert efficiency.count_parameters(method) == {
        "parameters_total": 216,
        "parameters_active": 7,
        "parameters_trainable": 0,
    }


class InStages(Convolution):
    """A part that learns in the second stage, one that learns in both, one that only looks at data, one in no stage."""

    def __init__(self) -> None:
        super().__init__()
        self.late, self.always, self.observed, self.never = (nn.Linear(n, 1, bias=False) for n in (2, 3, 50, 70))
        self.layer.requires_grad_(False)

    def stages(self) -> list[dict[str, Any]]:
        return [
            {"name": "look", "gradient": False, "trainable": ["observed.*"]},
            {"name": "first", "trainable": ["always.*", "layer.*"]},
            {"name": "second", "trainable": ["always.*", "late.*"]},
        ]

    def observe(self, batch: Any) -> None:
        """Nothing."""


def test_trainable_is_what_learns_in_some_stage() -> None:
    assert efficiency.count_parameters(InStages())["parameters_trainable"] == 2 + 3
    around = EMA(["xray"], lambda modalities: InStages())
    assert efficiency.count_parameters(around)["parameters_trainable"] == 2 + 3


def test_floors_have_no_parameters_and_no_macs() -> None:
    row = efficiency.measure(OtsuThreshold(["xray"]), 32, budget_seconds=0.2, max_batch=2)
    assert row["parameters_total"] == 0 and row["gmacs"] == 0


def test_peak_memory_is_weights_image_and_the_most_that_is_alive_at_once() -> None:
    class Steps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1000))

        def predict(self, images: Tensor, modality: Tensor) -> Tensor:
            wide = torch.cat([images * 2] * 4, 1)  # 3 channels and 12 at once, here is the peak
            return wide.mean(1, keepdim=True)  # then 12 and 1

    channel = 64 * 64 * 4
    measured = efficiency.peak_memory(Steps().eval(), torch.rand(1, 3, 64, 64))
    expected = 1000 * 4 + 3 * channel + (3 + 12) * channel
    assert expected <= measured < expected + channel


def test_memory_does_not_depend_on_what_ran_before() -> None:
    method, image = SmpNetwork(["xray"]).eval(), torch.rand(1, 3, 64, 64)
    assert efficiency.peak_memory(method, image) == efficiency.peak_memory(method, image)


@pytest.mark.parametrize("message", ["CUDA out of memory. Tried", "DefaultCPUAllocator: can't allocate memory"])
def test_batches_grow_until_memory_is_out(message: str) -> None:
    method = Convolution(fail_from=4, message=message)
    row = efficiency.measure(method, 32, budget_seconds=2)
    assert max(method.batches) == 4 and row["throughput_batch"] < 4


def test_other_errors_are_not_taken_for_memory() -> None:
    with pytest.raises(RuntimeError, match="shapes differ"):
        efficiency.measure(Convolution(fail_from=2, message="shapes differ"), 32, budget_seconds=2)


def test_a_batch_that_would_fill_the_memory_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    method = Convolution()
    one = efficiency.peak_memory(method.eval(), torch.rand(1, 3, 64, 64))
    monkeypatch.setattr(rounds, "free_memory", lambda device: 10 * one)
    efficiency.measure(method, 64, budget_seconds=5)
    assert max(method.batches) == 4


def test_a_slow_method_gets_fewer_iterations(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(Convolution):
        def predict(self, images: Tensor, modality: Tensor) -> Tensor:
            clock[0] += 1.0
            return super().predict(images, modality)

    monkeypatch.setattr(rounds, "number_formats", lambda device: ["float32"])
    method = Slow()
    row = efficiency.measure(method, 32, budget_seconds=20)
    assert row["latency_ms_p50"] == 1000 and 5 <= row["latency_iterations"] < rounds.ITERATIONS
    assert clock[0] <= 20 + 3 + 2  # three calls to count, and in each round one that was begun
    method.batches.clear()
    clock[0] = 0.0
    row = efficiency.measure(method, 32, budget_seconds=0.1)
    # However slow: two rounds of latency with their warm-ups, one batch, two sizes in each round.
    assert row["latency_iterations"] == 5 and len(method.batches) == 3 + 5 + 2 + 2 + 2 * 2 * 2


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that only methods let pass."""
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    return now


class Accelerated(Convolution):
    """Its fast form is a copy that notes what it is asked in."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[int, int, torch.dtype]] = []

    def accelerated(self, image_size: int, batch_size: int, dtype: torch.dtype) -> nn.Module:
        self.asked.append((image_size, batch_size, dtype))
        return Convolution().eval()


def test_each_form_and_number_format_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "number_formats", lambda device: ["float32", "bfloat16"])
    dtypes: list[torch.dtype] = []

    class Recorder(Accelerated):
        def predict(self, images: Tensor, modality: Tensor) -> Tensor:
            dtypes.append((out := super().predict(images, modality)).dtype)
            return out

    method = Recorder()
    row = efficiency.measure(method, 32, budget_seconds=0.2, max_batch=1)
    forms = [(form["form"], form["dtype"]) for form in row["forms"]]
    assert forms == [(kind, dtype) for dtype in ("float32", "bfloat16") for kind in ("plain", "accelerated")]
    assert {torch.float32, torch.bfloat16} == set(dtypes)
    assert method.asked == [(32, 1, torch.float32), (32, 1, torch.bfloat16)] * rounds.ROUNDS
    assert row["dtype"] == "float32" and row["latency_ms_p50"] == row["forms"][0]["latency_ms_p50"]
    assert all(0 < form["latency_ms_p50"] <= form["latency_ms_p95"] for form in row["forms"])


def test_a_compiled_form_is_timed_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "number_formats", lambda device: ["float32", "bfloat16"])
    calls: list[torch.dtype] = []

    def compiled(predict: Any, **options: Any) -> Any:
        def run(*inputs: Tensor) -> Tensor:
            out: Tensor = predict(*inputs)
            calls.append(out.dtype)
            return out

        return run

    monkeypatch.setattr(torch, "compile", compiled)
    row = efficiency.measure(Convolution(), 32, budget_seconds=0.2, max_batch=1, compiled=True)
    forms = [(form["form"], form["dtype"]) for form in row["forms"]]
    assert forms == [(kind, dtype) for kind in ("plain", "compiled") for dtype in ("float32", "bfloat16")]
    assert {torch.float32, torch.bfloat16} == set(calls) and row["left_out"] == []
    calls.clear()
    assert len(efficiency.measure(Convolution(), 32, budget_seconds=0.1, max_batch=1)["forms"]) == 2 and not calls


def test_a_form_that_can_t_be_compiled_is_named_and_the_others_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "number_formats", lambda device: ["float32"])

    def compiled(predict: Any, **options: Any) -> Any:
        def run(*inputs: Tensor) -> Tensor:
            raise RuntimeError("no kernel for this\nmore words")

        return run

    monkeypatch.setattr(torch, "compile", compiled)
    row = efficiency.measure(Convolution(), 32, budget_seconds=0.1, max_batch=1, compiled=True)
    assert row["left_out"] == ["compiled, float32: RuntimeError: no kernel for this"]
    assert [form["form"] for form in row["forms"]] == ["plain"]


def test_energy_is_measured_once_at_the_best_batch_where_the_device_counts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter((1000, 1600))
    monkeypatch.setattr("harness.efficiency.energy.SECONDS", 0.0)
    monkeypatch.setattr(efficiency, "energy_counter", lambda device: lambda: next(readings))
    method = Convolution()
    measurement = efficiency.Measurement(32, budget_seconds=0.1, max_batch=2)
    measurement.add_round(method)
    row = measurement.row()
    assert row["energy_mj_per_image"] == 600 / row["throughput_batch"]
    assert method.batches[-2:] == [row["throughput_batch"]] * 2
    measurement.add_round(method)
    assert measurement.row()["energy_mj_per_image"] == row["energy_mj_per_image"]


def test_how_the_time_grows_with_the_image(clock: list[float]) -> None:
    class Timed(Convolution):
        """Takes a millisecond times the cube of the side over 64."""

        def predict(self, images: Tensor, modality: Tensor) -> Tensor:
            clock[0] += 0.001 * (images.shape[-1] / 64) ** 3
            return super().predict(images, modality)

    row = efficiency.measure(Timed(), 64, budget_seconds=1, max_batch=1)
    assert row["size_exponent"] == pytest.approx(3)
    assert row["latency_ms_by_size"] == pytest.approx({"32": 1 / 8, "64": 1, "128": 8})


def test_a_size_that_does_not_fit_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    class Small(Convolution):
        def predict(self, images: Tensor, modality: Tensor) -> Tensor:
            if images.shape[-1] > 32:
                raise RuntimeError("CUDA out of memory")
            return super().predict(images, modality)

    row = efficiency.measure(Small(), 32, budget_seconds=0.2, max_batch=1)
    assert list(row["latency_ms_by_size"]) == ["32"] and row["size_exponent"] is None


class WithTeacher(Convolution):
    def __init__(self) -> None:
        super().__init__()
        self.teacher = nn.Linear(100, 100)

    def deployed_parameters(self) -> list[nn.Parameter]:
        return [*self.layer.parameters(), *self.layer.parameters()]


def test_what_is_not_needed_at_test_time_costs_nothing() -> None:
    counts = efficiency.count_parameters(WithTeacher())
    assert counts["parameters_total"] == counts["parameters_active"] == 3 * 8 * 9
    assert counts["parameters_trainable"] == 3 * 8 * 9 + 100 * 101
    image = torch.rand(1, 3, 32, 32)
    assert efficiency.peak_memory(WithTeacher().eval(), image) == efficiency.peak_memory(Convolution().eval(), image)


class BoxedIn(nn.Module):
    """Answers for no image without a mask."""

    def predict_oracle(self, images: Tensor, modality: Tensor, masks: Tensor) -> Tensor:
        assert masks.shape == (len(images), 1, *images.shape[2:])
        assert set(masks.unique().tolist()) == {0.0, 1.0}
        return masks


def test_a_method_that_needs_the_truth_is_measured_with_a_stand_in() -> None:
    row = efficiency.measure(BoxedIn(), 32, budget_seconds=0.05, max_batch=2)
    assert row["gmacs"] == 0
