"""What the methods of a run cost, from the store's measurements: one row per method and machine."""

from __future__ import annotations

from typing import Any

import pandas as pd

from reports.records.records import MethodFacts, Records

COUNTS = ("parameters_total", "parameters_active", "parameters_trainable", "gmacs")
"""The same on every machine."""
_MEASURED = [
    *COUNTS, "latency_ms_p50", "latency_ms_p95", "throughput_images_per_second", "throughput_batch", "peak_memory_mib",
    "image_size", "device", "threads", "dtype", "torch", "measured", "forms", "latency_ms_by_size", "size_exponent",
    "energy_mj_per_image", "latency_drift", "throughput_by_batch",
]  # fmt: skip
NESTED = ("forms", "latency_ms_by_size", "throughput_by_batch")
"""Columns of lists and mappings, which no CSV holds."""
_DERIVED = ("fastest_ms_p50", "fastest_form")
QUIET = 0.1
"""A machine was quiet where the rounds' medians of a latency differ by this part at most."""


def cost_table(records: Records) -> pd.DataFrame:
    """Costs of each method at its own input size, of this run's model and version, the newest row of each machine.

    Returns:
        Columns method, title, machine, what was measured, and of the fastest form `fastest_ms_p50` and `fastest_form` (in
        words). The rows of a method stand together, newest first. One that
        was never measured has a single row, whose `machine` is None: not measured is not free.
    """
    rows = []
    for name, facts in records.methods.items():
        newest: dict[str, dict[str, Any]] = {}
        for row in sorted(_matching(records, facts), key=lambda row: str(row.get("measured") or ""), reverse=True):
            newest.setdefault(_machine(row), row)
        for machine, row in newest.items() or [(None, {})]:
            values = {key: row.get(key) for key in _MEASURED} | _fastest(row)
            rows.append({"method": name, "title": facts.title, "machine": machine, **values})
    return pd.DataFrame(rows, columns=["method", "title", "machine", *_MEASURED, *_DERIVED])


def _fastest(row: dict[str, Any]) -> dict[str, Any]:
    forms = row.get("forms")
    if not forms:
        return dict.fromkeys(_DERIVED)
    best = min(forms, key=lambda form: form["latency_ms_p50"])
    return {"fastest_ms_p50": best["latency_ms_p50"], "fastest_form": f"{best['form']}, {best['dtype']}"}


def form_table(costs: pd.DataFrame) -> pd.DataFrame:
    """One row for each form that was timed of each method and machine.

    Returns:
        Columns title, method, machine, form, dtype, latency_ms_p50, latency_ms_p95, throughput_images_per_second, throughput_batch;
        and `throughput_by_batch` (batch -> images a second), of plain float32 alone.
    """
    rows = []
    for _, row in costs.iterrows():
        for form in row["forms"] if isinstance(row["forms"], list) else []:
            rates = row["throughput_by_batch"] if form["form"] == "plain" and form["dtype"] == "float32" else None
            same = {name: row[name] for name in ("title", "method", "machine", "throughput_batch")}
            rows.append({**same, **form, "throughput_by_batch": rates if isinstance(rates, dict) else {}})
    columns = [
        "title", "method", "machine", "form", "dtype", "latency_ms_p50", "latency_ms_p95", "throughput_images_per_second",
        "throughput_batch", "throughput_by_batch",
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def drift_words(row: pd.Series) -> str:
    """Says that the machine was not quiet while this row was measured; "" where it was, or where only one round tells."""
    drift = row["latency_drift"]
    return f"not quiet: rounds {100 * drift:.0f} % apart" if pd.notna(drift) and drift > QUIET else ""


def machines(costs: pd.DataFrame) -> list[str]:
    """Those on which a speed was measured."""
    timed = costs[costs["throughput_images_per_second"].notna()]
    return sorted(timed["machine"].dropna().unique())


def _matching(records: Records, facts: MethodFacts) -> list[dict[str, Any]]:
    """Costs of another size, of an older model or version, or of other modalities are not this method's costs."""
    built_for = [set(trial.spec.modalities) for trial in records.trials_of(facts.name) if trial.spec]
    wanted = {
        "method": facts.origin or facts.name,
        "method_version": facts.version,
        "image_size": records.suite.config.get("efficiency_image_size") or facts.image_size,
        "model": facts.model,
    }
    return [
        row
        for row in records.efficiency
        if all(value is None or row.get(key, value) == value for key, value in wanted.items())
        and (not built_for or "modalities" not in row or set(row["modalities"]) in built_for)
    ]


def _machine(row: dict[str, Any]) -> str:
    threads = row.get("threads")
    parts = [
        str(row.get("device", "unknown device")),
        f"{threads} thread{'s' * (threads != 1)}" if threads else "",
        row.get("dtype"),
    ]
    return ", ".join(str(part) for part in parts if part)
