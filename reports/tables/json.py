"""The whole leaderboard as JSON, by the schema that stands beside this file (leaderboard.schema.json)."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from importlib import resources
from typing import Any

import numpy as np
import pandas as pd

from harness import __version__
from harness.metrics import REGISTRY, shown_metrics
from reports.analysis.comparison import Comparison
from reports.records.records import Records
from reports.tables.columns import extra_columns
from reports.tables.leaderboard import Leaderboard

FORMAT_VERSION = 1
"""Rises when a field changes its meaning or goes; new fields don't raise it."""


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of `leaderboard.json`: the file beside this one, and the metrics and columns of today."""
    text = resources.files("reports.tables").joinpath("leaderboard.schema.json").read_text("utf-8")
    found = dict(json.loads(text))
    methods, domains = (found["properties"][name]["items"]["properties"] for name in ("methods", "domains"))
    number = {"type": ["number", "null"]}
    for name in shown_metrics():
        value = number if REGISTRY[name].unit else {**number, "minimum": 0, "maximum": 1}
        methods |= {name: value, f"{name}_low": number, f"{name}_high": number}
        domains[name] = value
    domains |= {"dice_low": number, "dice_high": number}
    methods |= {column.key: {**number, "description": column.definition} for column in extra_columns()}
    return found


def as_json(records: Records, board: Leaderboard, title: str, made: str) -> str:
    """All tables with full precision; undefined and missing values are null."""
    compared = board.comparison
    document = {
        "format_version": FORMAT_VERSION,
        "bench": __version__,
        "title": title,
        "made": made,
        "headline": board.headline,
        "cautions": board.cautions,
        "notes": board.notes,
        "differences": [{"title": each.title, "what": list(each.what)} for each in board.differences],
        "terms": [
            {
                "method": each.method,
                "title": each.title,
                "images_seen": each.images_seen,
                "epochs": each.epochs,
                "configurations": each.configurations,
                "choices": [{"fold": fold, **asdict(choice)} for fold, choice in each.choices.items()],
            }
            for each in board.terms
        ],
        "unseen": records.unseen,
        "hardware": board.hardware,
        "methods": _rows(board.table),
        "domains": _rows(board.domains.merge(board.spread.drop(columns="images"), how="left", on=["method", "domain"])),
        "modalities": _rows(board.modalities),
        "costs": _rows(board.costs),
        "failures": _rows(board.failures),
        "corruptions": _rows(board.corruptions),
        "pairs": _rows(compared.pairs) if compared else [],
        "ranks": _ranks(compared) if compared else [],
        "trials": [
            {"id": trial.ids.training, "prediction": trial.ids.prediction, "measurement": trial.ids.measurement}
            | {key: getattr(trial, key) for key in ("method", "fold", "seed", "state", "reason", "seconds")}
            | {"fingerprint": trial.spec.split.fingerprint if trial.spec else None}
            for trial in records.trials
        ],
    }
    return json.dumps(plain_json(document), ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def _ranks(compared: Comparison) -> list[dict[str, Any]]:
    number = len(compared.methods)
    shares = compared.ranks.probabilities if compared.ranks else np.full((number, number), np.nan)
    expected = compared.ranks.expected if compared.ranks else np.full(number, np.nan)
    return [
        {"method": name, "group": compared.groups[name], "probabilities": row, "expected": mean}
        for name, row, mean in zip(compared.methods, shares.tolist(), expected.tolist(), strict=True)
    ]


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


def plain_json(value: Any) -> Any:
    """What JSON knows: NaN and its kin become null."""
    if isinstance(value, dict):
        return {key: plain_json(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_json(each) for each in value]
    if isinstance(value, np.generic):
        return plain_json(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return None if value is pd.NA or value is pd.NaT else value
