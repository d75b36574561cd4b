"""The table of costs says what was measured, and has no room for what nobody could measure."""

from __future__ import annotations

import pandas as pd
import pytest

from reports.analysis.costs import _MEASURED, form_table
from reports.records.formatting import MISSING
from reports.tables.cost_columns import FORM_COLUMNS, cost_columns


def costs(**values: object) -> pd.DataFrame:
    row = dict.fromkeys(["method", "title", "machine", *_MEASURED, "fastest_ms_p50", "fastest_form"])
    return pd.DataFrame([{**row, "title": "U-Net", "method": "U-Net", **values}])


def test_energy_has_a_column_where_it_was_measured() -> None:
    assert "energy_mj_per_image" not in [column.key for column in cost_columns(costs())]
    table = costs(energy_mj_per_image=12.34)
    columns = {column.key: column for column in cost_columns(table)}
    assert columns["energy_mj_per_image"].cell(table.iloc[0]).main == "12.3 mJ"
    assert list(columns)[-1] == "machine"


@pytest.mark.parametrize(("drift", "words"), [(0.304, "not quiet: rounds 30 % apart"), (0.1, ""), (None, "")])
def test_times_of_a_machine_that_was_not_quiet_are_marked(drift: float | None, words: str) -> None:
    table = costs(
        latency_ms_p50=10.0,
        latency_ms_p95=12.0,
        throughput_images_per_second=100.0,
        throughput_batch=8,
        fastest_ms_p50=5.0,
        fastest_form="accelerated, float32",
        latency_drift=drift,
    )
    row = table.iloc[0]
    columns = {column.key: column for column in cost_columns(table)}
    details = {key: column.cell(row).detail for key, column in columns.items() if column.cell(row).detail}
    marked = {"latency": "p95 12 ms", "fastest": "accelerated, float32", "throughput": "batch 8"}
    assert details == {key: f"{detail}; {words}" if words else detail for key, detail in marked.items()}


def test_each_form_has_a_row_with_its_throughput_and_plain_float32_with_that_of_each_batch() -> None:
    forms = [
        {"form": "plain", "dtype": "float32", "latency_ms_p50": 25.0, "latency_ms_p95": 31.0}
        | {"throughput_images_per_second": 64.0},
        {"form": "accelerated", "dtype": "bfloat16", "latency_ms_p50": 9.5, "latency_ms_p95": 12.0}
        | {"throughput_images_per_second": None},
    ]
    table = form_table(
        costs(forms=forms, throughput_batch=4, throughput_by_batch={"1": 40.0, "4": 64.0}, machine="CPU")
    )
    written = [[column.cell(row).text() for column in FORM_COLUMNS] for _, row in table.iterrows()]
    assert written == [
        ["U-Net", "plain float32", "25 ms p95 31 ms", "64 batch 4", "1: 40, 4: 64", "CPU"],
        ["U-Net", "accelerated bfloat16", "9.5 ms p95 12 ms", MISSING, "", "CPU"],
    ]


def test_rows_of_an_older_protocol_lack_throughputs_of_forms() -> None:
    forms = [{"form": "plain", "dtype": "float32", "latency_ms_p50": 25.0, "latency_ms_p95": 31.0}]
    table = form_table(costs(forms=forms, machine="CPU"))
    assert [FORM_COLUMNS[3].cell(table.iloc[0]).main, FORM_COLUMNS[4].cell(table.iloc[0]).main] == [MISSING, ""]
    assert form_table(costs()).empty
