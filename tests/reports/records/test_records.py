"""What was expected, what was found, and what became of the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
from support.stores import ids

from harness.errors import UserError
from harness.metrics import REGISTRY
from harness.store.records import TrialEntry
from harness.store.store import Store
from reports.records.reading import read_records
from reports.records.records import MethodFacts
from reports.records.runs import find_suite


def read(simulated: Any) -> Any:
    store = Store(simulated.root)
    return read_records(store, find_suite(store))


def test_every_expected_trial_is_there_with_its_state(holed: Any) -> None:
    records = read(holed)
    assert Counter(trial.state for trial in records.trials) == {"done": 10, "failed": 1, "missing": 1}
    failed = next(trial for trial in records.trials if trial.state == "failed")
    assert (failed.method, failed.fold) == ("unet", "fold2") and "NaN in epoch 2" in failed.reason
    assert len(records.samples) == 10 * (16 + 12)


def test_cells_say_which_domains_have_holes(holed: Any) -> None:
    cells = read(holed).cells.set_index(["method", "role", "domain"])
    assert cells.loc[("unet", "test", "fundus/screening"), "state"] == "failed"
    assert cells.loc[("unet", "test", "fundus/atlas"), "state"] == "done"
    # The trial that was never begun has no spec: its split is known from other methods.
    assert cells.loc[("otsu", "test", "dermoscopy/clinic"), "state"] == "missing"
    # Seen images of `atlas` come from folds 1 and 2; one of them failed.
    assert cells.loc[("unet", "validation", "fundus/atlas"), ["expected", "found"]].tolist() == [2, 1]


def test_interrupted_and_damaged_trials_are_holes_not_errors(make_store: Callable[..., Any]) -> None:
    simulated = make_store(faults={("unet", 0): "running"}, predictions=False)
    damaged = Store(simulated.root).measurement_folder(simulated.ids["otsu", "fold0", 0])
    (damaged / "samples.parquet").write_bytes(b"half a file")
    states = {(trial.method, trial.fold): trial for trial in read(simulated).trials if trial.state != "done"}
    assert (
        states["unet", "fold0"].state == "unfinished"
        and states["unet", "fold0"].reason == "interrupted in epoch 1 of 2"
    )
    assert states["otsu", "fold0"].state == "damaged" and "checksums" in states["otsu", "fold0"].reason
    assert len(states) == 2
    # Reading changes nothing: the next report says the same.
    assert next(trial.state for trial in read(simulated).trials if trial.method == "otsu") == "damaged"
    assert damaged.exists()


def test_a_running_trial_is_distinguished_from_one_whose_process_is_gone(make_store: Callable[..., Any]) -> None:
    simulated = make_store(faults={("unet", 0): "running"}, predictions=False)
    with Store(simulated.root).trial_lock(simulated.ids["unet", "fold0", 0].training):
        (alive,) = (trial for trial in read(simulated).trials if trial.state != "done")
    assert (alive.state, alive.reason) == ("unfinished", "running, in epoch 1 of 2")
    Store(simulated.root).write_status(alive.ids.training, "running", epoch=0)
    (gone,) = (trial for trial in read(simulated).trials if trial.state != "done")
    assert (gone.state, gone.reason) == ("unfinished", "interrupted before the end of its first epoch")


def test_methods_of_one_title_are_distinguished_by_name(make_store: Callable[..., Any]) -> None:
    cards = {
        "unet": {"title": "U-Net"},
        "unet_wide": {"title": "u-net"},
        "otsu": {"title": "Otsu"},
    }
    methods = read(make_store(cards=cards, faults={}, predictions=False)).methods
    assert [facts.title for facts in methods.values()] == ["U-Net (unet)", "u-net (unet_wide)", "Otsu"]


def test_a_traceback_is_named_relative_to_the_store(make_store: Callable[..., Any]) -> None:
    simulated = make_store(predictions=False)
    trial = simulated.ids["unet", "fold2", 0]
    assert next(each.error for each in read(simulated).trials if each.ids == trial) == ""
    (simulated.root / "trials" / trial.training / "error.txt").write_text("Traceback", "utf-8")
    # What an earlier try left is no cause of a trial that finished since.
    done = simulated.ids["unet", "fold0", 0]
    (simulated.root / "trials" / done.training / "error.txt").write_text("Traceback", "utf-8")
    errors = {each.ids: each.error for each in read(simulated).trials if each.error}
    assert errors == {trial: f"trials/{trial.training}/error.txt"}


def test_the_latest_run_with_a_result_is_preferred_to_a_newer_empty_one(
    make_store: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    simulated = make_store(faults={}, predictions=False)
    store = Store(simulated.root)
    entry = TrialEntry(ids("f" * 64), "unet", "fold0", 0)
    empty = store.start_suite("simulated", "name: simulated\n", [entry])
    assert find_suite(store).folder == simulated.suite
    assert f"Skipped simulated/{empty.name}: no trial" in caplog.text and f"--run {empty.name}" in caplog.text
    # Asked for by its time it is given; and where none has a result, the latest.
    assert find_suite(store, time=empty.name).folder == empty
    caplog.clear()
    for trial in simulated.ids.values():
        store.discard_trial(trial)
    assert find_suite(store).folder == empty and caplog.text == ""


def test_a_damaged_trial_that_was_moved_aside_was_begun(make_store: Callable[..., Any]) -> None:
    simulated = make_store(faults={}, predictions=False)
    trial = simulated.ids["otsu", "fold1", 0]
    (simulated.root / "trials" / trial.training / "curves.csv").unlink()
    store = Store(simulated.root)
    store.quarantine_trial(trial)
    (found,) = (trial for trial in read(simulated).trials if trial.state != "done")
    assert (found.method, found.fold, found.state) == ("otsu", "fold1", "damaged") and "moved aside" in found.reason


def test_a_trial_that_lost_its_spec_is_damaged(make_store: Callable[..., Any]) -> None:
    simulated = make_store(faults={}, predictions=False)
    (simulated.root / "trials" / simulated.ids["unet", "fold1", 0].training / "spec.json").unlink()
    states = {(trial.method, trial.fold): trial.state for trial in read(simulated).trials if trial.state != "done"}
    assert states == {("unet", "fold1"): "damaged"}


def test_the_card_of_this_run_counts_not_that_of_a_trial_used_again(make_store: Callable[..., Any]) -> None:
    """A trial is known by its model, not by its card: a run with a better card takes the older results."""
    simulated = make_store(faults={}, predictions=False)
    assert not read(simulated).methods["unet"].trivial_baseline and read(simulated).methods["otsu"].trivial_baseline
    config = simulated.suite / "config.yaml"
    card = "{unet: {card: {title: U-Net, trivial_baseline: true}}}"
    config.write_text(config.read_text("utf-8").replace("methods: {}", f"methods: {card}"), "utf-8")
    unet = read(simulated).methods["unet"]
    assert unet.trivial_baseline and unet.title == "U-Net" and unet.card["prompt"] == "none" and unet.version == 1


def test_seen_images_are_those_of_tested_domains_where_folds_allow(make_store: Callable[..., Any]) -> None:
    records = read(make_store(faults={}, folds=2, predictions=False))
    tested = [f"{modality}/{domain}" for modality in ("dermoscopy", "fundus") for domain in ("atlas", "clinic")]
    assert records.seen_domains == tested and records.seen_where_tested
    assert records.partly_tested() == {"dermoscopy": (2, 3), "fundus": (2, 3)}


def test_a_domain_seen_in_no_other_fold_makes_all_seen_ones_count(make_store: Callable[..., Any]) -> None:
    records = read(make_store(faults={}, folds=1, predictions=False))
    assert records.domains == ["dermoscopy/atlas", "fundus/atlas"] and not records.seen_where_tested
    assert "fundus/atlas" not in records.seen_domains and len(records.seen_domains) == 4
    assert records.partly_tested() == {"dermoscopy": (1, 3), "fundus": (1, 3)}


def test_what_unbegun_folds_would_test_is_not_guessed(make_store: Callable[..., Any]) -> None:
    nobody = {(method, 2): "missing" for method in ("delightsam", "unet", "boxed", "otsu")}
    assert read(make_store(faults=nobody, predictions=False)).partly_tested() == {}


def test_all_domains_tested(holed: Any) -> None:
    assert read(holed).partly_tested() == {} and read(holed).seen_where_tested


def test_a_finished_trial_without_all_images_is_damaged(make_store: Callable[..., Any]) -> None:
    def drop_one(method: str, frame: pd.DataFrame) -> pd.DataFrame:
        return frame.iloc[1:] if method == "unet" else frame

    records = read(make_store(faults={}, change=drop_one, predictions=False))
    broken = [trial for trial in records.trials if trial.state == "damaged"]
    assert {trial.method for trial in broken} == {"unet"} and len(broken) == 3
    assert broken[0].reason == "16 test images expected, rows found for 15 of them"


def test_a_table_without_a_column_is_damaged(make_store: Callable[..., Any]) -> None:
    records = read(make_store(faults={}, change=lambda method, frame: frame.drop(columns="empty"), predictions=False))
    assert {trial.state for trial in records.trials} == {"damaged"} and "no column empty" in records.trials[0].reason


def test_a_metric_without_a_column_is_not_measured_and_no_damage(make_store: Callable[..., Any]) -> None:
    def drop(method: str, frame: pd.DataFrame) -> pd.DataFrame:
        return frame.drop(columns="nsd") if method == "unet" else frame

    records = read(make_store(faults={}, change=drop, predictions=False))
    assert {trial.state for trial in records.trials} == {"done"}
    assert records.unmeasured["unet"] == {"nsd"} and not records.unmeasured["boxed"]


def test_versions_of_a_metric_are_never_mixed_in_one_table(
    make_store: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    simulated = make_store(faults={}, predictions=False)
    store = Store(simulated.root)
    for (method, fold, _), trial in simulated.ids.items():
        if (method, fold) != ("unet", "fold0"):
            record = store.load(trial)
            versions = {**record.metrics, "hd95": 2}
            store.finish_measurement(trial, samples=record.samples, metrics=versions, summary={"warnings": []})
    monkeypatch.setitem(REGISTRY, "hd95", replace(REGISTRY["hd95"], version=2))
    records = read(simulated)
    assert records.unmeasured["unet"] == {"hd95"} and not records.unmeasured["otsu"] and records.notes == ()
    hd95 = records.samples.groupby(["method", "fold"])["hd95"].count()
    assert hd95["unet", "fold0"] == 0 and hd95["unet", "fold1"] > 0 and records.samples["dice"].notna().all()
    # All alike, but older than what this bench computes: shown, and said.
    monkeypatch.setitem(REGISTRY, "dice", replace(REGISTRY["dice"], version=3))
    (note,) = read(simulated).notes
    assert note.startswith("Dice is of version 1, and this bench computes version 3: `python -m harness measure`")


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        (["Screening"], ["fundus/screening"]),
        (["fundus/clinic"], ["fundus/clinic"]),
        (["Kvasir-SEG"], ["colonoscopy/kvasir_seg"]),
        (["screen", "fundus", ""], []),
        (None, []),
    ],
)
def test_possibly_seen_compares_names_without_case_and_signs(known: list[str] | None, expected: list[str]) -> None:
    facts = MethodFacts("m", "M", {"pretrained_on": known}, "last", 64)
    assert facts.possibly_seen(["fundus/screening", "fundus/clinic", "colonoscopy/kvasir_seg"]) == expected


def test_unknown_runs_are_named(holed: Any, tmp_path: Any) -> None:
    store = Store(holed.root)
    with pytest.raises(UserError, match="Did you mean 'simulated'"):
        find_suite(store, "simulatd")
    with pytest.raises(UserError, match="no run at '2001'"):
        find_suite(store, time="2001")
    with pytest.raises(UserError, match="found none"):
        find_suite(Store(tmp_path))
