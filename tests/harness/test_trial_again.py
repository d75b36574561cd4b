"""A finished trial under other rules: what is still sound is neither trained nor predicted again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import toy_methods
from PIL import Image
from support.stores import files_of

from harness.data.reading import read_mask
from harness.planning.plan import Plan
from harness.store.store import Store
from harness.trial import TrialContext, run_trial

ToyPlan = Callable[..., Plan]


def counted(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often a trial is fitted, and how many images are predicted."""
    import harness.inference.predict
    import harness.training.fit

    counts, fit, predict = {"fits": 0, "images": 0}, harness.training.fit.fit, harness.inference.predict.predict_images

    def fit_counted(*args: Any, **options: Any) -> Any:
        counts["fits"] += 1
        return fit(*args, **options)

    def predict_counted(method: Any, keys: Any, **options: Any) -> Any:
        counts["images"] += len(keys)
        return predict(method, keys, **options)

    monkeypatch.setattr("harness.training.fit.fit", fit_counted)
    monkeypatch.setattr("harness.inference.predict.predict_images", predict_counted)
    return counts


def test_the_fastest_form_is_made_once_for_all_that_a_trial_predicts(
    toy_plan: ToyPlan, context: TrialContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def accelerated(self: toy_methods.TinyConv, *made_for: Any) -> toy_methods.TinyConv:
        asked.append(made_for)
        return self

    monkeypatch.setattr(toy_methods.TinyConv, "accelerated", accelerated, raising=False)
    (trial,) = toy_plan("TinyConv").trials
    assert trial.split.test and trial.split.validation
    assert run_trial(trial, context)["state"] == "done"
    assert len(asked) == 1


@pytest.mark.parametrize("kept", [True, False])
def test_other_rules_of_measuring_train_nothing(
    toy_plan: ToyPlan, context: TrialContext, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    """With the masks at hand nothing is predicted either; without them the kept weights give the same masks again."""
    (trial,) = toy_plan("TwoStages", epochs=4).trials
    context = replace(context, predictions=kept)
    run_trial(trial, context)
    store = Store(context.store_root)
    weights = store.weights(trial.id)
    before = weights.read_bytes(), weights.stat().st_mtime_ns
    counts = counted(monkeypatch)
    other = replace(trial, evaluation=replace(trial.evaluation, nsd_tolerance=9.0))
    assert other.ids.prediction == trial.ids.prediction and other.ids.measurement != trial.ids.measurement
    assert run_trial(other, context)["state"] == "done"
    assert counts == {"fits": 0, "images": 0 if kept else len(trial.split.test) + len(trial.split.validation)}
    assert (weights.read_bytes(), weights.stat().st_mtime_ns) == before
    first, second = (store.load(each.ids).samples for each in (trial, other))
    assert first is not None and second is not None
    pd.testing.assert_frame_equal(first.drop(columns="nsd"), second.drop(columns="nsd"), check_exact=True)
    assert not first["nsd"].equals(second["nsd"])


@pytest.mark.usefixtures("small_dataset")
def test_corrected_references_train_and_predict_nothing(
    toy_plan: ToyPlan, context: TrialContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = toy_plan()
    (trial,) = suite.trials
    run_trial(trial, context)
    mask = suite.dataset.by_key()[trial.split.test[0]].mask
    pixels = read_mask(mask)
    Image.fromarray(np.roll(pixels, 3, 0)).save(mask)
    (suite.dataset.root / "manifest.csv").unlink()
    from harness.planning.plan import build_plan

    (corrected,) = build_plan(suite.config).trials
    assert corrected.ids.prediction == trial.ids.prediction and corrected.ids.measurement != trial.ids.measurement
    counts = counted(monkeypatch)
    run_trial(corrected, context)
    assert counts == {"fits": 0, "images": 0}
    store = Store(context.store_root)
    assert store.spec(corrected.ids) == corrected and store.spec(trial.ids) == trial
    first, second = (store.load(each.ids).samples for each in (trial, corrected))
    assert first is not None and second is not None
    assert (first["dice"] != second["dice"]).sum() <= 1 and first["assd"].ne(second["assd"]).any()


@pytest.mark.parametrize("harm", ["weights", "mask", "samples"])
def test_what_is_damaged_is_made_again_and_nothing_above_it(
    toy_plan: ToyPlan, context: TrialContext, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    (trial,) = toy_plan(epochs=2).trials
    run_trial(trial, context)
    store = Store(context.store_root)
    whole = files_of(store.measurement_folder(trial.ids))
    if harm == "weights":  # found out when they are needed: without masks
        store.forget_masks(trial.ids)
        store.weights(trial.id).write_bytes(store.weights(trial.id).read_bytes()[:-4] + b"abcd")
    elif harm == "mask":
        store.mask(trial.ids, "test", trial.split.test[0]).write_bytes(b"no picture")
    (store.measurement_folder(trial.ids) / "samples.parquet").write_bytes(b"half")
    counts = counted(monkeypatch)
    assert store.result(trial.ids) is None
    assert run_trial(trial, context)["state"] == "done"
    assert counts["fits"] == (harm == "weights")
    assert (counts["images"] > 0) == (harm != "samples")
    assert files_of(store.measurement_folder(trial.ids)) == whole
