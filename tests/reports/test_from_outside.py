"""A metric and a column of one's own are one object each, and stand in every output."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pandas as pd
import pytest
from rich.console import Console

import reports.tables.columns
from harness.errors import UserError
from harness.metrics import REGISTRY, register
from reports.build import build_report
from reports.tables.columns import columns, number_column, register_column

COLUMN = number_column(
    "dice_for_size",
    "Dice for size",
    "Dice per million parameters.",
    lambda row: None if not row["parameters_total"] or pd.isna(row["dice"]) else row["dice"] / row["parameters_total"] * 1e6,
    digits=4,
    better="higher",
    shown_in=("ranking", "terminal", "wide terminal", "latex"),
)  # fmt: skip


@pytest.fixture
def from_outside(extra_metric: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports.tables.columns, "_EXTRA", [])
    register_column(COLUMN)


def test_both_stand_in_every_output(make_store: Callable[..., Any], tmp_path: Path, from_outside: None) -> None:
    def add(method: str, frame: pd.DataFrame) -> pd.DataFrame:
        return frame if method == "unet" else frame.assign(volume_similarity=frame["dice"] / 2)

    simulated = make_store(faults={}, change=add, predictions=False)
    paths = build_report(simulated.root, simulated.suite, tmp_path / "out")
    board = paths.board.table.set_index("method")
    similar, rate = board.loc["delightsam", "volume_similarity"], board.loc["delightsam", "dice_for_size"]
    assert similar == pytest.approx(board.loc["delightsam", "dice"] / 2) and rate > 0

    page, markdown = (path.read_text("utf-8") for path in (paths.html, paths.markdown))
    for text in (page, markdown):
        assert "Volume similarity" in text and f"{similar:.2f}" in text
        assert "Dice for size" in text and f"{rate:.4f}" in text
    assert "1 - ||P| - |G|| / (|P| + |G|)." in page and "Dice per million parameters." in page
    assert json.dumps("volume_similarity") in page, "the page can rank by it"
    # Trials from before it was there stay whole.
    row = next(line for line in markdown.splitlines() if line.startswith("| U-Net") and "not measured" in line)
    assert "damaged" not in page and row
    assert "Not measured in every trial: Volume similarity. `python -m harness measure`" in page
    latex = paths.latex.read_text("utf-8")
    assert r"Dice for size $\uparrow$" in latex and f"{rate:.4f}" in latex
    text = io.StringIO()
    paths.print_table(Console(file=text, width=160))
    assert "Dice for size" in text.getvalue() and f"{rate:.4f}" in text.getvalue()

    csv, parquet = pd.read_csv(paths.csv).set_index("method"), pd.read_parquet(paths.parquet).set_index("method")
    for table in (csv, parquet):
        assert table.loc["delightsam", "volume_similarity"] == pytest.approx(similar)
        assert table.loc["delightsam", "dice_for_size"] == pytest.approx(rate)
        assert pd.isna(table.loc["unet", "volume_similarity"]) and pd.notna(table.loc["unet", "dice"])
    document = json.loads(paths.json.read_text("utf-8"))
    schema = json.loads((paths.folder / "leaderboard.schema.json").read_text("utf-8"))
    jsonschema.validate(document, schema)
    known = schema["properties"]["methods"]["items"]["properties"]
    assert {"volume_similarity", "volume_similarity_low", "dice_for_size"} <= known.keys()
    methods = {each["method"]: each for each in document["methods"]}
    assert methods["delightsam"]["volume_similarity"] == pytest.approx(similar)
    assert methods["unet"]["volume_similarity"] is None and methods["unet"]["unmeasured"] == ["volume_similarity"]
    assert methods["delightsam"]["dice_for_size"] == pytest.approx(rate)


def test_names_that_are_taken_are_refused(from_outside: None) -> None:
    with pytest.raises(UserError, match="there is a metric 'volume_similarity' already"):
        register(REGISTRY["volume_similarity"])
    with pytest.raises(UserError, match="there is a column 'dice_for_size' already"):
        register_column(COLUMN)
    assert [column.key for column in columns([], unseen=True)].count("dice_for_size") == 1
