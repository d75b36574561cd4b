"""The table of costs says what was measured, and has no room for what nobody could measure."""

from __future__ import annotations

import pandas as pd

from reports.analysis.costs import _MEASURED
from reports.tables.cost_columns import cost_columns


def costs(**values: object) -> pd.DataFrame:
    row = dict.fromkeys(["method", "title", "machine", *_MEASURED, "fastest_ms_p50", "fastest_form"])
    return pd.DataFrame([{**row, "title": "U-Net", **values}])


def test_energy_has_a_column_where_it_was_measured() -> None:
    assert "energy_mj_per_image" not in [column.key for column in cost_columns(costs())]
    table = costs(energy_mj_per_image=12.34)
    columns = {column.key: column for column in cost_columns(table)}
    assert columns["energy_mj_per_image"].cell(table.iloc[0]).main == "12.3 mJ"
    assert list(columns)[-1] == "machine"
