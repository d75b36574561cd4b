"""A trial of protocol=corruptions: kept weights predict corrupted test images, nothing is trained again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from harness.config import RunConfig
from harness.data.batches.array_cache import ArrayCache
from harness.data.batches.corrupted import CorruptedPixels
from harness.data.batches.loader import evaluation_batches
from harness.data.batches.pixels import Pixels
from harness.data.corruptions.registry import corrupted
from harness.data.dataset import Dataset
from harness.evaluation.measure import measured_keys
from harness.execution.measuring import measure_missing
from harness.planning.plan import build_plan
from harness.store.store import Store
from harness.trial import TrialContext, run_trial
from harness.trial_spec import TrialSpec

ToyConfig = Callable[..., RunConfig]


def plans(config: RunConfig) -> tuple[TrialSpec, TrialSpec]:
    """The clean trial, and the one with noise, hair and speckle."""
    protocol = replace(config.protocol, name="corruptions", corruptions=["noise", "hair", "speckle"], severities=[2, 5])
    (clean,), (other,) = build_plan(config).trials, build_plan(replace(config, protocol=protocol)).trials
    return clean, other


def samples_of(context: TrialContext, trial: TrialSpec) -> pd.DataFrame:
    found = Store(context.store_root).load(trial.ids).samples
    assert found is not None
    return found


def test_weights_of_the_clean_protocol_are_used_and_nothing_is_trained(
    toy_config: ToyConfig, context: TrialContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean, other = plans(toy_config(epochs=3))
    run_trial(clean, context)
    store = Store(context.store_root)
    before = store.weights(clean.id).read_bytes(), store.weights(clean.id).stat().st_mtime_ns

    def no_fit(*_: Any, **__: Any) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr("harness.training.fit.fit", no_fit)
    assert run_trial(other, context)["state"] == "done"
    assert (store.weights(other.id).read_bytes(), store.weights(other.id).stat().st_mtime_ns) == before
    assert store.spec(other.ids) == other and store.spec(clean.ids) == clean

    first, second = samples_of(context, clean), samples_of(context, other)
    plain = second[second["role"].isin(["test", "validation"])]
    pd.testing.assert_frame_equal(first, plain.reset_index(drop=True), check_exact=True)
    assert store.load(other.ids).result["test_dice"] == store.load(clean.ids).result["test_dice"]  # type: ignore[index]


def test_each_corrupted_form_has_a_row_and_a_mask(toy_config: ToyConfig, context: TrialContext) -> None:
    _, other = plans(toy_config())
    assert run_trial(other, context)["state"] == "done"
    table, store = samples_of(context, other), Store(context.store_root)
    assert list(zip(table["role"], table["key"], strict=True)) == measured_keys(other)
    rows = table[table["role"].str.startswith("corrupted/")]
    counts = rows.groupby("role").size()
    tests = pd.Series(other.split.test).str.split("/").str[0].value_counts()
    assert counts["corrupted/noise-2"] == len(other.split.test)
    assert counts["corrupted/hair-5"] == tests["dermoscopy"] and counts["corrupted/speckle-5"] == tests["ultrasound"]
    assert rows["dice"].notna().all() and rows[["hd95", "iou", "nsd"]].isna().all(axis=None)
    assert all(store.mask(other.ids, role, key).is_file() for role, key in measured_keys(other))
    assert store.has_masks(other.ids)


def test_masks_are_those_of_the_corrupted_pixels(toy_config: ToyConfig, context: TrialContext) -> None:
    """Strong noise gives another answer than none, and the same one whenever it is asked for."""
    _, other = plans(toy_config(epochs=3))
    run_trial(other, context)
    table = samples_of(context, other)
    clean = table[table["role"] == "test"].set_index("key")["predicted_pixels"]
    strong = table[table["role"] == "corrupted/noise-5"].set_index("key")["predicted_pixels"]
    assert (clean != strong).any()
    again = replace(context, store_root=context.store_root + "-again")
    run_trial(other, again)
    pd.testing.assert_frame_equal(table, samples_of(again, other), check_exact=True)


def test_forgotten_masks_are_predicted_again_for_measure(toy_config: ToyConfig, context: TrialContext) -> None:
    _, other = plans(toy_config())
    context = replace(context, predictions=False)
    run_trial(other, context)
    store = Store(context.store_root)
    assert not list(store.prediction_folder(other.ids).rglob("*.png"))
    table = samples_of(context, other)
    rules = replace(other, evaluation=replace(other.evaluation, nsd_tolerance=9.0))
    assert measure_missing(rules, context, ["dice", "nsd"], map, {}).state == "measured"
    found = samples_of(context, rules)
    pd.testing.assert_frame_equal(found[["role", "key", "dice"]], table[["role", "key", "dice"]], check_exact=True)
    # A metric that comes later keeps the Dice of the corrupted rows.
    assert measure_missing(rules, context, ["dice", "nsd", "iou"], map, {}).metrics == ("iou",)
    later = samples_of(context, rules)
    pd.testing.assert_series_equal(later["dice"], table["dice"])
    assert later.loc[later["role"] == "test", "iou"].notna().all()


def test_a_method_that_guesses_the_modality_is_asked_for_corrupted_images_too(
    toy_config: ToyConfig, context: TrialContext
) -> None:
    _, other = plans(toy_config("GuessesModality"))
    assert run_trial(other, context)["state"] == "done"
    assert samples_of(context, other)["guessed_modality"].eq("ultrasound").all()


def test_batches_are_corrupted_on_the_way_and_named_apart(shared_dataset: Path, tmp_path: Path) -> None:
    dataset = Dataset.open(shared_dataset)
    cache = ArrayCache.open(dataset.samples, 32, tmp_path / "cache")
    keys = [sample.key for sample in dataset.samples][:5]
    source = CorruptedPixels(cache, "cpu", "noise", 4, seed=3)
    pixels, samples = Pixels(cache, keys), dataset.by_key()
    plain = list(evaluation_batches(pixels, keys, dataset.modalities(), samples, 2))
    found = list(evaluation_batches(pixels, keys, dataset.modalities(), samples, 2, source))
    assert [batch.keys for batch in found] == [batch.keys for batch in plain]
    for one, two in zip(plain, found, strict=True):
        assert torch.equal(one.masks, two.masks)
        assert not set(one.image_names or ()) & set(two.image_names or ())
        for key, image in zip(two.keys, two.images, strict=True):
            expected = corrupted(cache.images[cache.index[key]], "noise", 4, 3)
            assert np.array_equal(np.rint(image.permute(1, 2, 0).numpy() * 255).astype(np.uint8), expected)
