"""The fit loop: learning, memory, observation and steps."""

from __future__ import annotations

import gc
import itertools
import platform
import resource
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
import toy_methods
from support.cleared_pages import BLOCK
from torch import Tensor
from toy_training import CONFIG, ONE_STEP, copy_of, curves, distance, make, make_data, run, same_bits

from harness.errors import TrialFailed
from harness.training.epoch_result import EpochResult


@pytest.fixture(scope="module", autouse=True)
def small_heap() -> Iterator[None]:
    """A fit that runs out of memory collects garbage: what other tests left need not be looked through each time."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no mallopt")
def test_steps_on_a_cpu_take_the_memory_of_earlier_ones() -> None:
    """By the pages that the system clears, step by step, of a block of 33 MiB."""
    faults: list[int] = []

    class LargeBlock(toy_methods.TinyConv):
        def predict(self, images: Tensor, modality: Tensor) -> Tensor:
            torch.ones(BLOCK, dtype=torch.uint8)
            faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
            return super().predict(images, modality)

    run(make(LargeBlock), replace(CONFIG, epochs=1), make_data(train=120))
    assert (
        sum(later - earlier < BLOCK // resource.getpagesize() // 2 for earlier, later in itertools.pairwise(faults))
        >= 10
    )


# --- learning --------------------------------------------------------------------------------------------------------


def test_a_network_learns_and_says_how() -> None:
    events: list[EpochResult] = []
    method = make(toy_methods.TinyConv)
    state = run(method, replace(CONFIG, epochs=12), on_epoch=events.append)
    assert state.curves[-1]["train_loss"] < 0.7 * state.curves[0]["train_loss"]
    assert state.curves[-1]["validation_dice"] > 0.8
    assert [row["epoch"] for row in state.curves] == list(range(1, 13))
    assert [(epoch.epoch, epoch.epochs, epoch.stage) for epoch in events] == [(i, 12, "train") for i in range(1, 13)]
    assert events[-1].dice == state.curves[-1]["validation_dice"]
    assert (state.epoch, state.images_seen, state.micro_batch) == (12, 12 * 8, 4)
    assert not method.training
    assert not any(parameter.requires_grad for parameter in method.parameters())


def test_the_same_seed_gives_the_same_bits_and_another_does_not() -> None:
    config = replace(CONFIG, augmentation="standard", epochs=2)
    one, two, other = make(toy_methods.TinyConv), make(toy_methods.TinyConv), make(toy_methods.TinyConv)
    assert curves(run(one, config)) == curves(run(two, config))
    assert same_bits(one, two)
    run(other, config, seed=1)
    assert not same_bits(one, other)


@pytest.mark.parametrize("amp", ["bfloat16", "float16"])
def test_mixed_precision_learns_with_weights_in_float32(amp: str) -> None:
    dtypes = set()

    class Watched(toy_methods.TinyConv):
        def predict(self, images: Tensor, modality: Tensor) -> Tensor:
            logits = super().predict(images, modality)
            dtypes.add(logits.dtype)
            return logits

    method = make(Watched)
    state = run(method, replace(CONFIG, amp=amp, epochs=6))
    assert dtypes == {getattr(torch, amp)}
    assert state.curves[-1]["train_loss"] < state.curves[0]["train_loss"]
    assert {value.dtype for key, value in method.state_dict().items() if "batches" not in key} == {torch.float32}


def test_gradients_are_clipped_over_all_parameters_together() -> None:
    for clip_norm in (1e-3, 1e-2):
        method = make(toy_methods.TinyConv)
        before = copy_of(method)
        run(method, replace(ONE_STEP, learning_rate=0.1, clip_norm=clip_norm))
        # Nesterov's first step is (1 + momentum) times the gradient.
        assert distance(before, method) == pytest.approx(0.1 * 1.9 * clip_norm, rel=1e-2)


def test_accumulated_batches_are_one_large_batch() -> None:
    large, accumulated = (make(toy_methods.TinyConv, norm=False) for _ in range(2))
    before = copy_of(large)
    config = replace(ONE_STEP, epochs=3, learning_rate=0.5)
    run(large, config)
    run(accumulated, replace(config, batch_size=4, accumulation=2))
    assert distance(before, large) > 0.05
    for key, value in large.state_dict().items():
        torch.testing.assert_close(accumulated.state_dict()[key], value, rtol=1e-5, atol=1e-6)


def test_a_last_group_with_fewer_batches_weighs_as_much_as_a_full_one() -> None:
    """12 images, batches of 4, accumulation 2: one step of two batches, one step of the single batch left."""
    taken: list[float] = []

    class ConstantGradient(toy_methods.TinyConv):
        def training_loss(self, batch: Any, step: Any) -> tuple[Tensor, dict[str, float]]:
            taken.append(float(self.decoder.bias.detach()))
            assert step.index == len(taken[:-1]) // 2
            assert step.total == 2
            return self.decoder.bias.sum(), {}

    method = make(ConstantGradient)
    run(method, replace(ONE_STEP, batch_size=4, accumulation=2, learning_rate=0.1, epochs=1), make_data(train=12))
    first, again, second = taken
    assert first == again
    assert second == pytest.approx(first - 0.1 * 1.9)
    momentum = 1 + 0.9
    assert float(method.decoder.bias) == pytest.approx(second - 0.1 * (1 + 0.9 * momentum))


# --- memory ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", ["cuda", "cpu"])
def test_out_of_memory_halves_the_micro_batch_and_changes_nothing_else(error: str) -> None:
    roomy, cramped = make(toy_methods.TinyConv, norm=False), make(toy_methods.NeedsMemory, largest=2, error=error)
    config = replace(ONE_STEP, epochs=2, learning_rate=0.5)
    before = copy_of(roomy)
    assert run(roomy, config).micro_batch == 8
    state = run(cramped, config)
    assert (state.micro_batch, state.images_seen) == (2, 16)
    assert distance(before, roomy) > 0.05
    for key, value in roomy.state_dict().items():
        torch.testing.assert_close(cramped.state_dict()[key], value, rtol=1e-5, atol=1e-6)


def test_a_batch_that_fails_half_way_keeps_the_gradients_of_the_one_before_once() -> None:
    """Calls of the loss: batch 1; batch 2 fails; its first half; its second half fails; its four images."""

    class FailsTwice(toy_methods.TinyConv):
        calls = 0

        def training_loss(self, batch: Any, step: Any) -> tuple[Tensor, dict[str, float]]:
            self.calls += 1
            if self.calls in (2, 4):
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().training_loss(batch, step)

    config = replace(ONE_STEP, batch_size=4, accumulation=2, learning_rate=0.5)
    smooth, troubled = make(toy_methods.TinyConv, norm=False), make(FailsTwice, norm=False)
    run(smooth, config)
    assert run(troubled, config).micro_batch == 1
    assert troubled.calls == 8
    for key, value in smooth.state_dict().items():
        torch.testing.assert_close(troubled.state_dict()[key], value, rtol=1e-5, atol=1e-6)


def test_not_even_one_image_fits() -> None:
    with pytest.raises(TrialFailed, match=r"single image of 32 px: use a smaller training\.image_size"):
        run(make(toy_methods.NeedsMemory, largest=0))


def test_another_runtime_error_is_not_taken_for_memory() -> None:
    class Wrong(toy_methods.TinyConv):
        def training_loss(self, batch: Any, step: Any) -> tuple[Tensor, dict[str, float]]:
            raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        run(make(Wrong))


@pytest.mark.parametrize("epoch", [0, 2])
def test_a_loss_that_is_no_number_stops_the_trial_and_says_where(epoch: int) -> None:
    method = make(toy_methods.LossBecomesNan, epoch=epoch)
    with pytest.raises(TrialFailed, match=rf"became nan in epoch {epoch + 1}, step {2 * epoch + 1} .*learning_rate"):
        run(method)


# --- observing -------------------------------------------------------------------------------------------------------


def test_observe_sees_every_training_image_once_as_it_is() -> None:
    data = make_data()
    method = make(toy_methods.MeanColour)
    state = run(method, replace(CONFIG, epochs=1, augmentation="standard"), data)
    rows = data.cache.rows(data.train)
    expected = torch.from_numpy(data.cache.images[rows] / 255.0).float().mean((1, 2)).sum(0)
    assert int(method.seen) == 8
    torch.testing.assert_close(method.colour, expected)
    assert state.images_seen == 8 + 8


def test_observing_after_training_works_with_the_chosen_weights_and_is_kept() -> None:
    class Worsens(toy_methods.MeanColour):
        """Each epoch raises the bias; the first, with the smallest, is the best on validation."""

        def training_loss(self, batch: Any, step: Any) -> tuple[Tensor, dict[str, float]]:
            return -5 * self.decoder.bias.sum(), {}

        def predict(self, images: Tensor, modality: Tensor) -> Tensor:
            # Foreground is dark; with a higher bias ever more of the ground is foreground, too.
            return 0.35 - images.mean(1, keepdim=True) + 0.1 * self.decoder.bias.clamp(min=0)

    config = replace(CONFIG, selection="training_domain_validation", optimizer="sgd", learning_rate=0.1)
    method = make(Worsens, when="after")
    state = run(method, replace(config, schedule="constant", clip_norm=1.0))
    assert state.best_epoch < 4
    assert int(method.seen) == 8
    assert torch.equal(method.bias_at_observe, method.decoder.bias)


# --- steps -----------------------------------------------------------------------------------------------------------


def test_a_method_is_called_back_after_each_step_and_epoch() -> None:
    method = make(toy_methods.CountsSteps)
    state = run(method, replace(CONFIG, epochs=2, batch_size=4, accumulation=1))
    scores = [row["validation_dice"] for row in curves(state)]
    assert method.calls == [0, 1, scores[0], 2, 3, scores[1]]


def test_steps_are_optimiser_steps() -> None:
    method = make(toy_methods.CountsSteps)
    run(method, replace(CONFIG, epochs=1, batch_size=2, accumulation=3))
    assert [call for call in method.calls if isinstance(call, int)] == [0, 1]
