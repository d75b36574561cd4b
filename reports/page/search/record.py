"""A search as the report reads it: `search.json` of a sweep's folder, with what is worked out from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import UserError
from harness.files import read_json
from harness.statistics import TOLERANCE

SCHEMA_VERSION = 1
LISTS = ("choice", "grid")


@dataclass(frozen=True)
class SearchRecord:
    """`content` is the file's content; `attempts` are the configurations of the search over all folds, by number."""

    content: dict[str, Any]
    attempts: list[dict[str, Any]]

    @property
    def space(self) -> list[dict[str, Any]]:
        return list(self.content["space"])

    @property
    def default(self) -> dict[str, Any] | None:
        return next((each for each in self.attempts if each["number"] == 0), None)

    @property
    def best(self) -> dict[str, Any] | None:
        return next((each for each in self.attempts if each["number"] == self.content["best"]), None)

    @property
    def done(self) -> list[dict[str, Any]]:
        return [each for each in self.attempts if each["objective"] is not None]


def read_search(folder: Path) -> SearchRecord:
    """
    Raises:
        UserError: the folder holds no search, or one of a newer version.
    """
    content = read_json(folder / "search.json")
    version = content.get("schema_version") if isinstance(content, dict) else None
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise UserError(
            f"{folder / 'search.json'} has schema_version {version}; this version of the bench reads up to"
            f" {SCHEMA_VERSION}. Update delightsam-bench."
        )
    attempts = (content["overall"] or {"attempts": []})["attempts"]
    return SearchRecord(content, sorted(attempts, key=lambda each: int(each["number"])))


@dataclass(frozen=True)
class Importance:
    """Share of the variance of the validation Dice (0 to 1) that each parameter explains alone, after `epochs` epochs."""

    shares: dict[str, float]
    epochs: int
    configurations: int


def importance(record: SearchRecord) -> Importance | None:
    """Adjusted R² of a fit on one parameter alone: a parabola in its value (in its logarithm where it was searched so), or
    the mean for each value of a list. It knows of no interactions and needs no forest; below 0 it counts as 0.

    All configurations that were trained take part, judged at the last time that all of them reached, so that those that
    were stopped early are compared with the others fairly. None where that leaves too few.
    """
    if record.content["scheduler"] == "pbt":
        return None
    histories = [(each["values"], [row for row in each["history"] if row[1] is not None]) for each in record.attempts]
    histories = [(values, history) for values, history in histories if history]
    if len(histories) < 4:
        return None
    time = min(history[-1][0] for _, history in histories)
    scores = np.array([[row[1] for row in history if row[0] <= time][-1:] or [math.nan] for _, history in histories])
    known = np.isfinite(scores[:, 0])
    if known.sum() < 4 or float(np.ptp(scores[known])) <= TOLERANCE:
        return None
    shares = {
        parameter["key"]: _adjusted_r2(
            [values[parameter["key"]] for (values, _), use in zip(histories, known, strict=True) if use],
            scores[known, 0],
            parameter["kind"],
        )
        for parameter in record.space
    }
    return Importance(shares, int(time), int(known.sum()))


def _adjusted_r2(values: Sequence[Any], scores: np.ndarray[Any, Any], kind: str) -> float:
    if kind in LISTS:
        names = sorted(set(map(str, values)))
        columns = np.array([[float(str(value) == name) for name in names] for value in values])
    else:
        x = np.array([float(value) for value in values])
        x = np.log(np.maximum(x, 1e-300)) if kind == "log_uniform" else x
        spread = float(np.ptp(x)) or 1.0
        x = (x - x.min()) / spread
        columns = np.stack([np.ones_like(x), x, x**2], axis=1)
    rank = int(np.linalg.matrix_rank(columns))
    free = len(scores) - rank
    if free <= 0 or rank < 2:
        return 0.0
    fitted = columns @ np.linalg.lstsq(columns, scores, rcond=None)[0]
    left, total = float(((scores - fitted) ** 2).sum()), float(((scores - scores.mean()) ** 2).sum())
    return max(0.0, 1 - (left / free) / (total / (len(scores) - 1)))
