"""Which weights a fit leaves, and that the unseen domain has no say in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import toy_methods
from torch import Tensor, nn
from toy_training import CONFIG, SIZE, curves, make, make_data, run, same_bits

from harness.errors import UserError
from harness.methods.contract import Stage
from harness.training.fit import TrainingData

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
    data = replace(make_data(), score=[])
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
    one, other = run(clean, CONFIG, data), run(poison, CONFIG, poisoned(data, data.score))
    assert same_bits(clean, poison)
    assert [row["validation_dice"] for row in one.curves] != [row["validation_dice"] for row in other.curves]
