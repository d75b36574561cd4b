"""`measure`: what is missing is computed from what was kept, nothing is trained, nothing is lost."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import harness.store.sealed_folder
import harness.store.store
from harness.cli import main
from harness.evaluation.measure import Map
from harness.metrics import REGISTRY, Metric
from harness.store.store import Store
from harness.trial_spec import TrialIds


@pytest.fixture
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measures in this process, where a test may change the registry."""

    @contextlib.contextmanager
    def pool(metrics: Sequence[str]) -> Iterator[Map]:
        yield map

    monkeypatch.setattr("harness.execution.measuring.measuring_pool", pool)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


def all_ids(store: Store) -> list[TrialIds]:
    return [ids for trial_id in store.trial_ids() for ids in store.ids_of(trial_id)]


def tables(store: Store) -> dict[TrialIds, pd.DataFrame]:
    return {ids: pd.read_parquet(store.measurement_folder(ids) / "samples.parquet") for ids in all_ids(store)}


def contents(store: Store) -> dict[str, bytes]:
    """What the store holds of trials, but for clocks."""
    files = (path for path in (store.root / "trials").rglob("*") if path.is_file() and path.name != "status.json")
    return {path.relative_to(store.root).as_posix(): path.read_bytes() for path in files}


def changed(metric: Metric) -> Metric:
    return replace(metric, version=metric.version + 1, compute=lambda pair, settings: 7.0)


def test_what_is_whole_is_left_alone(
    run_words: list[str], store: Store, capsys: pytest.CaptureFixture[str], one_process: None
) -> None:
    before = contents(store)
    assert main(["measure", *run_words]) == 0
    assert capsys.readouterr().out == "0 trials measured, 2 up to date.\n"
    assert contents(store) == before
    assert len(store.suites()) == 1


def test_a_newer_version_of_a_metric_is_computed_and_the_others_stay(
    run_words: list[str], store: Store, capsys: pytest.CaptureFixture[str], one_process: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    before, weights = tables(store), [store.weights(name).stat().st_mtime_ns for name in store.trial_ids()]
    monkeypatch.setitem(REGISTRY, "hd95", changed(REGISTRY["hd95"]))
    assert main(["measure", *run_words]) == 0
    assert "2 trials measured (hd95), 0 up to date." in capsys.readouterr().out
    after = tables(store)
    assert after.keys() == before.keys()
    for ids, table in after.items():
        pd.testing.assert_frame_equal(table.drop(columns="hd95"), before[ids].drop(columns="hd95"), check_exact=True)
        assert store.load(ids).metrics["hd95"] == REGISTRY["hd95"].version
    every = pd.concat(after.values())
    found = every.loc[every["empty"] == "none", "hd95"]
    assert (found == 7.0).all() and len(found) > 0
    assert [store.weights(name).stat().st_mtime_ns for name in store.trial_ids()] == weights
    assert len(store.suites()) == 1, "the run asks for the same trials"


def test_a_metric_from_outside_comes_behind_and_stays_where_it_is_unknown(
    run_words: list[str], store: Store, one_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    extra = replace(REGISTRY["dice"], name="volume_ratio", compute=lambda pair, _: pair.counts.predicted)
    monkeypatch.setitem(REGISTRY, "volume_ratio", extra)
    assert main(["measure", *run_words]) == 0
    for table in tables(store).values():
        assert list(table)[-4:] == ["volume_ratio", "reference_pixels", "predicted_pixels", "empty"]
    monkeypatch.delitem(REGISTRY, "volume_ratio")
    monkeypatch.setitem(REGISTRY, "nsd", changed(REGISTRY["nsd"]))
    assert main(["measure", *run_words]) == 0
    assert all("volume_ratio" in table for table in tables(store).values())
    assert all(store.load(ids).metrics["volume_ratio"] == 1 for ids in all_ids(store))


def test_a_metric_from_outside_that_fails_is_named_and_nothing_is_kept_of_it(
    run_words: list[str], store: Store, capsys: pytest.CaptureFixture[str], one_process: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    before = tables(store)
    monkeypatch.setitem(REGISTRY, "mine", replace(REGISTRY["dice"], name="mine", compute=lambda pair, _: pair.nothing))
    assert main(["measure", *run_words]) == 1
    said = capsys.readouterr()
    assert "could not be measured:" in said.err and "The metric 'mine' failed: AttributeError" in said.err
    for ids, table in tables(store).items():
        pd.testing.assert_frame_equal(table.drop(columns="mine", errors="ignore"), before[ids])


def test_words_of_no_run_are_answered_with_those_of_the_newest(
    run_words: list[str], store: Store, capsys: pytest.CaptureFixture[str], one_process: None
) -> None:
    assert main(["measure", *run_words, "training.epochs=9"]) == 1
    said = capsys.readouterr().err
    assert "it has not been trained yet" in said
    assert "Give `measure` the words of the run" in said and "python -m harness run --config-dir" in said
    assert len(store.suites()) == 1, "there is nothing to report"


def test_a_metric_from_outside_is_computed_by_all_cores(
    run_words: list[str], store: Store, extra_metric: Metric, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its module is imported by the processes that measure."""
    assert main(["measure", *run_words]) == 0
    assert "2 trials measured (volume_similarity), 0 up to date." in capsys.readouterr().out
    for table in tables(store).values():
        both = table["predicted_pixels"] + table["reference_pixels"]
        found = 1 - (table["predicted_pixels"] - table["reference_pixels"]).abs() / both
        whole = table["empty"] == "none"
        assert table.loc[whole, "volume_similarity"].tolist() == pytest.approx(found[whole].tolist())


def test_other_rules_are_a_run_of_their_own(
    run_words: list[str], store: Store, capsys: pytest.CaptureFixture[str], one_process: None
) -> None:
    before = contents(store)
    other = [*run_words, "metrics.nsd_tolerance=9"]
    assert main(["measure", *other]) == 0
    assert "2 trials measured" in capsys.readouterr().out
    assert before.items() <= contents(store).items(), "nothing that was there changed"
    first, second = store.suites()
    assert [entry.ids.prediction for entry in first.trials] == [entry.ids.prediction for entry in second.trials]
    assert not {entry.ids for entry in first.trials} & {entry.ids for entry in second.trials}
    # As a run with these words would have left it.
    measured = contents(store)
    for entry in second.trials:
        shutil.rmtree(store.measurement_folder(entry.ids))
    assert main(["run", *other]) == 0
    assert contents(store) == measured
    assert "start  tinyconv" in capsys.readouterr().err
    assert main(["run", *other]) == 0
    assert "2 trials, 2 of them already in" in capsys.readouterr().err


def test_plan_says_what_is_only_measured(
    run_words: list[str], store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", *run_words, "metrics.nsd_tolerance=9"]) == 0
    shown = capsys.readouterr().out
    assert "2 of 2 trials are still to run." in shown and "to measure" in shown
    assert "2 of them are trained: they are only measured, by other rules." in shown
    assert "Estimate" not in shown


def test_masks_of_other_tools_are_measured_along(
    run_words: list[str], store: Store, shared_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    one_process: None,
) -> None:  # fmt: skip
    for path in shared_dataset.glob("*/*/masks/*.png"):
        target = tmp_path / "masks" / path.parts[-4] / path.parts[-3] / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    words = [f"data.root={shared_dataset}", f"store.root={store.root}", "protocol.max_folds=1"]
    assert main(["evaluate", f"predictions={tmp_path / 'masks'}", "name=nnunet", *words]) == 0
    before = contents(store)
    assert main(["measure", *run_words, "metrics.nsd_tolerance=9"]) == 0
    assert "4 trials measured" in capsys.readouterr().out
    assert before.items() <= contents(store).items()
    newest = store.suites()[-1]
    others = [store.load(entry.ids) for entry in newest.trials if entry.method == "nnunet"]
    assert len(others) == 2 and all(other.spec.evaluation.nsd_tolerance == 9 for other in others)
    assert all((other.samples["nsd"] == 1).all() for other in others if other.samples is not None)
    assert newest.config["methods"]["nnunet"]["card"]["external"] is True


def test_only_some_metrics_leave_the_others_not_measured(
    run_words: list[str], store: Store, tmp_path: Path, one_process: None
) -> None:
    from reports.build import build_report

    other = [*run_words, "metrics.nsd_tolerance=9"]
    assert main(["measure", *other, "--only", "hd95,nsd"]) == 0
    newest = store.suites()[-1]
    record = store.load(newest.trials[0].ids)
    assert record.samples is not None
    assert list(record.metrics) == ["dice", "hd95", "nsd"] and "precision" not in record.samples
    page = build_report(store.root, newest.folder, tmp_path / "report").html.read_text("utf-8")
    assert '<bdi class="main">not measured</bdi>' in page and "damaged" not in page
    assert main(["measure", *other]) == 0
    record = store.load(newest.trials[0].ids)
    assert list(record.metrics) == list(REGISTRY)


@pytest.mark.parametrize("weights", [True, False])
def test_without_masks_the_weights_predict_again_and_without_both_it_is_said(
    store: Store, capsys: pytest.CaptureFixture[str], run_words: list[str], weights: bool, one_process: None
) -> None:
    kept = ["store.predictions=false", f"store.keep_weights={str(weights).lower()}"]
    assert main(["run", *run_words, *kept, "reuse=never"]) == 0
    before = contents(store)
    assert not [name for name in before if name.endswith(".png")]
    capsys.readouterr()
    assert main(["measure", *run_words, *kept, "metrics.nsd_tolerance=9"]) == (0 if weights else 1)
    said = capsys.readouterr()
    if weights:
        assert "2 of them kept no masks and were predicted again from their weights." in said.out
        after = tables(store)
        pairs = [store.ids_of(name) for name in store.trial_ids()]
        for one, two in pairs:
            pd.testing.assert_frame_equal(
                after[one].drop(columns="nsd"), after[two].drop(columns="nsd"), check_exact=True
            )
        assert not [name for name in contents(store) if name.endswith(".png")]
    else:
        assert "2 could not be measured:" in said.err
        assert "tinyconv fold0 seed 0, tinyconv fold0 seed 1: neither its masks nor its weights were kept" in said.err
        assert contents(store) == before


def test_what_was_never_run_is_named_and_nothing_is_begun(
    run_words: list[str], store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(store)
    assert main(["measure", *run_words, "training.epochs=2"]) == 1
    assert "tinyconv fold0 seed 1: it has not been trained yet: run it first" in capsys.readouterr().err
    assert contents(store) == before


def test_one_trial_by_its_id(
    run_words: list[str], store: Store, capsys: pytest.CaptureFixture[str], one_process: None
) -> None:
    first, second = store.trial_ids()
    assert main(["measure", f"trial={first[:10]}", f"store.root={store.root}", "metrics.nsd_tolerance=9"]) == 0
    assert "1 trial measured" in capsys.readouterr().out
    assert (len(store.ids_of(first)), len(store.ids_of(second))) == (2, 1)
    assert len(store.suites()) == 1


def test_several_stores_one_after_the_other(
    run_words: list[str], store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str], one_process: None
) -> None:
    shutil.copytree(store.root, tmp_path / "copy")
    words = [word for word in run_words if not word.startswith("store.root=")]
    stores = ["--store", str(store.root), "--store", str(tmp_path / "copy")]
    assert main(["measure", *words, *stores, "metrics.nsd_tolerance=9"]) == 0
    assert "4 trials measured" in capsys.readouterr().out
    assert contents(Store(tmp_path / "copy")) == contents(store)


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (["--only", "hd59"], "there is no metric 'hd59'. Did you mean 'hd95'?"),
        (["trial="], "trial= is empty"),
        (["trial=abc", "training.epochs=3"], "beside it only store.root="),
        (["store.root=nowhere"], "There is no store at"),
        (["suite=ablation"], "has no run of ablation. Run it first"),
    ],
)
def test_mistakes_are_refused(
    run_words: list[str], store: Store, extra: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word for word in run_words if not word.startswith("method=")] if "suite=ablation" in extra else run_words
    if extra[0].startswith("trial="):
        words = [f"store.root={store.root}"]
    assert main(["measure", *words, *extra]) == 2
    assert said in capsys.readouterr().err


def test_a_mask_whose_reference_is_gone_costs_that_trial_alone(
    run_words: list[str], store: Store, capsys: pytest.CaptureFixture[str], one_process: None
) -> None:
    first = store.trial_ids()[0]
    (ids,) = store.ids_of(first)
    shutil.rmtree(store.prediction_folder(ids) / "test")
    store.weights(first).unlink()
    assert main(["measure", *run_words, "metrics.nsd_tolerance=9"]) == 1
    said = capsys.readouterr()
    assert "1 trial measured" in said.out and "1 could not be measured" in said.err


class Killed(BaseException):
    """No command catches it: as a kill."""


def test_stopped_at_any_write_it_goes_on_and_ends_with_the_same_bytes(
    run_words: list[str], store: Store, tmp_path: Path, one_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill may fall between any two writes; what the store holds then counts as measured or not, never as half."""
    monkeypatch.setitem(REGISTRY, "hd95", changed(REGISTRY["hd95"]))
    monkeypatch.setitem(REGISTRY, "late", replace(REGISTRY["dice"], name="late"))
    original = shutil.copytree(store.root, tmp_path / "original")
    written, allowed = [0], [1000]
    for module in (harness.store.store, harness.store.sealed_folder):
        for name in ("atomic_write_bytes", "atomic_write_json"):
            original_write = getattr(harness.files, name)

            def write(path: Path, content: Any, function: Any = original_write) -> None:
                if "trials" in path.parts:
                    written[0] += 1
                    if written[0] > allowed[0]:
                        raise Killed
                function(path, content)

            monkeypatch.setattr(module, name, write, raising=False)
    assert main(["measure", *run_words]) == 0
    expected = contents(store)
    # At any write of the first trial, and at the first of the second, whose others are alike.
    stops, writes = 0, written[0] // 2 + 1
    for allowed[0] in range(writes):
        shutil.rmtree(store.root)
        shutil.copytree(original, store.root)
        written[0] = 0
        with pytest.raises(Killed):
            main(["measure", *run_words])
        stops += 1
        written[0] = -1000
        assert main(["measure", *run_words]) == 0
        assert contents(store) == expected
    assert stops >= 4
