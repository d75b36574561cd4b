"""The ranking by another metric or over fewer domains: every choice of the page worked out beforehand, none in the browser."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from harness.metrics import REGISTRY
from reports.analysis.means import Means
from reports.records.records import Records


@dataclass(frozen=True)
class Scope:
    """Which domains a view is over."""

    kind: str
    title: str
    domains: tuple[str, ...]


def scopes(records: Records, surely_unseen: Sequence[str] = ()) -> list[Scope]:
    """All domains, those that no row's pretraining may contain, each modality, and each domain; a scope that says the same as a wider one is left out."""
    domains = tuple(records.domains)
    members: dict[str, list[str]] = {}
    for name in domains:
        members.setdefault(name.split("/")[0], []).append(name)
    found = [Scope("all", "All domains", domains)]
    if sure := tuple(surely_unseen):
        found.append(Scope("all", "Unlisted domains", sure))
    found += [Scope("modality", modality, tuple(names)) for modality, names in members.items()]
    found += [Scope("domain", name, (name,)) for name in domains]
    return list({scope.domains: scope for scope in reversed(found)}.values())[::-1]


def build_views(
    records: Records, table: pd.DataFrame, means: Means, surely_unseen: Sequence[str] = ()
) -> dict[str, Any]:
    """What the page needs to rank again, as JSON.

    Returns:
        `metrics` [{key, title, better, digits}], `scopes` [{kind, title}], `methods` (names, as `values` counts them) and
        `values`[metric][scope][method] = [value, low, high, rank] or None where a trial is missing. Ranks are within a track;
        None for the incomplete, who may still have values in the scopes that they cover.
    """
    chosen = scopes(records, surely_unseen)
    methods = table["method"].tolist()
    tracks = [table.loc[table["track"] == track, "method"].tolist() for track in ("automatic", "oracle")]
    values = [[_view(means, methods, tracks, metric, scope.domains) for scope in chosen] for metric in means.metrics]
    metrics = [
        {
            "key": name,
            "title": REGISTRY[name].title,
            "better": "higher" if REGISTRY[name].higher_is_better else "lower",
            "digits": REGISTRY[name].digits,
        }
        for name in means.metrics
    ]
    return {
        "metrics": metrics,
        "scopes": [{"kind": scope.kind, "title": scope.title} for scope in chosen],
        "methods": methods,
        "values": values,
    }


def _view(
    means: Means, methods: list[str], tracks: list[list[str]], metric: str, domains: tuple[str, ...]
) -> list[list[Any] | None]:
    estimates = {name: means.unseen(name, domains, metric) for name in methods}
    known = {name for name, estimate in estimates.items() if not math.isnan(estimate.value)}
    ranks: dict[str, str] = {}
    for track in tracks:
        ranked = [name for name in track if name in known]
        ranks |= dict(zip(ranked, map(rank_words, means.ranks(ranked, domains, metric)), strict=True))
    return [
        [_rounded(each.value), _rounded(each.low), _rounded(each.high), ranks.get(name)] if name in known else None
        for name, each in estimates.items()
    ]


def rank_words(places: tuple[int, int]) -> str:
    """(2, 2) -> "2", (1, 3) -> "1–3"."""
    return str(places[0]) if places[0] == places[1] else f"{places[0]}–{places[1]}"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
