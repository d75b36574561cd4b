"""What a stage asks of the fit: its share of the budget, what it trains, its views, rates and scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
import toy_methods
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from toy_training import CONFIG, ONE_STEP, copy_of, make, make_data, run

from harness.errors import TrialFailed
from harness.methods.contract import Stage
from harness.training.epoch_result import EpochResult
from harness.training.stages import epochs_per_stage

# --- its share of the budget -----------------------------------------------------------------------------------------

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


# --- what it trains --------------------------------------------------------------------------------------------------


def test_what_a_stage_freezes_keeps_its_bits_statistics_and_all() -> None:
    method = make(toy_methods.TwoStages)
    start = copy_of(method)
    seen: list[tuple[str, bool, bool]] = []

    def look(event: EpochResult) -> None:
        now = method.state_dict()
        frozen = {key: value for key, value in now.items() if key.startswith("encoder.")}
        still = all(torch.equal(start[key], value) for key, value in frozen.items())
        seen.append((event.stage, still, torch.equal(start["decoder.weight"], now["decoder.weight"])))

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


def test_a_stage_that_trains_nothing_is_refused() -> None:
    class Typo(toy_methods.TinyConv):
        def stages(self) -> list[Stage]:
            return [Stage("train", trainable=("decodr.*",))]

    with pytest.raises(TrialFailed, match=r"decodr.*Typo has no parameter of such a name"):
        run(make(Typo))


def test_what_a_method_froze_when_it_was_built_stays_frozen_in_the_default_stage() -> None:
    method = make(toy_methods.TinyConv)
    first = next(iter(method.parameters()))
    first.requires_grad_(False)
    before = first.detach().clone()
    run(method)
    assert torch.equal(first, before)


# --- its views -------------------------------------------------------------------------------------------------------


class Watches(toy_methods.TinyConv):
    """Trains in two stages, of shares 1 and 3, and records what it is shown; `views` are those of the second stage."""

    def __init__(self, modalities: Sequence[str], views: int | None = None) -> None:
        super().__init__(modalities)
        self.views = views
        self.shown: dict[tuple[int, str], bytes] = {}

    def stages(self) -> list[Stage]:
        return [Stage("first", 1, views=0), Stage("second", 3, views=self.views)]

    def training_loss(self, batch: Any, step: Any) -> tuple[Tensor, dict[str, float]]:
        for key, image, mask in zip(batch.keys, batch.images, batch.masks, strict=True):
            self.shown[step.epoch, key] = image.numpy().tobytes() + mask.numpy().tobytes()
        return super().training_loss(batch, step)


def shown_to(method: nn.Module, epoch: int) -> dict[str, bytes]:
    return {key: pixels for (when, key), pixels in method.shown.items() if when == epoch}


def test_fixed_views_come_again_whatever_seed_and_batch() -> None:
    config = replace(CONFIG, epochs=8, augmentation="standard", batch_size=4)
    one, other = make(Watches, views=2), make(Watches, views=2)
    run(one, config, seed=0)
    run(other, replace(config, batch_size=3, learning_rate=0.1), seed=7)
    assert shown_to(one, 2) == shown_to(one, 4) == shown_to(one, 6) == shown_to(other, 2) == shown_to(other, 6)
    assert shown_to(one, 3) == shown_to(one, 5) == shown_to(other, 3)
    assert shown_to(one, 2) != shown_to(one, 3)


def test_no_views_are_the_images_as_they_are_and_none_is_new_each_time() -> None:
    data = make_data()
    method = make(Watches, views=None)
    run(method, replace(CONFIG, epochs=8, augmentation="standard"), data)
    rows = data.cache.rows(data.train)
    images = torch.from_numpy(data.cache.images[rows]).permute(0, 3, 1, 2).float().div(255)
    masks = torch.from_numpy(data.cache.masks[rows])[:, None].float()
    plain = {k: i.numpy().tobytes() + m.numpy().tobytes() for k, i, m in zip(data.train, images, masks, strict=True)}
    assert shown_to(method, 0) == shown_to(method, 1) == plain
    later = [shown_to(method, epoch) for epoch in range(2, 8)]
    assert all(a != b for i, a in enumerate(later) for b in later[:i])


# --- its rates and scores --------------------------------------------------------------------------------------------


def test_a_part_with_a_small_factor_moves_little() -> None:
    class Slow(toy_methods.TinyConv):
        def stages(self) -> list[Stage]:
            return [Stage("train", learning_rate={"encoder.*": 1e-3})]

    def moved(kind: type[nn.Module], part: str) -> float:
        method = make(kind, norm=False)
        before = copy_of(method)
        run(method, replace(ONE_STEP, learning_rate=0.1))
        return float((method.state_dict()[part] - before[part]).abs().max())

    assert moved(Slow, "encoder.0.weight") == pytest.approx(
        1e-3 * moved(toy_methods.TinyConv, "encoder.0.weight"), rel=1e-2
    )
    assert moved(Slow, "decoder.weight") == moved(toy_methods.TinyConv, "decoder.weight")


def test_a_stage_that_is_not_scored_hands_on_its_last_weights() -> None:
    predicted: list[str] = []

    class Blind(toy_methods.TinyConv):
        stage = "before"

        def stages(self) -> list[Stage]:
            return [Stage("blind", scored=False), Stage("seeing")]

        def training_loss(self, batch: Any, step: Any) -> tuple[Tensor, dict[str, float]]:
            self.stage = step.stage
            return super().training_loss(batch, step)

        def predict(self, images: Tensor, modality: Tensor) -> Tensor:
            if not self.training:
                predicted.append(self.stage)
            return super().predict(images, modality)

    config = replace(CONFIG, selection="training_domain_validation", patience=1, learning_rate=0.05)
    state = run(make(Blind), config)
    assert [row["stage"] for row in state.curves][:2] == ["blind", "blind"]
    assert all(math.isnan(row["validation_dice"]) == (row["stage"] == "blind") for row in state.curves)
    assert set(predicted) == {"seeing"}
    assert state.best_epoch > 2
