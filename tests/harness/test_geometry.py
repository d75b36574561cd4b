"""Trials with tiles and letterbox: from planning to masks of new images."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import toy_methods
from safetensors import safe_open
from torch import Tensor
from toy_training import CONFIG, CPU, make, same_bits

from harness.cli import main
from harness.config.checks import check_config
from harness.config.schema import InferenceConfig, TrainingConfig
from harness.data.batches.array_cache import ArrayCache
from harness.data.batches.geometry import GEOMETRIES, Geometry
from harness.data.dataset import Dataset
from harness.data.reading import read_mask
from harness.errors import UserError
from harness.inference.predict import predict_images
from harness.planning.plan import Plan
from harness.store.records import TrialEntry
from harness.store.store import Store
from harness.training.callbacks import usual_callbacks
from harness.training.epoch_result import EpochResult
from harness.training.fit import TrainingData, fit
from harness.trial import TrialContext, run_trial
from harness.trial_spec import TrialSpec
from tests.support.specs import trial_spec

ToyPlan = Callable[..., Plan]
OTHERS = ("letterbox", "tiles")


@pytest.fixture
def data(shared_dataset: Path, tmp_path: Path) -> TrainingData:
    """Of images of 48 to 64 pixels, as tiles of 32; 12 to train on, 6 to score."""
    samples = Dataset.open(shared_dataset).by_key()
    cache = ArrayCache.open(list(samples.values()), 32, tmp_path / "cache", geometry=Geometry("tiles"))
    keys = sorted(samples)
    return TrainingData(cache, samples, ["dermoscopy", "ultrasound"], keys[::2], keys[1::4])


class Interrupted(Exception):
    pass


def test_a_killed_fit_on_tiles_ends_with_the_same_bits(data: TrainingData, tmp_path: Path) -> None:
    config = replace(CONFIG, epochs=4, augmentation="standard", selection="training_domain_validation")

    def run(seed: int, folder: Path | None, stop: int = 0) -> torch.nn.Module:
        def report(epoch: EpochResult) -> None:
            if epoch.epoch == stop:
                raise Interrupted

        method, folder = make(toy_methods.TwoStages, seed=seed), folder or tmp_path / "none"
        callbacks = usual_callbacks(folder, report=report, checkpoint_seconds=0)
        fit(method, data, config, seed=0, device=CPU, folder=folder, callbacks=callbacks)
        return method

    whole = run(0, None)
    for epoch in (1, 3):
        with pytest.raises(Interrupted):
            run(0, tmp_path / "killed", stop=epoch)
    assert same_bits(whole, run(9, tmp_path / "killed"))


def test_the_epochs_are_compared_by_whole_images(data: TrainingData) -> None:
    """An image's Dice is of all its windows together: one in which all is right beside an empty one is no 1."""

    class RightWindowsOnly(toy_methods.TinyConv):
        def predict_oracle(self, images: Tensor, modality: Tensor, masks: Tensor) -> Tensor:
            return 2 * masks - 1 if self.training else torch.where(masks.mean((1, 2, 3), keepdim=True) > 0.3, masks, -1)

    scores: list[float] = []
    config = replace(CONFIG, epochs=1, selection="training_domain_validation")
    for kind in (toy_methods.RepeatsTheTruth, RightWindowsOnly):
        state = fit(make(kind), data, config, seed=0, device=CPU, folder=Path("/nonexistent"))
        scores.append(state.curves[-1]["validation_dice"])
        assert state.images_seen == len(data.train)
    assert scores[0] == 1 and 0.05 < scores[1] < 0.95


def masks_of(kind: type[torch.nn.Module], data: TrainingData, keys: list[str], batch_size: int) -> dict[str, Any]:
    found = predict_images(
        make(kind), keys, cache=data.cache, samples=data.samples, modalities=data.modalities, batch_size=batch_size,
        device=CPU, amp="off",
    )  # fmt: skip
    return {each.key: each for each in found}


def test_a_method_meets_batches_of_windows_and_never_more(data: TrainingData) -> None:
    sizes: list[int] = []

    class Watched(toy_methods.RepeatsTheTruth):
        def predict_oracle(self, images: Tensor, modality: Tensor, masks: Tensor) -> Tensor:
            sizes.append(len(images))
            return super().predict_oracle(images, modality, masks)

    keys = sorted(data.samples)[:5]
    found = masks_of(Watched, data, keys, 4)
    assert list(found) == keys and max(sizes) == 4 and sum(sizes) == sum(data.cache.layouts[key].count for key in keys)
    for key in keys:
        # Prompted in each window with its own part of the reference, the method repeats all of it.
        assert np.array_equal(found[key].mask, read_mask(data.samples[key].mask))


def test_a_method_that_adapts_starts_each_domain_anew(data: TrainingData) -> None:
    kept: list[toy_methods.LearnsAtTest] = []

    class Kept(toy_methods.LearnsAtTest):
        def __init__(self, modalities: Any) -> None:
            super().__init__(modalities)
            kept.append(self)

    found = masks_of(Kept, data, sorted(data.samples), 2)
    assert kept[0].resets == 6 + 1
    # The first two windows of a domain alone are foreground.
    filled = [key for key, each in found.items() if each.mask.any()]
    assert [key.rpartition("/")[2] for key in filled] == ["case_0"] * 6
    assert not any(each.mask.all() for each in found.values())


def test_an_image_is_taken_for_what_most_of_its_windows_are(data: TrainingData) -> None:
    class BySide(toy_methods.GuessesModality):
        def guess_modality(self, images: Tensor) -> Tensor:
            return (images.mean((1, 2, 3)) > images.mean()).long()

    found = masks_of(BySide, data, sorted(data.samples)[:4], 16)
    assert {each.guessed_modality for each in found.values()} <= {"dermoscopy", "ultrasound"}


@pytest.mark.e2e
@pytest.mark.parametrize("geometry", OTHERS)
def test_predict_uses_the_geometry_of_the_training(
    geometry: str, toy_plan: ToyPlan, context: TrialContext, shared_dataset: Path, tmp_path: Path
) -> None:
    suite = toy_plan("TinyConv", geometry=geometry)
    (trial,) = suite.trials
    store = Store(context.store_root)
    store.prepare()
    store.start_suite(suite.config.name, "{}", [TrialEntry.of(trial)])
    assert run_trial(trial, context)["state"] == "done"
    with safe_open(store.weights(trial.id), framework="pt") as file:
        about = json.loads(file.metadata()["method"])
    assert (about["geometry"], about["image_size"]) == (geometry, 32)
    words = ["--store", str(store.root), "--images", str(shared_dataset), "--out", str(tmp_path / "out")]
    assert main(["predict", trial.id[:8], *words]) == 0
    stored = store.prediction_folder(trial.ids) / "test"
    tested = sorted(stored.rglob("*.png"))
    assert len(tested) == 8
    for path in tested:
        modality, domain, name = path.relative_to(stored).parts
        again = tmp_path / "out" / "masks" / modality / domain / "images" / name
        assert np.array_equal(read_mask(again), read_mask(path))
    record = store.load(trial.ids)
    assert record.samples is not None and record.result is not None
    assert record.result["images_seen"] == 2 * len(trial.split.train)


@pytest.mark.e2e
def test_modalities_in_tiles_beside_whole_images(
    toy_plan: ToyPlan, context: TrialContext, shared_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = toy_plan("TinyConv", tiled=["ultrasound", "fundus"])
    (trial,) = suite.trials
    assert trial.trained.tiled == ["ultrasound"], "the data have no fundus"
    store = Store(context.store_root)
    store.prepare()
    store.start_suite(suite.config.name, "{}", [TrialEntry.of(trial)])
    assert run_trial(trial, context)["state"] == "done"
    with safe_open(store.weights(trial.id), framework="pt") as file:
        assert json.loads(file.metadata()["method"])["tiled"] == ["ultrasound"]

    words = ["predict", trial.id[:8], "--store", str(store.root), "--images", str(shared_dataset)]
    assert main([*words, "--out", str(tmp_path / "unknown")]) == 2
    assert (
        "tiles of ultrasound" in (message := capsys.readouterr().err) and "--modality dermoscopy|ultrasound" in message
    )
    for modality in ("dermoscopy", "ultrasound"):
        out = tmp_path / modality
        assert main([*words, "--out", str(out), "--modality", modality]) == 0
        tested = sorted((store.prediction_folder(trial.ids) / "test" / modality).rglob("*.png"))
        assert len(tested) == 4
        for path in tested:
            domain, name = path.relative_to(store.prediction_folder(trial.ids) / "test" / modality).parts
            assert np.array_equal(read_mask(out / "masks" / modality / domain / "images" / name), read_mask(path))


def test_tiled_modalities_are_checked_and_part_of_the_ids(toy_plan: ToyPlan) -> None:
    (plain,), (tiled,) = toy_plan("TinyConv").trials, toy_plan("TinyConv", tiled=["ultrasound"]).trials
    assert plain.ids.training != tiled.ids.training and plain.ids.prediction != tiled.ids.prediction
    (empty,), (absent,) = toy_plan("TinyConv", tiled=[]).trials, toy_plan("TinyConv", tiled=["xray"]).trials
    assert plain.ids == empty.ids == absent.ids
    (all_tiles,), (both,) = (
        toy_plan("TinyConv", geometry="tiles", tiled=names).trials for names in ([], ["ultrasound"])
    )
    assert all_tiles.ids == both.ids
    assert tiled.predicted.size_words == "32 px, stretch, tiles of ultrasound"
    with pytest.raises(UserError, match=r"no modality 'ultrasond'\. Did you mean 'ultrasound'\?"):
        toy_plan("TinyConv", tiled=["ultrasond"])


def test_the_truth_as_prompt_gives_the_truth_on_tiles(toy_config: Callable[..., Any], context: TrialContext) -> None:
    from harness.planning.plan import build_plan

    config = toy_config("RepeatsTheTruth", geometry="tiles")
    config.methods["repeatsthetruth"]["card"] = {**config.methods["repeatsthetruth"]["card"], "prompt": "oracle box"}
    (trial,) = build_plan(config).trials
    assert run_trial(trial, context)["state"] == "done"
    samples = Store(context.store_root).load(trial.ids).samples
    assert isinstance(samples, pd.DataFrame) and (samples["dice"] == 1).all()


def test_each_geometry_is_a_trial_of_its_own_and_stretch_keeps_its_ids() -> None:
    def spec(**training: Any) -> TrialSpec:
        return trial_spec(training=training)

    assert spec(geometry="stretch").ids == spec().ids
    assert len({spec(geometry=geometry).id for geometry in GEOMETRIES}) == 3
    assert "geometry" not in json.loads(spec(geometry="stretch").weights_metadata()["method"])
    assert TrialSpec.from_json(spec(geometry="tiles").to_json()) == spec(geometry="tiles")
    tiled = spec(geometry="tiles")
    assert tiled.ids.prediction != replace(tiled, inference=replace(tiled.predicted, geometry="stretch")).ids.prediction
    before = tiled.to_json()
    for part, key in (("training", "training"), ("prediction", "inference")):
        del before[part][key]["geometry"]
    assert TrialSpec.from_json(before) == spec()  # as it was written before there was a choice


def test_the_setting_is_checked(toy_config: Callable[..., Any]) -> None:
    with pytest.raises(UserError, match=r"training\.geometry=tile is unknown.*Did you mean 'tiles'"):
        check_config(toy_config(geometry="tile"))
    assert InferenceConfig.of(TrainingConfig(geometry="tiles")).size_words == "128 px, tiles"
    assert InferenceConfig.of(TrainingConfig()).size_words == "128 px"
