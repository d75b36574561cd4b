"""What programs read: JSON by its schema, Parquet, LaTeX; and reports of parts of a run and of several runs."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pandas as pd
import pytest
import yaml
from support.stores import finished_trial

from harness.errors import UserError
from harness.store.records import TrialEntry
from harness.store.store import Store
from harness.trial_spec import TrialIds
from reports.build import ReportPaths, build_report, build_report_of
from reports.figures.method_plots import rank_map
from reports.page.html import safe_json
from reports.records.reading import read_records
from reports.records.runs import find_suite, read_runs
from reports.records.selection import Selection, select
from reports.tables.json import schema
from reports.tables.latex import escape, latex
from reports.tables.leaderboard import build_leaderboard

pytestmark = pytest.mark.usefixtures("without_figures")


def records_of(simulated: Any) -> Any:
    store = Store(simulated.root)
    return read_records(store, find_suite(store))


@pytest.mark.parametrize("which", ["report", "complete_report"])
def test_json_keeps_to_its_schema(which: str, report: ReportPaths, complete_report: ReportPaths) -> None:
    paths = {"report": report, "complete_report": complete_report}[which]
    jsonschema.Draft202012Validator.check_schema(schema())
    document = json.loads(paths.json.read_text("utf-8"))
    jsonschema.validate(document, schema())
    table = paths.board.table.set_index("method")
    assert {row["method"] for row in document["methods"]} == set(table.index)
    first = document["methods"][0]
    assert first["dice"] == table.loc[first["method"], "dice"]  # full precision
    broken = {**document, "methods": [{**first, "dice": 1.5}]}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, schema())


def test_every_field_of_the_json_is_in_the_schema(complete_report: ReportPaths) -> None:
    document = json.loads(complete_report.json.read_text("utf-8"))
    properties = schema()["properties"]
    assert set(document) == set(properties)
    for name in ("methods", "domains", "modalities", "failures", "pairs", "ranks", "trials"):
        described = set(properties[name]["items"]["properties"])
        found = {key for row in document[name] for key in row if not key.startswith("throughput_")}
        assert found and found <= described, (name, found - described)


def test_one_subject_in_a_domain_makes_no_rank_sure(make_store: Callable[..., Any], tmp_path: Path) -> None:
    """Drawn again it is always the same: no interval, and no "first in 100 % of the resamples" either."""

    def one_subject(method: str, frame: pd.DataFrame) -> pd.DataFrame:
        frame.loc[frame["modality"] == "fundus", "subject"] = "the only one"
        return frame

    simulated = make_store(faults={}, change=one_subject, predictions=False)
    paths = build_report(simulated.root, find_suite(Store(simulated.root)).folder, tmp_path)
    assert paths.board.table["dice_low"].isna().all() and paths.board.table["first"].isna().all()
    document = json.loads(paths.json.read_text("utf-8"))
    jsonschema.validate(document, schema())
    assert document["pairs"] and {row["expected"] for row in document["ranks"]} == {None}
    page = paths.html.read_text("utf-8")
    assert "first 100 %" not in page
    assert rank_map(paths.board, None) is None


def test_parquet_has_the_tables_and_every_image(complete_report: ReportPaths) -> None:
    ranking = pd.read_parquet(complete_report.parquet).set_index("method")
    assert (
        ranking.loc["delightsam", "dice"] == complete_report.board.table.set_index("method").loc["delightsam", "dice"]
    )
    assert ranking["dice"].dtype == float and pd.isna(ranking.loc["otsu", "gmacs"])
    images = pd.read_parquet(complete_report.folder / "images.parquet")
    assert len(images) == 4 * 48 and set(images.columns) == {"method", "domain", "key", "dice"}
    assert len(pd.read_parquet(complete_report.folder / "domains.parquet")) == 4 * 6


def test_latex_marks_the_best_and_escapes_names(complete_report: ReportPaths) -> None:
    text = complete_report.latex.read_text("utf-8")
    best = complete_report.board.table["dice"][0]
    assert f"De-LightSAM & scratch & \\textbf{{{best:.3f}}}" in text and text.count("\\toprule") == 1
    # One bold value in each column that has a best one; the prompted method is in no race with the others.
    assert all("\\textbf" not in line for line in text.splitlines() if "Box-prompted" in line)
    assert "delightsam\\_x \\& 50\\,\\%" not in text
    assert escape(r"a_b & 5% \x {y} #1 $z ~ ^") == (
        r"a\_b \& 5\% \textbackslash{}x \{y\} \#1 \$z \textasciitilde{} \textasciicircum{}"
    )
    evil = complete_report.board.table.assign(title=r"\input{/etc/passwd}")
    from dataclasses import replace

    assert "\\input" not in latex(replace(complete_report.board, table=evil), complete_report.columns, r"\write18{x}")


def test_json_in_a_script_element_can_not_end_it() -> None:
    text = safe_json({"a": "</script><!--<b>&' "})
    assert not set("<>&'") & set(text)
    assert json.loads(text) == {"a": "</script><!--<b>&' "}


def test_a_part_of_a_run_has_means_over_that_part_only(complete: Any) -> None:
    records = records_of(complete)
    whole = build_leaderboard(records)
    part = build_leaderboard(select(records, Selection(modalities=("fundus",), methods=("unet", "otsu"))))
    assert part.table["method"].tolist() == ["unet", "otsu"]
    means = whole.modalities.set_index(["method", "modality"])["dice"]
    # The order of sums differs, so the last bit may.
    assert part.table["dice"].tolist() == pytest.approx([means["unet", "fundus"], means["otsu", "fundus"]], rel=1e-12)
    assert "Only a part of the run is shown: methods unet, otsu; modalities fundus." in part.notes
    one = build_leaderboard(select(records, Selection(domains=("*/clinic",), seeds=(1,))))
    assert set(one.domains["domain"]) == {"dermoscopy/clinic", "fundus/clinic"}
    row = one.table.set_index("method").loc["unet"]
    samples = records.samples[(records.samples["method"] == "unet") & (records.samples["role"] == "test")]
    samples = samples[(samples["domain"] == "clinic") & (samples["seed"] == 1)]
    assert row["dice"] == pytest.approx(samples.groupby("modality")["dice"].mean().mean())
    assert pd.isna(row["dice_seed_sd"])


def test_holes_outside_the_chosen_part_don_t_count(holed: Any) -> None:
    """U-Net failed in fold 2, which tests `screening`: on `atlas` it is complete."""
    board = build_leaderboard(select(records_of(holed), Selection(domains=("*/atlas",))))
    assert board.table.set_index("method").loc["unet", "track"] == "automatic"


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (Selection(methods=("unett",)), "Did you mean 'unet'"),
        (Selection(seeds=(7,)), "No seed fits '7'"),
        (Selection(modalities=("fundus",), domains=("dermoscopy/clinic",)), "Nothing fits all filters"),
    ],
)
def test_a_filter_that_fits_nothing_is_an_error(complete: Any, selection: Selection, message: str) -> None:
    with pytest.raises(UserError, match=message):
        select(records_of(complete), selection)


def split_run(simulated: Any, store: Store, methods: tuple[str, ...]) -> Any:
    """A run of its own with only those methods."""
    entries = [
        TrialEntry(trial, method, fold, seed)
        for (method, fold, seed), trial in simulated.ids.items()
        if method in methods
    ]
    folder = store.start_suite("part", "name: part\nmethods: {}\n", entries)
    return next(each for each in store.suites() if each.folder == folder)


def test_two_runs_of_a_store_give_the_report_of_both(make_store: Callable[..., Any]) -> None:
    simulated = make_store(faults={}, predictions=False)
    store = Store(simulated.root)
    whole = build_leaderboard(records_of(simulated))
    first, second = (
        split_run(simulated, store, names) for names in (("delightsam", "unet"), ("unet", "boxed", "otsu"))
    )
    both = build_leaderboard(read_runs([(store, first), (store, second)]))
    pd.testing.assert_frame_equal(
        both.table.drop(columns="trials_expected"), whole.table.drop(columns="trials_expected"), check_dtype=False
    )
    # U-Net's trials are in both runs and count once.
    assert both.table.set_index("method").loc["unet", "trials_expected"] == 3


def other_training(simulated: Any, root: Path) -> Store:
    """A copy of the store in which U-Net was trained otherwise: other ids, other settings."""
    shutil.copytree(simulated.root, root)
    store = Store(root)
    renamed: dict[TrialIds, TrialIds] = {}
    for (method, _, _), trial in simulated.ids.items():
        if method == "unet":
            record = store.load(trial)
            spec = replace(record.spec, training=replace(record.spec.trained, epochs=99))
            renamed[trial] = spec.ids
            assert record.samples is not None and record.curves is not None
            halved = record.samples.assign(dice=record.samples["dice"] / 2)
            finished_trial(store, spec, halved, curves=record.curves)
    suite = store.suites()[0]
    asked = json.loads((suite.folder / "trials.json").read_text("utf-8"))
    entries = [replace(entry, ids=renamed.get(entry.ids, entry.ids)) for entry in suite.trials]
    asked["trials"] = [entry.to_json() for entry in entries]
    (suite.folder / "trials.json").write_text(json.dumps(asked), "utf-8")
    return store


def test_a_method_that_differs_between_runs_is_two_rows(make_store: Callable[..., Any], tmp_path: Path) -> None:
    simulated = make_store(faults={}, predictions=False)
    here, there = Store(simulated.root), other_training(simulated, tmp_path / "other")
    runs = [(store, find_suite(store)) for store in (here, there)]
    board = build_leaderboard(read_runs(runs))
    table = board.table.set_index("method")
    renamed = f"unet (simulated {runs[1][1].time})"
    assert len(table) == 5 and table.loc[renamed, "dice"] == pytest.approx(table.loc["unet", "dice"] / 2)
    assert table["title"].nunique() == 5 and table.loc[renamed, "gmacs"] == table.loc["unet", "gmacs"]
    assert any("unet differs between the runs" in note for note in board.notes)


def test_runs_that_measured_otherwise_are_not_joined(make_store: Callable[..., Any], tmp_path: Path) -> None:
    simulated = make_store(faults={}, predictions=False)
    shutil.copytree(simulated.root, tmp_path / "other")
    other = Store(tmp_path / "other")
    for spec in (tmp_path / "other" / "trials").rglob("measurements/*/spec.json"):
        spec.write_text(spec.read_text("utf-8").replace('"nsd_tolerance": 2.0', '"nsd_tolerance": 3.0'), "utf-8")
    store = Store(simulated.root)
    with pytest.raises(UserError, match="different metrics"):
        read_runs([(store, find_suite(store)), (other, find_suite(other))])


def test_methods_tested_on_other_images_get_no_mean(make_store: Callable[..., Any]) -> None:
    """A run with fewer images per domain joined with one that has all: never a mean over other images."""
    simulated = make_store(faults={}, predictions=False)
    records = records_of(simulated)
    cells = records.cells
    fewer = (cells["method"] == "unet") & (cells["domain"] == "fundus/atlas") & (cells["role"] == "test")
    cells.loc[fewer, "keys"] = cells.loc[fewer, "keys"].map(lambda keys: frozenset(sorted(keys)[:5]))
    row = build_leaderboard(records).table.set_index("method").loc["unet"]
    assert row["track"] == "incomplete" and row["missing"] == ["fundus/atlas: 3 images not asked for"]


def test_guessed_modalities_and_other_tools_are_marked(make_store: Callable[..., Any], tmp_path: Path) -> None:
    cards = {
        "unet": {"title": "U-Net", "prompt": "none", "uses_modality": "inferred"},
        "otsu": {"title": "Otsu", "prompt": "none", "uses_modality": True, "external": True},
    }

    def guess(method: str, frame: pd.DataFrame) -> pd.DataFrame:
        wrong = frame["id"] == "000"
        return frame.assign(guessed_modality=frame["modality"].where(~wrong, "xray")) if method == "unet" else frame

    simulated = make_store(cards=cards, faults={}, change=guess, predictions=False)
    store = Store(simulated.root)
    paths = build_report_of([(store, find_suite(store))], tmp_path / "out")
    table = paths.board.table.set_index("method")
    assert table.loc["unet", "guess_accuracy"] == 7 / 8 and pd.isna(table.loc["otsu", "guess_accuracy"])
    assert table["modality_knowledge"].to_dict() == {"unet": "inferred", "otsu": "given"}
    page = paths.html.read_text("utf-8")
    assert "87.5 % right" in page and page.count('class="mark" title="masks made by another tool') == 1


def test_published_numbers_are_shown_and_never_ranked(holed: Any, tmp_path: Path) -> None:
    entry = {"method": "<b>Paper</b>", "modality": "fundus", "metric": "dice", "source": "Doe 2020", "page": "Table 2"}
    entries = [
        {**entry, "value": 0.991},
        {**entry, "domain": "clinic", "value": 0.992},
        {**entry, "modality": "xray", "value": 0.5},
    ]
    file = tmp_path / "published.yaml"
    file.write_text(yaml.safe_dump({"results": entries}), "utf-8")
    store = Store(holed.root)
    paths = build_report_of([(store, find_suite(store))], tmp_path / "out", published=[file])
    page = paths.html.read_text("utf-8")
    (row,) = (part for part in page.split("<tr") if 'class="published"' in part)
    assert "&lt;b&gt;Paper" in row and "0.991" in row and "0.992" in row and "Doe 2020, p. Table 2" in row
    assert "Published rows are what papers report" in page and "submit wrote" not in page
    assert "Paper" not in paths.csv.read_text("utf-8") and "Paper" not in paths.json.read_text("utf-8")


def command(*words: str) -> int:
    from harness.cli.report import add_parser

    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    args = parser.parse_args(["report", *words])
    return int(args.run(args))


def test_the_command_filters_and_wants_a_place_for_parts(complete: Any, tmp_path: Path) -> None:
    words = (f"store.root={complete.root}", "--method", "unet", "--method", "otsu", "--seed", "1")
    with pytest.raises(UserError, match="a place of its own: --out"):
        command(*words)
    assert command(*words, "--out", str(tmp_path / "out")) == 0
    document = json.loads((tmp_path / "out" / "leaderboard.json").read_text("utf-8"))
    assert [row["method"] for row in document["methods"]] == ["unet", "otsu"]
    assert {trial["seed"] for trial in document["trials"]} == {1}


def test_rows_tell_how_to_reproduce_them(report: ReportPaths) -> None:
    page = report.html.read_text("utf-8")
    assert "<code>python -m harness run suite=simulated &#39;method=[delightsam]&#39;</code>" in page
