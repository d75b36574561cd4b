"""Loss under corruption: from the rows of trials to the column, the figure and the files; absent where nothing was corrupted."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import numpy as np
import pandas as pd
import pytest

from harness.store.store import Store
from reports.analysis.corruption import corruption_table, mean_losses
from reports.build import ReportPaths, build_report
from reports.figures.corruptions import dice_by_severity, title_of
from reports.figures.drawing import PRINT, Style, drawing_style
from reports.records.corruption import corruption_sums, no_corruption
from reports.records.runs import read_runs
from reports.records.selection import Selection, select
from reports.tables.json import schema
from reports.tables.leaderboard import build_leaderboard
from tests.reports.simulated_store import CARDS, Simulated, write_store

FORMS = {"noise": ("dermoscopy", "fundus"), "hair": ("dermoscopy",)}
KEPT = {"delightsam": 0.9, "unet": 0.5, "boxed": 1.0, "otsu": 1.0}
"""Share of the clean Dice that is left at severity 5; at severity 1 half as much is lost."""


def sums(**cells: float) -> pd.DataFrame:
    return pd.DataFrame(
        [{"method": "a", "fold": "fold0", "seed": 0, "trial": "t", "corruption": "noise", "severity": 1, **cells}]
    )


def row(role: str, key: str, dice: float) -> dict[str, object]:
    modality, domain, _ = key.split("/")
    return {"role": role, "key": key, "modality": modality, "domain": domain, "dice": dice}


def test_the_rows_of_a_trial_become_sums_by_domain_and_form() -> None:
    table = pd.DataFrame(
        [
            row("test", "fundus/a/1", 0.8), row("test", "fundus/a/2", 0.4), row("test", "fundus/b/1", 0.5),
            row("validation", "fundus/c/1", 0.9),
            row("corrupted/noise-3", "fundus/a/1", 0.6), row("corrupted/noise-3", "fundus/a/2", 0.1),
            row("corrupted/noise-3", "fundus/b/1", 0.5), row("corrupted/colour_cast-5", "fundus/b/1", float("nan")),
        ]
    )  # fmt: skip
    found = corruption_sums(table).to_dict("records")
    assert found == [
        {"domain": "fundus/a", "corruption": "noise", "severity": 3, "images": 2, "clean": pytest.approx(1.2), "dice": pytest.approx(0.7)},
        {"domain": "fundus/b", "corruption": "noise", "severity": 3, "images": 1, "clean": 0.5, "dice": 0.5},
    ]  # fmt: skip
    assert corruption_sums(table[table["role"] == "test"]).empty


def test_the_loss_is_that_of_means_over_domains() -> None:
    table = pd.concat(
        [sums(domain="x/a", images=10, clean=8.0, dice=4.0), sums(domain="x/b", images=1, clean=0.4, dice=0.4)]
    )
    (cell,) = corruption_table(table).to_dict("records")
    assert (cell["clean"], cell["dice"], cell["domains"]) == (pytest.approx(0.6), pytest.approx(0.4), 2)
    assert cell["loss"] == pytest.approx(100 / 3)


def test_folds_and_seeds_count_once_by_their_mean() -> None:
    one = sums(domain="x/a", images=2, clean=1.6, dice=0.8)
    other = sums(domain="x/a", images=2, clean=1.6, dice=0.4).assign(seed=1)
    (cell,) = corruption_table(pd.concat([one, other])).to_dict("records")
    assert cell["loss"] == pytest.approx(100 * (0.8 - 0.3) / 0.8)


def test_an_image_that_is_all_but_missed_does_not_rule_the_mean() -> None:
    """From 0.003 to 0.03 is a gain of 900 % for the image, and next to nothing for the domain."""
    table = sums(domain="x/a", images=2, clean=0.803, dice=0.83)
    assert -5 < corruption_table(table)["loss"].item() < 0


def test_a_clean_dice_of_zero_has_nothing_to_lose() -> None:
    nothing = corruption_table(sums(domain="x/a", images=2, clean=0.0, dice=0.0))
    assert np.isnan(nothing["loss"].item())
    assert mean_losses(nothing, ["a", "b"]) == {"a": None, "b": None}
    both = pd.concat([nothing, nothing.assign(corruption="blur", loss=12.0)])
    assert mean_losses(both, ["a"]) == {"a": 12.0}
    assert corruption_table(no_corruption()).empty


def corrupted_rows(method: str, frame: pd.DataFrame) -> pd.DataFrame:
    tests = frame[frame["role"] == "test"]
    parts = [frame]
    for name, modalities in FORMS.items():
        for severity, share in ((1, 0.5), (5, 1.0)):
            rows = tests[tests["modality"].isin(modalities)]
            kept = 1 - share * (1 - KEPT[method])
            parts.append(rows.assign(role=f"corrupted/{name}-{severity}", dice=rows["dice"] * kept, hd95=np.nan))
    return pd.concat(parts, ignore_index=True)


CORRUPTIONS = {
    "names": {"dermoscopy": ["noise", "hair"], "fundus": ["noise"]}, "severities": [1, 5], "seed": 0, "version": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    root = tmp_path_factory.mktemp("corrupted")
    return write_store(
        root,
        faults={("boxed", 0): "failed"},
        change=corrupted_rows,
        corruptions=CORRUPTIONS,
        seeds=(0, 1),
        predictions=False,
    )


@pytest.fixture(scope="module")
def corrupted_report(simulated: Simulated, tmp_path_factory: pytest.TempPathFactory) -> ReportPaths:
    return build_report(simulated.root, simulated.suite, tmp_path_factory.mktemp("report"))


def test_the_column_stands_in_every_output(corrupted_report: ReportPaths) -> None:
    table = pd.read_csv(corrupted_report.csv).set_index("method")["corruption_loss"]
    # A tenth, and half of a tenth, of every Dice is lost.
    assert table["delightsam"] == pytest.approx(7.5) and table["unet"] == pytest.approx(37.5)
    assert table["otsu"] == pytest.approx(0, abs=1e-9)
    assert np.isnan(table["boxed"])  # incomplete
    page = corrupted_report.html.read_text()
    assert "Loss under corruption, %" in page and ">37.5<" in page and "Dice under corruption, by severity" in page
    assert "Loss under corruption" in corrupted_report.latex.read_text()
    assert "Loss under corruption" in corrupted_report.markdown.read_text()
    document = json.loads(corrupted_report.json.read_text())
    jsonschema.validate(document, schema())
    cells = {(c["method"], c["corruption"], c["severity"]): c for c in document["corruptions"]}
    assert cells["unet", "noise", 5]["loss"] == pytest.approx(50)
    assert (cells["unet", "noise", 5]["domains"], cells["unet", "hair", 5]["domains"]) == (6, 3)
    assert {method["method"]: method["corruption_loss"] for method in document["methods"]}["boxed"] is None


def test_nothing_else_changes_by_corrupted_rows(
    corrupted_report: ReportPaths, tmp_path_factory: pytest.TempPathFactory, without_figures: None
) -> None:
    clean = write_store(
        tmp_path_factory.mktemp("clean"), faults={("boxed", 0): "failed"}, seeds=(0, 1), predictions=False
    )
    report = build_report(clean.root, clean.suite, tmp_path_factory.mktemp("clean_report"))
    one, two = (pd.read_csv(each.csv) for each in (report, corrupted_report))
    assert "corruption_loss" not in one and "corruption_loss" in two
    pd.testing.assert_frame_equal(one, two.drop(columns="corruption_loss"))
    assert report.domains_csv.read_text() == corrupted_report.domains_csv.read_text()


def test_without_corruption_there_is_neither_column_nor_figure(complete_report: ReportPaths) -> None:
    page = complete_report.html.read_text()
    assert "under corruption" not in page
    assert "under corruption" not in complete_report.latex.read_text()
    document = json.loads(complete_report.json.read_text())
    assert document["corruptions"] == [] and "corruption_loss" not in document["methods"][0]


def test_the_figure_has_a_panel_for_each_corruption_and_a_line_for_each_method(simulated: Simulated) -> None:
    store = Store(simulated.root)
    board = build_leaderboard(read_runs([(store, store.suites()[0])]))
    with drawing_style(PRINT):
        drawing = dice_by_severity(board, Style.of(board, PRINT))
    assert drawing is not None
    panels = [axes for axes in drawing.figure.axes if axes.get_visible()]
    assert [axes.get_title().replace("\n", " ") for axes in panels] == ["Noise", "Hair (dermoscopy)"]
    assert all(len(axes.lines) == 3 for axes in panels)  # the incomplete one has none
    assert [label.get_text() for label in panels[0].get_xticklabels()] == ["clean", "1", "5"]
    unet = board.table["method"].tolist().index("unet")
    xs, ys = panels[0].lines[unet].get_data()
    assert list(xs) == [0, 1, 5]
    assert ys[2] == pytest.approx(ys[0] / 2)
    assert "Noise" in drawing.alt and "Left out" in drawing.alt


def test_a_part_of_the_run_has_the_loss_of_that_part(simulated: Simulated) -> None:
    store = Store(simulated.root)
    records = read_runs([(store, store.suites()[0])])
    fundus = build_leaderboard(select(records, Selection(modalities=("fundus",), methods=("unet",), seeds=(1,))))
    assert set(fundus.corruptions["corruption"]) == {"noise"}
    assert set(fundus.corruptions["method"]) == {"unet"} and (fundus.corruptions["domains"] == 3).all()


def test_joined_runs_keep_their_losses_and_count_no_trial_twice(simulated: Simulated) -> None:
    store = Store(simulated.root)
    (suite,) = store.suites()
    once, twice = read_runs([(store, suite)]), read_runs([(store, suite), (store, suite)])
    pd.testing.assert_frame_equal(twice.corrupted, once.corrupted)


def test_a_trial_that_lacks_corrupted_rows_counts_as_damaged(tmp_path: Path) -> None:
    def cut(method: str, frame: pd.DataFrame) -> pd.DataFrame:
        return corrupted_rows(method, frame).iloc[:-1]

    simulated = write_store(tmp_path, faults={}, change=cut, corruptions=CORRUPTIONS, predictions=False)
    store = Store(simulated.root)
    records = read_runs([(store, store.suites()[0])])
    assert {trial.state for trial in records.trials} == {"damaged"}
    assert "corrupted/hair-5 images expected" in records.trials[0].reason


def test_rows_of_corrupted_images_are_not_kept_in_memory(simulated: Simulated) -> None:
    store = Store(simulated.root)
    records = read_runs([(store, store.suites()[0])])
    assert set(records.samples["role"]) == {"test", "validation"}
    done = sum(trial.state == "done" for trial in records.trials)
    assert len(records.corrupted) == done * 2 * (2 + 1)  # two severities of noise in two domains and hair in one


def test_an_unknown_corruption_keeps_its_name() -> None:
    assert title_of("fog_of_the_future") == "fog_of_the_future"
    assert title_of("hair") == "Hair (dermoscopy)" and title_of("noise") == "Noise"


def test_cards_of_the_simulated_store_are_all_covered() -> None:
    assert set(KEPT) == set(CARDS)
