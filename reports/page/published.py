"""Results of papers and of submissions, beside measured ones: grey, with their source, and never ranked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.errors import did_you_mean
from reports.records.formatting import number


@dataclass(frozen=True)
class Reference:
    """One grey row: `values` by modality or "modality/domain"."""

    title: str
    source: str
    values: dict[str, str]


def references(published: Sequence[Any], domains: Sequence[str]) -> list[Reference]:
    """Published Dice values of the modalities and domains of a report.

    Args:
        published: entries with method, modality, domain (None: mean of the modality), metric, value, source, page.
        domains: "modality/domain" of the report.
    """
    places = _places(domains)
    found: dict[tuple[str, str], dict[str, str]] = {}
    for entry in published:
        place = _place(entry)
        if entry.metric == "dice" and place in places:
            source = f"{entry.source}, p. {entry.page}" if entry.page else str(entry.source)
            found.setdefault((entry.method, source), {})[place] = number(entry.value)
    return [Reference(title, source, values) for (title, source), values in found.items()]


def published_words(published: Sequence[Any]) -> str:
    """What the grey rows are, in a sentence or two; "" where there are none. Papers have a page, files of `submit` have none."""
    papers = "are what papers report, on their data and splits"
    files = (
        "come from a file that submit wrote: means over the test images of its own run, as its submitter measured them, not"
        " computed again here. Images, splits, budget and settings may differ"
    )
    match sorted({bool(entry.page) for entry in published}):
        case []:
            return ""
        case [True]:
            return f"Published rows {papers}: for orientation, never ranked."
        case [False]:
            return f"Published rows {files}: for orientation, never ranked."
        case _:
            return f"Published rows are for orientation, never ranked. Those with a page of a paper {papers}. The others {files}."


def left_out(published: Sequence[Any], domains: Sequence[str]) -> list[str]:
    """One sentence for each kind of entry that `references` has no place for; arguments as there."""
    places = _places(domains)
    elsewhere = [entry for entry in published if _place(entry) not in places]
    others = [entry for entry in published if _place(entry) in places and entry.metric != "dice"]
    sentences = []
    if elsewhere:
        names = ", ".join(dict.fromkeys(f"{entry.method} on {_place(entry)}" for entry in elsewhere))
        hints = dict.fromkeys(did_you_mean(_place(entry), places) for entry in elsewhere)
        hint = next(iter(hints)) if len(hints) == 1 else f" This report has: {', '.join(sorted(places))}."
        sentences.append(f"{_entries(elsewhere)} of no domain of this report and left out: {names}.{hint}")
    if others:
        names = ", ".join(dict.fromkeys(f"{entry.method} on {_place(entry)} ({entry.metric})" for entry in others))
        sentences.append(f"{_entries(others)} of other metrics than dice, which are not shown: {names}.")
    return sentences


def _entries(entries: Sequence[Any]) -> str:
    return "1 entry is" if len(entries) == 1 else f"{len(entries)} entries are"


def _places(domains: Sequence[str]) -> set[str]:
    return {*domains, *(name.split("/")[0] for name in domains)}


def _place(entry: Any) -> str:
    return entry.modality if entry.domain is None else f"{entry.modality}/{entry.domain}"
