"""Figures: what is drawn, what is left out, and that nothing overlaps or is cut."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from harness.store import Store
from reports.figures import MAX_TICKS, SHADE, SHADE_OPACITY, draw_figures, log_ticks
from reports.leaderboard import build_leaderboard
from reports.records import find_suite, read_records


def figures_of(simulated: Any, curves: Callable[[pd.DataFrame], pd.DataFrame] = lambda frame: frame) -> dict[str, Any]:
    store = Store(simulated.root)
    records = read_records(store, find_suite(store))
    drawn = draw_figures(build_leaderboard(records), curves(records.curves), unseen=True)
    return {figure.name: figure for figure in drawn}


def texts(figure: Any) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]+)</text>", figure.svg)


def cost_figure(simulated: Any, gmacs: dict[str, float | None]) -> Any:
    """The figure of Dice against cost when each method has those GMACs (None: never measured)."""
    import shutil

    shutil.rmtree(simulated.root / "efficiency")
    store = Store(simulated.root)
    for method, value in gmacs.items():
        if value is not None:
            store.write_efficiency(method, {"method": method, "image_size": 64, "gmacs": value, "device": "CPU"})
    return figures_of(simulated).get("cost")


def test_unmeasured_costs_are_not_drawn_as_none(make_store: Callable[..., Any]) -> None:
    simulated = make_store(faults={}, predictions=False)
    figure = cost_figure(simulated, {"delightsam": 4.0, "boxed": 9.0, "otsu": 0.0, "unet": None})
    words = texts(figure)
    assert "U-Net (ResNet-18): cost not measured" in words and "Otsu threshold, no GMACs" in words
    assert not any("U-Net" in text and "no GMACs" in text for text in words)
    assert "Cost not measured: U-Net (ResNet-18)." in figure.alt and "Otsu threshold, no GMACs: Dice" in figure.alt


@pytest.mark.parametrize(("low", "high"), [(0.5, 2.1), (0.4, 40), (0.06, 900), (3e4, 2e9), (1e-6, 1e9), (0.9, 3.7)])
def test_few_round_ticks_on_the_axis_of_costs(low: float, high: float) -> None:
    ticks = log_ticks(low, high)
    assert 1 <= len(ticks) <= MAX_TICKS and ticks == sorted(ticks)
    assert all(low <= tick <= high and f"{tick:e}"[0] in "1235" for tick in ticks)


def test_ticks_of_a_wide_axis_are_few_in_the_figure(make_store: Callable[..., Any]) -> None:
    simulated = make_store(faults={}, predictions=False)
    figure = cost_figure(simulated, {"delightsam": 0.03, "boxed": 900.0, "otsu": 0.0, "unet": 1.0})
    axis = figure.svg[figure.svg.index('id="cost-matplotlib.axis_1"') : figure.svg.index('id="cost-matplotlib.axis_2"')]
    assert 2 <= axis.count("cost-xtick_") <= MAX_TICKS


def test_one_epoch_is_no_curve(make_store: Callable[..., Any]) -> None:
    simulated = make_store(faults={}, predictions=False)
    assert "curves" in figures_of(simulated)
    assert "curves" not in figures_of(simulated, lambda curves: curves[curves["epoch"] == 1])
    assert "curves" not in figures_of(simulated, lambda curves: curves.drop(columns="validation_dice"))


def test_the_axis_of_curves_has_whole_epochs(make_store: Callable[..., Any]) -> None:
    figure = figures_of(make_store(faults={}, predictions=False))["curves"]
    axis = figure.svg[figure.svg.index("curves-matplotlib.axis_1") : figure.svg.index("curves-matplotlib.axis_2")]
    labels = re.findall(r"<text[^>]*>([^<]+)</text>", axis)
    assert labels == ["1", "2", "Epoch"]


def test_the_heat_map_leaves_incomplete_methods_out_and_says_so(holed: Any, complete: Any) -> None:
    heat = figures_of(holed)["heat"]
    assert "De-LightSAM" in texts(heat) and not {"U-Net (ResNet-18)", "Otsu threshold"} & set(texts(heat))
    assert heat.title.endswith("complete methods only") and "Left out because incomplete: 2." in heat.alt
    whole = figures_of(complete)["heat"]
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


def test_titles_cut_alike_keep_their_names_in_figures(complete: Any) -> None:
    store = Store(complete.root)
    records = read_records(store, find_suite(store))
    board = build_leaderboard(records)
    long = "A title that is far too long for any figure"
    table = board.table.assign(title=[f"{long} ({name})" for name in board.table["method"]])
    drawn = draw_figures(replace(board, table=table), records.curves, unseen=True)
    for figure in drawn:
        words = texts(figure)
        # Otsu has no learning curve.
        names = [name for name in records.methods if (name, figure.name) != ("otsu", "curves")]
        assert all(any(f"… ({name})" in text for text in words) for name in names), figure.name
