"""The fit loop: what it trains on, what it keeps, and that an interrupted fit ends with the same bits."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toy_methods
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from harness.config import TrainingConfig
from harness.data.cache import ArrayCache
from harness.data.sample import Sample
from harness.errors import TrialFailed, UserError
from harness.methods import Stage
from harness.training import FitState, TrainingData, epochs_per_stage, fit, seed_everything

SIZE = 32
CPU = torch.device("cpu")
CONFIG = TrainingConfig(
    image_size=SIZE, epochs=4, batch_size=4, augmentation="flips", learning_rate=0.02, selection="last"
)
ONE_STEP = replace(
    CONFIG, epochs=1, batch_size=8, augmentation="none", optimizer="sgd", schedule="constant", weight_decay=0.0,
    clip_norm=None,
)  # fmt: skip


def make_data(train: int = 8, validation: int = 4, test: int = 4, scored_on: str = "validation") -> TrainingData:
    """Dark discs on light ground in memory: domains a and b are trained and validated on, c is the unseen one."""
    random = np.random.default_rng(0)
    keys = [f"xray/{'ab'[i % 2]}/{i}" for i in range(train + validation)] + [f"xray/c/{i}" for i in range(test)]
    y, x = np.mgrid[:SIZE, :SIZE]
    centres = random.uniform(10, 22, (len(keys), 2, 1, 1))
    masks = (y - centres[:, 0]) ** 2 + (x - centres[:, 1]) ** 2 < 60
    images = np.where(masks, 60, 190)[..., None] + random.normal(0, 10, (*masks.shape, 3))
    cache = ArrayCache(
        images.clip(0, 255).astype(np.uint8), masks.astype(np.uint8), {key: i for i, key in enumerate(keys)}, Path()
    )
    samples = {
        key: Sample(*key.split("/"), Path(), Path(), SIZE, SIZE, 0.2, key, key)  # type: ignore[misc]
        for key in keys
    }
    roles = {
        "train": keys[:train],
        "validation": keys[train : train + validation],
        "test": keys[train + validation :],
    }
    return TrainingData(cache, samples, ["xray"], roles["train"], roles["validation"], roles[scored_on])


def make(kind: type[nn.Module], seed: int = 0, **options: Any) -> nn.Module:
    seed_everything(seed, 0)
    return kind(["xray"], **options)


def run(
    method: nn.Module,
    config: TrainingConfig = CONFIG,
    data: TrainingData | None = None,
    *,
    seed: int = 0,
    folder: Path | None = None,
    on_epoch: Callable[[dict[str, Any]], None] = lambda event: None,
) -> FitState:
    return fit(
        method, data or make_data(), config, seed=seed, device=CPU, folder=folder or Path("/nonexistent"),
        on_epoch=on_epoch, checkpoint_seconds=0 if folder else math.inf,
    )  # fmt: skip


def curves(state: FitState) -> list[dict[str, Any]]:
    """Without the clock."""
    return [{key: value for key, value in row.items() if key != "seconds"} for row in state.curves]


def same_bits(one: nn.Module | dict[str, Tensor], other: nn.Module | dict[str, Tensor]) -> bool:
    a, b = (m.state_dict() if isinstance(m, nn.Module) else m for m in (one, other))
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def copy_of(method: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in method.state_dict().items()}


def distance(one: dict[str, Tensor], other: nn.Module) -> float:
    return math.sqrt(sum(float((one[k] - p.detach()).square().sum()) for k, p in other.named_parameters()))


# --- the budget ------------------------------------------------------------------------------------------------------

stages = st.lists(
    st.builds(
        Stage,
        name=st.text(max_size=3),
        share=st.sampled_from([0.01, 0.5, 1.0, 2.0, 3.0, 10.0, 100.0]),
        gradient=st.booleans(),
    ),
    min_size=1,
    max_size=8,
)


@given(stages, st.integers(1, 60))
def test_stages_share_the_budget(stages: list[Stage], epochs: int) -> None:
    counts = epochs_per_stage(stages, epochs)
    with_gradient = [stage for stage in stages if stage.gradient]
    assert [count == 0 for count in counts] == [not stage.gradient for stage in stages]
    assert sum(counts) == (max(epochs, len(with_gradient)) if with_gradient else 0)
    total = sum(stage.share for stage in with_gradient)
    for stage, count in zip(stages, counts, strict=True):
        # Nobody gets an epoch more than its share, but for the one that each stage needs.
        assert count <= max(1, math.ceil(epochs * stage.share / total) if total else 0)
    for one, first in zip(stages, counts, strict=True):
        for other, second in zip(stages, counts, strict=True):
            if one.gradient and other.gradient and one.share < other.share:
                assert first <= second


@pytest.mark.parametrize(
    ("shares", "epochs", "expected"),
    [([3, 1], 8, [6, 2]), ([1, 1], 5, [3, 2]), ([10, 10, 1, 1, 1, 1, 1], 7, [1] * 7), ([1, 1, 1], 1, [1, 1, 1])],
)
def test_shares_worked_by_hand(shares: list[float], epochs: int, expected: list[int]) -> None:
    assert epochs_per_stage([Stage(str(i), share) for i, share in enumerate(shares)], epochs) == expected


# --- learning --------------------------------------------------------------------------------------------------------


def test_a_network_learns_and_says_how() -> None:
    events: list[dict[str, Any]] = []
    method = make(toy_methods.TinyConv)
    state = run(method, replace(CONFIG, epochs=12), on_epoch=events.append)
    assert state.curves[-1]["train_loss"] < 0.7 * state.curves[0]["train_loss"]
    assert state.curves[-1]["validation_dice"] > 0.8
    assert [row["epoch"] for row in state.curves] == list(range(1, 13))
    assert [(event["epoch"], event["epochs"], event["stage"]) for event in events] == [
        (i, 12, "train") for i in range(1, 13)
    ]
    assert events[-1]["dice"] == state.curves[-1]["validation_dice"]
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


# --- stages ----------------------------------------------------------------------------------------------------------


def test_what_a_stage_freezes_keeps_its_bits_statistics_and_all() -> None:
    method = make(toy_methods.TwoStages)
    start = copy_of(method)
    seen: list[tuple[str, bool, bool]] = []

    def look(event: dict[str, Any]) -> None:
        now = method.state_dict()
        frozen = {key: value for key, value in now.items() if key.startswith("encoder.")}
        still = all(torch.equal(start[key], value) for key, value in frozen.items())
        seen.append((event["stage"], still, torch.equal(start["decoder.weight"], now["decoder.weight"])))

    run(method, on_epoch=look)
    assert seen == [("decoder", True, False)] * 2 + [("joint", False, False)] * 2
    assert not torch.equal(start["encoder.1.running_mean"], method.state_dict()["encoder.1.running_mean"])


def test_only_parts_that_are_frozen_as_a_whole_stand_still() -> None:
    class Mixed(toy_methods.TinyConv):
        """An own frozen parameter beside children that train; and a frozen part whose BatchNorm has no parameters."""

        def __init__(self, modalities: Sequence[str]) -> None:
            super().__init__(modalities)
            self.position = nn.Parameter(torch.zeros(1))
            self.stem = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, affine=False), nn.Dropout(0.5))

        def predict(self, images: Tensor, modality: Tensor) -> Tensor:
            return super().predict(self.stem(images) + self.position, modality)

        def stages(self) -> list[Stage]:
            return [Stage("train", trainable=("encoder.*", "decoder.*"))]

    method = make(Mixed)
    start = copy_of(method)
    run(method, replace(CONFIG, epochs=1))
    moved = {key for key, value in method.state_dict().items() if not torch.equal(start[key], value)}
    assert {"encoder.1.running_mean", "encoder.0.weight", "decoder.bias"} <= moved
    assert not {key for key in moved if key.startswith(("stem.", "position"))}


def test_a_stage_that_trains_nothing_is_told() -> None:
    class Typo(toy_methods.TinyConv):
        def stages(self) -> list[Stage]:
            return [Stage("train", trainable=("decodr.*",))]

    with pytest.raises(TrialFailed, match=r"decodr.*no parameter of Typo has such a name"):
        run(make(Typo))


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


# --- what is kept ----------------------------------------------------------------------------------------------------


class Scripted(nn.Module):
    """Its Dice of each epoch is written in a script: one for dark images, one for light ones (the unseen domain)."""

    dark, light = (0.125, 0.5, 0.375, 0.5), (0.25, 0.375, 0.625, 0.125)

    def __init__(self, modalities: Sequence[str]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.register_buffer("epoch", torch.zeros((), dtype=torch.int64))

    def training_loss(self, batch: Any, step: Any) -> tuple[Tensor, dict[str, float]]:
        self.epoch.fill_(step.epoch)
        return self.weight.sum(), {}

    def predict(self, images: Tensor, modality: Tensor) -> Tensor:
        epoch = int(self.epoch)
        part = torch.where(images.mean((1, 2, 3)) > 0.5, self.light[epoch], self.dark[epoch])
        column = torch.arange(SIZE) / SIZE
        return (column[None] < part[:, None])[:, None, None].expand(-1, 1, SIZE, SIZE).float() - 0.5


def scripted_data(scored_on: str) -> TrainingData:
    """Everything is foreground, so Dice grows with what is predicted; only images of the unseen domain are light."""
    data = make_data(scored_on=scored_on)
    images = np.zeros_like(data.cache.images)
    images[-4:] = 255
    return replace(data, cache=replace(data.cache, images=images, masks=np.ones_like(data.cache.masks)))


@pytest.mark.parametrize(
    ("rule", "scored_on", "epoch"),
    [("training_domain_validation", "validation", 2), ("last", "validation", 4), ("oracle", "test", 3)],
)
def test_the_rule_decides_whose_weights_are_left(rule: str, scored_on: str, epoch: int) -> None:
    method = make(Scripted)
    state = run(method, replace(CONFIG, selection=rule), scripted_data(scored_on))
    assert int(method.epoch) == epoch - 1
    assert state.best_epoch == epoch
    script = Scripted.light if rule == "oracle" else Scripted.dark
    dice = [row[f"{scored_on}_dice"] for row in state.curves]
    assert dice == pytest.approx([2 * part / (1 + part) for part in script])


def test_a_new_stage_is_judged_by_itself() -> None:
    class Falls(Scripted):
        dark = (0.5, 0.9, 0.2, 0.3)

        def stages(self) -> list[Stage]:
            return [Stage("first"), Stage("second")]

    method = make(Falls)
    state = run(method, replace(CONFIG, selection="training_domain_validation"), scripted_data("validation"))
    assert (int(method.epoch), state.best_epoch) == (3, 4)


@pytest.mark.parametrize(("patience", "epochs"), [(1, 3), (2, 4), (None, 4)])
def test_patience_ends_training_after_epochs_without_gain(patience: int | None, epochs: int) -> None:
    config = replace(CONFIG, selection="training_domain_validation", patience=patience)
    state = run(make(Scripted), config, scripted_data("validation"))
    assert (state.epoch, state.best_epoch) == (epochs, 2)


def test_each_stage_has_its_own_patience() -> None:
    class Tires(Scripted):
        dark = (0.5, 0.4, 0.9, 0.1, 0.5, 0.6)

        def stages(self) -> list[Stage]:
            return [Stage("first"), Stage("second")]

    method = make(Tires)
    config = replace(CONFIG, epochs=6, selection="training_domain_validation", patience=1)
    state = run(method, config, scripted_data("validation"))
    # Epochs 1 and 2, then the second stage: 3 and 4.
    assert [row["stage"] for row in state.curves] == ["first", "first", "second", "second"]
    assert state.best_epoch == 3


def test_scores_are_means_over_domains_of_means_over_images() -> None:
    """Domain a has three validation images, b has one: each domain counts the same."""
    data = make_data(train=8, validation=4)
    keys = ["xray/a/8", "xray/a/10", "xray/b/9"]
    masks = np.ones_like(data.cache.masks)
    masks[data.cache.rows(["xray/b/9"])] = 0
    cache = replace(data.cache, images=np.zeros_like(data.cache.images), masks=masks)

    class Everything(Scripted):
        dark = (1.0,) * 4

    state = run(make(Everything), CONFIG, replace(data, cache=cache, score=keys))
    assert state.curves[0]["validation_dice"] == pytest.approx((1 + 0) / 2)

    class Nothing(Scripted):
        dark = (0.0,) * 4

    # An empty mask that is predicted empty counts 1.
    state = run(make(Nothing), CONFIG, replace(data, cache=cache, score=keys))
    assert state.curves[0]["validation_dice"] == pytest.approx((0 + 1) / 2)


def test_without_validation_images_only_the_last_epoch_can_be_chosen() -> None:
    data = replace(make_data(), validation=[], score=[])
    for wrong in ({"selection": "training_domain_validation"}, {"selection": "last", "patience": 2}):
        with pytest.raises(UserError, match=r"the split has none.*training\.selection=last"):
            run(make(toy_methods.TinyConv), replace(CONFIG, **wrong), data)
    assert run(make(toy_methods.TinyConv), CONFIG, data).best_epoch == 4
    assert run(make(toy_methods.Floor), replace(CONFIG, selection="training_domain_validation"), data).epoch == 0


# --- the unseen domain -----------------------------------------------------------------------------------------------


def poisoned(data: TrainingData, keys: Sequence[str]) -> TrainingData:
    """The same data with noise where `keys` were."""
    random = np.random.default_rng(9)
    images, masks = data.cache.images.copy(), data.cache.masks.copy()
    rows = data.cache.rows(list(keys))
    images[rows] = random.integers(0, 256, images[rows].shape, dtype=np.uint8)
    masks[rows] = random.integers(0, 2, masks[rows].shape, dtype=np.uint8)
    return replace(data, cache=replace(data.cache, images=images, masks=masks))


@pytest.mark.parametrize("rule", ["training_domain_validation", "last"])
def test_images_of_the_unseen_domain_change_nothing(rule: str) -> None:
    config = replace(CONFIG, selection=rule, augmentation="standard")
    clean, poison = make(toy_methods.MeanColour), make(toy_methods.MeanColour)
    data = make_data()
    test = [key for key in data.samples if "/c/" in key]
    one, other = run(clean, config, data), run(poison, config, poisoned(data, test))
    assert same_bits(clean, poison)
    assert curves(one) == curves(other)


def test_the_oracle_does_look() -> None:
    config = replace(CONFIG, selection="oracle")
    data = make_data(scored_on="test")
    one = run(make(toy_methods.TinyConv), config, data)
    other = run(make(toy_methods.TinyConv), config, poisoned(data, data.score))
    assert curves(one) != curves(other)
    assert [row["train_loss"] for row in one.curves] == [row["train_loss"] for row in other.curves]


def test_validation_images_are_looked_at_but_never_trained_on() -> None:
    clean, poison = make(toy_methods.MeanColour), make(toy_methods.MeanColour)
    data = make_data()
    one, other = run(clean, CONFIG, data), run(poison, CONFIG, poisoned(data, data.validation))
    assert same_bits(clean, poison)
    assert [row["validation_dice"] for row in one.curves] != [row["validation_dice"] for row in other.curves]


# --- going on after an interruption ----------------------------------------------------------------------------------


class _Interrupted(Exception):
    pass


def stop_at(epoch: int) -> Callable[[dict[str, Any]], None]:
    def on_epoch(event: dict[str, Any]) -> None:
        if event["epoch"] == epoch:
            raise _Interrupted

    return on_epoch


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"selection": "training_domain_validation", "patience": 3, "augmentation": "standard"},
        {"optimizer": "sgd", "schedule": "cosine", "accumulation": 1},
        {"optimizer": "adam", "schedule": "exponential", "amp": "float16"},
    ],
)
@pytest.mark.parametrize("kind", [toy_methods.TwoStages, toy_methods.MeanColour])
def test_an_interrupted_fit_ends_with_the_same_bits(
    kind: type[nn.Module], changes: dict[str, Any], tmp_path: Path
) -> None:
    config = replace(CONFIG, **{"epochs": 5, "batch_size": 3, "accumulation": 2, **changes})
    whole = make(kind)
    expected = run(whole, config)
    for epoch in range(1, 6):  # five times killed, each time an epoch later; the epoch it is killed in is lost
        seed = 0 if epoch <= 2 else epoch  # from the third on all weights come from the checkpoint
        with pytest.raises(_Interrupted):
            run(make(kind, seed=seed), config, folder=tmp_path, on_epoch=stop_at(epoch))
    resumed = make(kind, seed=99)
    events: list[int] = []
    state = run(resumed, config, folder=tmp_path, on_epoch=lambda event: events.append(event["epoch"]))
    assert events == [5]  # the first four are not trained again
    assert same_bits(whole, resumed)
    assert curves(state) == curves(expected)
    assert (state.best_epoch, state.images_seen, state.epoch) == (
        expected.best_epoch,
        expected.images_seen,
        expected.epoch,
    )


def test_an_interrupted_observe_after_training_trains_nothing_again(tmp_path: Path) -> None:
    class StopsOnce(toy_methods.MeanColour):
        stop = True

        def observe(self, batch: Any) -> None:
            super().observe(batch)
            if self.stop:
                raise _Interrupted

    whole = make(toy_methods.MeanColour, when="after")
    run(whole)
    with pytest.raises(_Interrupted):
        run(make(StopsOnce, when="after"), folder=tmp_path)
    events: list[int] = []
    resumed = make(toy_methods.MeanColour, seed=5, when="after")
    run(resumed, folder=tmp_path, on_epoch=lambda event: events.append(event["epoch"]))
    assert events == []
    assert same_bits(whole, resumed)


def test_a_micro_batch_that_had_to_shrink_stays_small_after_an_interruption(tmp_path: Path) -> None:
    with pytest.raises(_Interrupted):
        run(make(toy_methods.NeedsMemory, largest=2), folder=tmp_path, on_epoch=stop_at(2))
    assert run(make(toy_methods.TinyConv, norm=False), folder=tmp_path).micro_batch == 2


@pytest.mark.parametrize("harm", ["damaged", "older version"])
def test_a_checkpoint_that_cannot_be_used_is_trained_anew(tmp_path: Path, harm: str) -> None:
    path = tmp_path / "training.pt"
    if harm == "damaged":
        path.write_bytes(b"PK\x03\x04 not a checkpoint")
    else:
        with pytest.raises(_Interrupted):
            run(make(toy_methods.TinyConv), folder=tmp_path, on_epoch=stop_at(3))
        saved = torch.load(path, weights_only=True)
        torch.save(saved | {"training_version": 0}, path)
    whole, method = make(toy_methods.TinyConv), make(toy_methods.TinyConv)
    run(whole)
    events: list[int] = []
    run(method, folder=tmp_path, on_epoch=lambda event: events.append(event["epoch"]))
    assert events == [1, 2, 3, 4]
    assert same_bits(whole, method)


def test_checkpoints_are_rarer_than_short_epochs_and_the_last_epoch_needs_none(tmp_path: Path) -> None:
    fit(
        make(toy_methods.TinyConv), make_data(), CONFIG, seed=0, device=CPU, folder=tmp_path, checkpoint_seconds=1e6
    )  # fmt: skip
    assert list(tmp_path.iterdir()) == []
    run(make(toy_methods.TinyConv), replace(CONFIG, epochs=1), folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_when_a_checkpoint_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def onto_full_device(dir: Path, prefix: str, suffix: str) -> tuple[int, str]:
        temporary = Path(dir) / f"{prefix}x{suffix}"
        temporary.symlink_to("/dev/full")
        return os.open(os.devnull, os.O_RDONLY), str(temporary)

    monkeypatch.setattr(tempfile, "mkstemp", onto_full_device)
    with pytest.raises(UserError, match=r"training\.pt: the disk is full"):
        run(make(toy_methods.TinyConv), folder=tmp_path)
    assert list(tmp_path.iterdir()) == []
