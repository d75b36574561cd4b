"""Results that papers report, beside measured ones: grey, with their source, and never ranked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reports.records.formatting import number


@dataclass(frozen=True)
class Reference:
    """One paper's row: `values` by modality or "modality/domain"."""

    title: str
    source: str
    values: dict[str, str]


def references(published: Sequence[Any], domains: Sequence[str]) -> list[Reference]:
    """Published Dice values of the modalities and domains of a report.

    Args:
        published: entries with method, modality, domain (None: mean of the modality), metric, value, source, page.
        domains: "modality/domain" of the report.
    """
    places = {*domains, *(name.split("/")[0] for name in domains)}
    found: dict[tuple[str, str], dict[str, str]] = {}
    for entry in published:
        place = entry.modality if entry.domain is None else f"{entry.modality}/{entry.domain}"
        if entry.metric == "dice" and place in places:
            source = f"{entry.source}, p. {entry.page}" if entry.page else str(entry.source)
            found.setdefault((entry.method, source), {})[place] = number(entry.value)
    return [Reference(title, source, values) for (title, source), values in found.items()]
