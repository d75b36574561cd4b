"""Figures: what is drawn, what is left out, and that nothing overlaps or is cut."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.store.store import Store
from reports.figures import all_figures as figures
from reports.figures.all_figures import draw_figures, save_figures
from reports.figures.cost_plots import dice_against_cost, fronts_by_start, pareto_front
from reports.figures.domain_plots import heat_map
from reports.figures.drawing import MAX_TICKS, PAGE, SHADE, SHADE_OPACITY, Style, drawing_style, for_page, log_ticks
from reports.figures.method_plots import learning_curves
from reports.records.reading import read_records
from reports.records.records import Records
from reports.records.runs import find_suite
from reports.tables.leaderboard import Leaderboard, build_leaderboard


@pytest.fixture(scope="module")
def complete_figures(complete_board: Leaderboard, complete_records: Records) -> dict[str, Any]:
    drawn = draw_figures(complete_board, complete_records.curves, unseen=True)
    return {figure.name: figure for figure in drawn}


def board_of(simulated: Any) -> Leaderboard:
    store = Store(simulated.root)
    return build_leaderboard(read_records(store, find_suite(store)))


def draw(board: Leaderboard, kind: Callable[..., Any], *words: Any, **options: Any) -> Any:
    """One figure alone, for the page; None where there is nothing to draw."""
    with drawing_style(PAGE):
        drawing = kind(board, *words, style=Style.of(board, PAGE), **options)
        return drawing and for_page(drawing)


def texts(figure: Any) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]+)</text>", figure.svg)


def cost_figure(simulated: Any, folder: Path, gmacs: dict[str, float | None]) -> Any:
    """The figure of Dice against cost when each method has those GMACs (None: never measured); in a copy of the store."""
    copy = shutil.copytree(simulated.root, folder / "runs", ignore=shutil.ignore_patterns("efficiency"))
    store = Store(copy)
    for method, value in gmacs.items():
        if value is not None:
            store.write_efficiency(method, {"method": method, "image_size": 64, "gmacs": value, "device": "CPU"})
    return draw(board_of(replace(simulated, root=copy)), dice_against_cost, cost="gmacs", unseen=True)


def test_unmeasured_costs_are_not_drawn_as_none(without_masks: Any, tmp_path: Path) -> None:
    figure = cost_figure(without_masks, tmp_path, {"delightsam": 4.0, "boxed": 9.0, "otsu": 0.0, "unet": None})
    words = texts(figure)
    assert "U-Net (ResNet-18): cost not measured" in words and "Otsu threshold, no GMACs" in words
    assert not any("U-Net" in text and "no GMACs" in text for text in words)
    assert "Cost not measured: U-Net (ResNet-18)." in figure.alt and "Otsu threshold, no GMACs: Dice" in figure.alt


@pytest.mark.parametrize(("low", "high"), [(0.5, 2.1), (0.4, 40), (0.06, 900), (3e4, 2e9), (1e-6, 1e9), (0.9, 3.7)])
def test_few_round_ticks_on_the_axis_of_costs(low: float, high: float) -> None:
    ticks = log_ticks(low, high)
    assert 1 <= len(ticks) <= MAX_TICKS and ticks == sorted(ticks)
    assert all(low <= tick <= high and f"{tick:e}"[0] in "1235" for tick in ticks)


def test_ticks_of_a_wide_axis_are_few_in_the_figure(without_masks: Any, tmp_path: Path) -> None:
    figure = cost_figure(without_masks, tmp_path, {"delightsam": 0.03, "boxed": 900.0, "otsu": 0.0, "unet": 1.0})
    axis = figure.svg[
        figure.svg.index('id="cost-gmacs-matplotlib.axis_1"') : figure.svg.index('id="cost-gmacs-matplotlib.axis_2"')
    ]
    assert 2 <= axis.count("cost-gmacs-xtick_") <= MAX_TICKS


def test_one_epoch_is_no_curve(complete_board: Leaderboard, complete_records: Records) -> None:
    curves = complete_records.curves
    assert draw(complete_board, learning_curves, curves) is not None
    assert draw(complete_board, learning_curves, curves[curves["epoch"] == 1]) is None
    assert draw(complete_board, learning_curves, curves.drop(columns="validation_dice")) is None


def test_the_axis_of_curves_has_whole_epochs(complete_figures: dict[str, Any]) -> None:
    figure = complete_figures["curves"]
    axis = figure.svg[figure.svg.index("curves-matplotlib.axis_1") : figure.svg.index("curves-matplotlib.axis_2")]
    labels = re.findall(r"<text[^>]*>([^<]+)</text>", axis)
    assert labels == ["1", "2", "Epoch"]


def test_the_heat_map_leaves_incomplete_methods_out_and_says_so(holed: Any, complete_figures: dict[str, Any]) -> None:
    heat = draw(board_of(holed), heat_map, unseen=True)
    assert "De-LightSAM" in texts(heat) and not {"U-Net (ResNet-18)", "Otsu threshold"} & set(texts(heat))
    assert heat.title.endswith("complete methods only") and "Left out because incomplete: 2." in heat.alt
    whole = complete_figures["heat"]
    assert "U-Net (ResNet-18)" in texts(whole) and "complete" not in whole.title


def test_tables_and_heat_map_shade_alike(report: Any) -> None:
    page = report.html.read_text("utf-8")
    heat = page[page.index('id="heat-') :]
    red, green, blue = (round(255 * part) for part in SHADE)
    assert f"--shade-color: rgb({red} {green} {blue}); --shade-opacity: {SHADE_OPACITY};" in page
    assert f"#{red:02x}{green:02x}{blue:02x}" in heat
    opacities = [float(value) for value in re.findall(r"fill-opacity: ([\d.]+)", heat)]
    assert opacities and max(opacities) <= SHADE_OPACITY
    assert "Shading, here and in the heat map: Dice" in page


def test_titles_cut_alike_keep_their_names_in_figures(complete_board: Leaderboard, complete_records: Records) -> None:
    board, records = complete_board, complete_records
    long = "A title that is far too long for any figure"
    table = board.table.assign(title=[f"{long} ({name})" for name in board.table["method"]])
    drawn = draw_figures(replace(board, table=table), records.curves, unseen=True)
    for figure in drawn:
        words = texts(figure)
        # Otsu has no learning curve; the prompted one is not compared with the automatic ones.
        lacking = {"curves": "otsu", "ranks": "boxed", "critical-difference": "boxed"}.get(figure.name)
        names = [name for name in records.methods if name != lacking]
        if figure.name == "critical-difference":  # where no title is cut
            assert all(f"figure ({name})" in " ".join(words) for name in names)
            continue
        assert all(any(f"… ({name})" in text for text in words) for name in names), figure.name


def test_the_pareto_front_holds_whom_nobody_beats_in_both() -> None:
    points = [(1.0, 0.5), (2.0, 0.7), (3.0, 0.6), (3.0, 0.9), (4.0, 0.9)]
    assert pareto_front(points) == [(1.0, 0.5), (2.0, 0.7), (3.0, 0.9)]
    # Of speeds more is better: the fastest and whoever is slower but more exact.
    assert pareto_front(points, more_is_better=True) == [(4.0, 0.9)]
    assert pareto_front([(10.0, 0.5), (1.0, 0.9)], more_is_better=True) == [(1.0, 0.9), (10.0, 0.5)]


def of_starts(board: Leaderboard, starts: dict[str, str]) -> Leaderboard:
    start = board.table["method"].map(starts)
    return replace(board, table=board.table.assign(start=start))


def test_dice_against_the_time_of_one_image(complete_board: Leaderboard, without_masks: Any, tmp_path: Path) -> None:
    costs, machine = complete_board.costs, complete_board.hardware[0]
    own = costs["machine"].eq(machine)
    times = {"delightsam": 40.0, "unet": 10.0, "boxed": 90.0, "otsu": 1.5}
    board = replace(complete_board, costs=costs.assign(latency_ms_p50=costs["method"].map(times).where(own, 0.5)))
    figure = draw(board, dice_against_cost, cost="latency", unseen=True)
    assert (figure.name, figure.title) == ("cost-latency", "Dice against latency")
    assert "Milliseconds for one image (log scale)" in texts(figure) and f" on {machine}." in figure.alt
    titles = dict(zip(board.table["method"], board.table["label"], strict=True))
    for name, time in times.items():
        assert re.search(rf"{re.escape(titles[name])}: Dice [\d.]+ at {time:g}[;.]", figure.alt), name
    assert "On the Pareto front: De-LightSAM, U-Net (ResNet-18), Otsu threshold." in figure.alt
    unmeasured = replace(board, costs=costs.assign(latency_ms_p50=None))
    assert draw(unmeasured, dice_against_cost, cost="latency", unseen=True) is None


def test_each_start_has_a_front_of_its_own(complete_board: Leaderboard) -> None:
    table = pd.DataFrame(
        [
            ("a", "scratch", "automatic", 1, 0.5), ("b", "scratch", "automatic", 2, 0.6), ("c", "scratch", "oracle", 1, 0.9),
            ("d", "medical images", "automatic", 3, 0.8), ("e", "not stated", "automatic", 1, 0.95), ("f", "none", "automatic", 0.5, 0.3),
        ],
        columns=["method", "start", "track", "cost", "dice"],
    )  # fmt: skip
    assert fronts_by_start(table, more_is_better=False) == {
        "scratch": [(0.5, 0.3), (1.0, 0.5), (2.0, 0.6)],
        "medical images": [(0.5, 0.3), (3.0, 0.8)],
    }
    alike = table[table["start"].isin(["scratch", "none"])]
    assert fronts_by_start(alike, more_is_better=False) == {"": [(0.5, 0.3), (1.0, 0.5), (2.0, 0.6)]}
    board = of_starts(
        complete_board, {"delightsam": "medical images", "unet": "scratch", "boxed": "scratch", "otsu": "none"}
    )
    alt = draw(board, dice_against_cost, cost="throughput", unseen=True).alt
    assert "On the Pareto front (medical-image start): De-LightSAM" in alt
    assert "On the Pareto front (from scratch): U-Net (ResNet-18)" in alt


def test_the_front_is_of_automatic_methods_only(complete_board: Leaderboard) -> None:
    figure = draw(complete_board, dice_against_cost, cost="parameters", unseen=True)
    assert "Pareto front" not in texts(figure)  # De-LightSAM is best and cheapest: one point is no line
    assert "On the Pareto front: De-LightSAM." in figure.alt


def test_figures_of_ranks_and_of_critical_differences_tell_their_numbers(complete_figures: dict[str, Any]) -> None:
    assert "De-LightSAM: first in 100 %, expected rank 1.0" in complete_figures["ranks"].alt
    critical = complete_figures["critical-difference"]
    assert "Average ranks over 6 domains: De-LightSAM 1.00" in critical.alt
    assert any(text.startswith("critical difference") for text in texts(critical))


def test_forty_methods_have_lines_of_their_own_in_the_diagram(complete_board: Leaderboard) -> None:
    from types import SimpleNamespace

    from harness.statistics import critical_difference
    from reports.figures.method_plots import critical_difference_diagram

    names = [f"method_{place:02d}" for place in range(40)]
    titles = [f"A method with quite a long name, number {place:02d}" for place in range(40)]
    generator = np.random.default_rng(0)
    over = critical_difference(np.linspace(0.9, 0.5, 40) + generator.normal(0, 0.03, (20, 40)))
    table = pd.DataFrame({"method": names, "title": titles, "start": "scratch"})
    many = replace(complete_board, table=table, comparison=SimpleNamespace(methods=names, over_domains=over))
    figure = draw(many, critical_difference_diagram)
    words = " ".join(texts(figure))
    assert all(f"number {place:02d}" in words for place in range(40)) and "…" not in words
    lines = sorted(float(y) for y in re.findall(r"<text[^>]*?(?:y=\"|translate\([\d.]+ )([\d.]+)", figure.svg))
    assert len(lines) >= 80 and figure.width <= 700


def test_spreads_show_medians_of_every_domain(complete_board: Leaderboard, complete_figures: dict[str, Any]) -> None:
    assert [name for name in complete_figures if name.startswith("spread")] == ["spread"]
    board = complete_board
    own = board.images[(board.images["method"] == "unet") & (board.images["domain_key"] == "fundus/atlas")]
    assert f"U-Net (ResNet-18) {own['dice'].median():.2f}" in complete_figures["spread"].alt


def test_figure_files_are_whole_and_the_same_each_time(
    complete_board: Leaderboard, complete_records: Records, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawings = figures._drawings
    # One of them, for speed: that with a map of colours.
    monkeypatch.setattr(figures, "_drawings", lambda *a: (d for d in drawings(*a) if d.name == "ranks"))
    heads = {"svg": b"<?xml", "pdf": b"%PDF", "png": b"\x89PNG"}
    for folder in ("a", "b"):
        paths = save_figures(complete_board, complete_records.curves, tmp_path / folder, unseen=True)
        for path in paths:
            assert path.read_bytes().startswith(heads[path.suffix[1:]])
            # Real colours, none of the page's.
            assert b"var(--" not in path.read_bytes() and (path.suffix != ".svg" or b"#010203" not in path.read_bytes())
    assert len(paths) == 3
    assert all((tmp_path / "a" / path.name).read_bytes() == path.read_bytes() for path in paths)
