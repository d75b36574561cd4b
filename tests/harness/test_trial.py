"""One trial from spec to stored result; a failure is reported and stored, and harms no other trial."""

from __future__ import annotations

import errno
import json
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import toy_methods
from PIL import Image
from safetensors.torch import load_file
from support.stores import files_of

import harness.evaluation.measure as measure_module
from harness.data.reading import read_mask
from harness.errors import StopExpired, UserError
from harness.methods.contract import Stage
from harness.metrics import dice
from harness.planning.plan import Plan
from harness.store.store import Store
from harness.training.epoch_result import EpochResult
from harness.trial import TrialContext, run_trial
from harness.trial_spec import TrialIds, TrialSpec

ToyPlan = Callable[..., Plan]


def run(trial: TrialSpec, context: TrialContext, **options: Any) -> dict[str, Any]:
    return run_trial(trial, context, **options)


def test_a_trial_is_written_whole(toy_plan: ToyPlan, context: TrialContext) -> None:
    (trial,) = toy_plan().trials
    events: list[EpochResult | None] = []
    status = run(trial, context, report=events.append)
    assert (status["state"], status["reason"]) == ("done", None)
    store = Store(context.store_root)
    record = store.load(trial.ids)
    split = trial.split

    assert store.spec(trial.ids) == trial
    assert record.status.state == "done"
    assert record.samples is not None
    assert record.curves is not None
    assert record.result is not None
    assert tuple(record.samples.key) == split.test + split.validation
    assert list(record.samples.role) == ["test"] * len(split.test) + ["validation"] * len(split.validation)
    assert {
        "key", "modality", "domain", "id", "subject", "role", "width", "height", "dice", "iou", "precision",
        "recall", "hd95", "hd95_max", "hd", "assd", "nsd", "boundary_iou", "cldice", "reference_pixels", "predicted_pixels", "empty",
    } == set(record.samples.columns)  # fmt: skip
    test = record.samples[record.samples.role == "test"]
    assert record.result["test_dice"] == pytest.approx(test.groupby(["modality", "domain"]).dice.mean().mean())
    assert (record.result["epochs"], record.result["images_seen"]) == (2, 2 * len(split.train))
    assert record.result["stages"] == [Stage("train").to_json()]
    assert list(record.curves.columns) == [
        "epoch",
        "stage",
        "train_loss",
        "validation_dice",
        "learning_rate",
        "seconds",
    ]
    assert record.provenance["command"] == ["a", "b"]
    assert record.provenance["libraries"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert record.provenance["machine"]["device"] == "cpu"
    assert [epoch and epoch.epoch for epoch in events] == [1, 2, None]
    weights = load_file(store.weights(trial.id))
    assert weights.keys() == toy_methods.TinyConv(["x"]).state_dict().keys()
    assert not (record.folder / "checkpoint").exists()
    assert not list(store.root.rglob("*.tmp"))


def test_kept_predictions_reproduce_the_dice(toy_plan: ToyPlan, context: TrialContext) -> None:
    suite = toy_plan(epochs=4)
    (trial,) = suite.trials
    run(trial, context)
    store = Store(context.store_root)
    record = store.load(trial.ids)
    assert record.samples is not None
    assert len(list(record.folder.rglob("*.png"))) == len(record.samples)
    for row in record.samples.itertuples():
        with Image.open(store.mask(trial.ids, row.role, row.key)) as picture:
            assert (picture.mode, picture.size) == ("1", (row.width, row.height))
            predicted = np.asarray(picture)
        assert dice(predicted, read_mask(suite.dataset.by_key()[row.key].mask)) == row.dice
    assert record.samples.dice.max() > 0


def test_masks_are_measured_while_others_are_predicted(
    toy_plan: ToyPlan, context: TrialContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    (trial,) = toy_plan().trials
    measured, write, measure = threading.Event(), Store.write_mask, measure_module.measure_file
    last = measure_module.measured_keys(trial)[-1]

    def wait_before_the_last(store: Store, ids: TrialIds, role: str, key: str, mask: Any) -> None:
        assert (role, key) != last or measured.wait(60)
        write(store, ids, role, key, mask)

    def measure_and_tell(task: measure_module.MaskTask) -> dict[str, Any]:
        row = measure(task)
        measured.set()
        return row

    monkeypatch.setattr(Store, "write_mask", wait_before_the_last)
    monkeypatch.setattr(measure_module, "measure_file", measure_and_tell)
    assert run(trial, context)["state"] == "done"


def test_a_mask_that_cannot_be_measured_loses_no_prediction(
    toy_plan: ToyPlan, context: TrialContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    (trial,) = toy_plan().trials
    store = Store(context.store_root)

    def fail(task: measure_module.MaskTask) -> dict[str, Any]:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(measure_module, "measure_file", fail)
        assert run(trial, context)["state"] == "failed"
    assert store.has_masks(trial.ids)
    monkeypatch.setattr("harness.trial.predict_and_keep", None)  # is not called again
    assert run(trial, context)["state"] == "done"


def test_few_masks_wait_in_memory(toy_plan: ToyPlan, context: TrialContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread writes and measures, so four masks wait at most, however slow it is."""
    (trial,) = toy_plan().trials
    under_way, most = Counter[str](), 0
    keep, measure = measure_module.MeasuringThreads.keep, measure_module.measure_file

    def counted(self: measure_module.MeasuringThreads, role: str, key: str, mask: Any) -> None:
        nonlocal most
        keep(self, role, key, mask)
        under_way["kept"] += 1
        most = max(most, under_way["kept"] - under_way["measured"])

    def slowly(task: measure_module.MaskTask) -> dict[str, Any]:
        time.sleep(0.02)
        row = measure(task)
        under_way["measured"] += 1
        return row

    monkeypatch.setattr(measure_module.MeasuringThreads, "keep", counted)
    monkeypatch.setattr(measure_module, "measure_file", slowly)
    assert run(trial, context)["state"] == "done"
    assert under_way["kept"] == under_way["measured"] > 8
    assert 1 < most <= 4


def test_a_mask_that_cannot_be_written_ends_the_prediction_soon(
    toy_plan: ToyPlan, context: TrialContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    (trial,) = toy_plan().trials
    tried = []

    def full(store: Store, ids: TrialIds, role: str, key: str, mask: Any) -> None:
        tried.append(key)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "write_mask", full)
        assert run(trial, context)["state"] == "failed"
    assert len(tried) < len(measure_module.measured_keys(trial))
    assert not Store(context.store_root).has_masks(trial.ids)
    assert run(trial, context)["state"] == "done"


def test_what_need_not_be_kept_is_not(toy_plan: ToyPlan, context: TrialContext) -> None:
    (trial,) = toy_plan().trials
    run(trial, replace(context, predictions=False, keep_weights=False))
    folder = Store(context.store_root).trial_folder(trial.id)
    assert not list(folder.rglob("*.png"))
    assert not list(folder.rglob("*.safetensors"))
    assert Store(context.store_root).result(trial.ids) is not None


def test_the_same_spec_gives_the_same_bytes_whatever_ran_before(toy_plan: ToyPlan, context: TrialContext) -> None:
    trials = toy_plan("TinyConv", "TwoStages", augmentation="standard").trials
    other = replace(context, store_root=context.store_root + "2")
    for order, where in ((trials, context), (trials[::-1], other)):
        for trial in order:
            run(trial, where)
    for trial in trials:
        one, two = (Store(where.store_root) for where in (context, other))
        assert one.weights(trial.id).read_bytes() == two.weights(trial.id).read_bytes()
        assert files_of(one.measurement_folder(trial.ids)) == files_of(two.measurement_folder(trial.ids))


def test_a_spec_that_travelled_as_json_is_the_same_trial(toy_plan: ToyPlan, context: TrialContext) -> None:
    (trial,) = toy_plan().trials
    spec = TrialSpec.from_json(json.loads(json.dumps(trial.to_json())))
    assert spec.id == trial.id
    assert run_trial(spec, context)["state"] == "done"
    assert Store(context.store_root).spec(trial.ids) == trial


def test_a_killed_trial_goes_on_and_ends_with_the_same_bytes(toy_plan: ToyPlan, context: TrialContext) -> None:
    context = replace(context, checkpoint_seconds=0)
    (trial,) = toy_plan("TwoStages", epochs=4).trials
    run(trial, replace(context, store_root=context.store_root + "-whole"))
    epochs: list[int] = []

    def kill(epoch: EpochResult | None) -> None:
        epochs.append(epoch.epoch if epoch else 0)
        if epochs[-1] == 3 and len(epochs) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(trial, context, report=kill)
    store = Store(context.store_root)
    assert store.status(trial.id).state == "interrupted"
    assert store.result(trial.ids) is None
    assert run(trial, context, report=kill)["state"] == "done"
    assert epochs == [1, 2, 3, 4, 0]  # an epoch is reported after its state was saved
    whole = Store(context.store_root + "-whole").measurement_folder(trial.ids)
    assert files_of(store.measurement_folder(trial.ids)) == files_of(whole)


def test_floors_train_nothing_and_are_tested_all_the_same(toy_plan: ToyPlan, context: TrialContext) -> None:
    (trial,) = toy_plan("Floor").trials
    run(trial, context)
    record = Store(context.store_root).load(trial.ids)
    assert record.result is not None
    assert record.samples is not None
    assert record.curves is not None
    assert (record.result["epochs"], len(record.curves)) == (0, 0)
    assert (record.samples.predicted_pixels == record.samples.width * record.samples.height).all()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Broken", "ZeroDivisionError: a mistake in the method's code (toy_methods.py, line "),
        ("TargetsDiffer", "must be the same as input size"),
        ("LossBecomesNan", "The training loss became nan in epoch 1"),
        ("WrongShape", "WrongShape.predict gave logits of shape"),
        ("Leaves", "SystemExit: no licence (toy_methods.py, line "),
        ("OddWords", "OSError: no \\udcff (toy_methods.py, line "),
        ("GrowsLate", "'late' in the state of GrowsLate came while it trained. Expected all weights"),
    ],
)
def test_a_method_that_fails_is_recorded_with_its_cause(
    toy_plan: ToyPlan, context: TrialContext, name: str, reason: str
) -> None:
    (trial,) = toy_plan(name).trials
    status = run(trial, context)
    assert status["state"] == "failed"
    store = Store(context.store_root)
    assert reason in status["reason"]
    assert reason in store.status(trial.id).reason
    assert store.status(trial.id).state == "failed"
    assert store.result(trial.ids) is None
    text = (store.trial_folder(trial.id) / "error.txt").read_text()
    assert "Traceback" in text


@pytest.mark.parametrize("raised", [KeyboardInterrupt, StopExpired])
def test_a_stop_that_a_librarys_clean_up_hides_is_no_failure(
    toy_plan: ToyPlan, context: TrialContext, monkeypatch: pytest.MonkeyPatch, raised: type[BaseException]
) -> None:
    def stopped(self: object, modalities: list[str]) -> None:
        try:
            raise raised
        finally:
            {}["what the stop left undone"]

    (trial,) = toy_plan().trials
    monkeypatch.setattr(toy_methods.TinyConv, "__init__", stopped)
    with pytest.raises(raised):
        run(trial, context)
    assert Store(context.store_root).status(trial.id).state == "interrupted"


def test_an_error_in_a_library_names_the_line_that_called_it(toy_plan: ToyPlan, context: TrialContext) -> None:
    (trial,) = toy_plan("TargetsDiffer").trials
    source = Path(toy_methods.__file__).read_text("utf-8").splitlines()
    (line,) = [number for number, text in enumerate(source, 1) if "masks[:, :, 1:])" in text]
    assert str(run(trial, context)["reason"]).endswith(f" (toy_methods.py, line {line})")


def test_a_trial_that_failed_once_can_succeed_later(
    toy_plan: ToyPlan, context: TrialContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    (trial,) = toy_plan("Broken").trials
    assert run(trial, context)["state"] == "failed"
    monkeypatch.setattr(toy_methods.Broken, "training_loss", toy_methods.TinyConv.training_loss)
    assert run(trial, context)["state"] == "done"
    record = Store(context.store_root).load(trial.ids)
    assert record.status.state == "done"
    assert record.status.reason is None
    assert not (record.folder / "error.txt").exists()


def test_a_leak_in_the_spec_is_refused(toy_plan: ToyPlan, context: TrialContext) -> None:
    suite = toy_plan()
    (trial,) = suite.trials
    (split,) = suite.splits
    stolen = replace(split, train=(*split.train, split.test[0]))
    spec = replace(trial, split=stolen.with_content(suite.dataset.by_key()))
    with pytest.raises(UserError, match="Leak in split"):
        run_trial(spec, context)
    store = Store(context.store_root)
    assert store.status(spec.id).state == "failed"
    assert "Leak" in store.status(spec.id).reason


def test_a_split_that_is_not_what_its_fingerprint_says_is_refused(toy_plan: ToyPlan, context: TrialContext) -> None:
    (trial,) = toy_plan().trials
    spec = replace(trial, split=replace(trial.split, train=trial.split.train[:-1]))
    with pytest.raises(UserError, match="changed since the trial was planned"):
        run_trial(spec, context)


@pytest.mark.usefixtures("small_dataset")
def test_images_that_changed_since_the_plan_are_refused(toy_plan: ToyPlan, context: TrialContext) -> None:
    suite = toy_plan()
    (trial,) = suite.trials
    path = suite.dataset.by_key()[trial.split.train[0]].image
    with Image.open(path) as picture:
        darker = np.asarray(picture) // 2
    Image.fromarray(darker).save(path)
    with pytest.raises(UserError, match=path.name):  # not what the manifest says
        run(trial, context)
    (suite.dataset.root / "manifest.csv").unlink()
    with pytest.raises(UserError, match="changed since the trial was planned"):
        run(trial, context)


@pytest.mark.usefixtures("small_dataset")
def test_an_image_that_is_gone_is_named(toy_plan: ToyPlan, context: TrialContext) -> None:
    suite = toy_plan()
    (trial,) = suite.trials
    sample = suite.dataset.by_key()[trial.split.test[0]]
    sample.image.unlink()
    sample.mask.unlink()
    (suite.dataset.root / "manifest.csv").unlink()
    with pytest.raises(UserError, match=f"lacks 1 images of split fold0, the first is {sample.key}"):
        run(trial, context)


def test_a_full_disk_is_the_users_to_mend_and_stops_the_run(
    toy_plan: ToyPlan, context: TrialContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    (trial,) = toy_plan().trials
    make_temporary = tempfile.mkstemp

    def full(*args: Any, **options: Any) -> Any:
        if "samples.parquet" in options.get("prefix", ""):
            raise OSError(28, "No space left on device")
        return make_temporary(*args, **options)

    monkeypatch.setattr(tempfile, "mkstemp", full)
    with pytest.raises(UserError, match=r"samples\.parquet: the disk is full"):
        run(trial, context)
    store = Store(context.store_root)
    assert store.result(trial.ids) is None
    monkeypatch.undo()
    assert run(trial, context)["state"] == "done"


def test_the_oracle_is_scored_on_the_test_domain_and_says_so(toy_plan: ToyPlan, context: TrialContext) -> None:
    (trial,) = toy_plan(selection="oracle").trials
    run(trial, context)
    record = Store(context.store_root).load(trial.ids)
    assert record.curves is not None
    assert "test_dice" in record.curves
    assert "validation_dice" not in record.curves


@pytest.mark.usefixtures("small_dataset")
def test_test_images_reach_nothing_but_the_test_rows(toy_plan: ToyPlan, context: TrialContext) -> None:
    """The whole trial again on data whose test images (and only they) are noise."""
    suite = toy_plan(augmentation="standard")
    (trial,) = suite.trials
    run(trial, context)
    random = np.random.default_rng(0)
    for key in trial.split.test:
        sample = suite.dataset.by_key()[key]
        noise = random.integers(0, 256, (sample.height, sample.width, 3), dtype=np.uint8)
        Image.fromarray(noise).save(sample.image)
    (suite.dataset.root / "manifest.csv").unlink()
    from harness.planning.plan import build_plan

    (poisoned,) = build_plan(suite.config).trials
    # The weights are the same by their id, and by their bits where they are trained once more.
    assert poisoned.ids.training == trial.ids.training and poisoned.ids.prediction != trial.ids.prediction
    run(poisoned, replace(context, store_root=context.store_root + "-poisoned"))
    clean, noisy = Store(context.store_root), Store(context.store_root + "-poisoned")
    assert clean.weights(trial.id).read_bytes() == noisy.weights(trial.id).read_bytes()
    first, second = clean.load(trial.ids).samples, noisy.load(poisoned.ids).samples
    assert first is not None
    assert second is not None
    pd.testing.assert_frame_equal(
        first[first.role == "validation"],
        second[second.role == "validation"],
    )
    assert not first.dice.equals(second.dice)


def test_a_method_gets_the_shared_cache_and_its_guesses_are_kept(toy_plan: ToyPlan, context: TrialContext) -> None:
    (trial,) = toy_plan("GuessesModality").trials
    assert run(trial, context)["state"] == "done"
    assert (Path(context.cache_folder) / "embeddings" / "was here").exists()
    samples = Store(context.store_root).load(trial.ids).samples
    assert samples is not None
    assert set(samples.guessed_modality) == {"ultrasound"}


def test_a_card_that_hides_the_truth_stops_the_run_before_it_starts(toy_plan: ToyPlan, context: TrialContext) -> None:
    from harness.planning.checks import check_methods

    suite = toy_plan("RepeatsTheTruth")
    with pytest.raises(UserError, match="its card says prompt: none"):
        check_methods(suite.trials)
    with pytest.raises(UserError, match="its card says prompt: none"):
        run(suite.trials[0], context)
