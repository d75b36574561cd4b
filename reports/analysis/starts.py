"""Starts: from which weights each row begins. Rows of unequal starts are marked wherever they stand side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from harness.errors import some
from harness.methods.card import NO_WEIGHTS, NOT_STATED, SCRATCH
from reports.analysis.means import Means
from reports.analysis.views import rank_words
from reports.records.formatting import interval, number
from reports.records.frames import rows
from reports.records.records import Records

MARKS = {
    SCRATCH: "from scratch",
    "natural images": "natural-image start",
    "medical images": "medical-image start",
    NOT_STATED: "start not stated",
    NO_WEIGHTS: "",
}
"""Start -> what stands behind a title where rows of unequal starts meet. A method that learns no weights needs no mark."""


def are_mixed(starts: Iterable[str]) -> bool:
    """Whether they are of more than one kind; what learns no weights fits to any."""
    return len(set(starts) - {NO_WEIGHTS}) > 1


def marked(title: str, start: str) -> str:
    """ "U-Net [from scratch]"."""
    return f"{title} [{MARKS[start]}]" if MARKS.get(start) else title


def data_words(names: Sequence[str]) -> str:
    """The data behind a start, at most three by name."""
    return some(names)


def with_starts(table: pd.DataFrame, means: Means, domains: Sequence[str]) -> pd.DataFrame:
    """Adds `label`, the title with a mark where starts differ, and `rank_in_start`, the rank among rows of the same track and
    start ("2", or "1–3"); none for what learns no weights, nor where a start is not stated and may equal none.
    """
    mixed = are_mixed(table["start"])
    labels = [marked(row.title, row.start) if mixed else row.title for row in rows(table)]
    ranks: dict[str, str] = {}
    ranked = table[table["rank"].notna() & ~table["start"].isin([NO_WEIGHTS, NOT_STATED])]
    for _, members in ranked.groupby(["track", "start"], sort=False):
        names = members["method"].tolist()
        ranks |= dict(zip(names, map(rank_words, means.ranks(names, domains)), strict=True))
    within = table["method"].map(ranks).astype(object)
    return table.assign(label=labels, rank_in_start=within.where(table["method"].isin(ranks), None))


def surely_unseen(records: Records) -> list[str]:
    """The test domains that the pretraining of no row may contain, so that all rows can be compared on them."""
    seen = {domain for facts in records.methods.values() for domain in facts.possibly_seen(records.domains)}
    return [domain for domain in records.domains if domain not in seen]


def start_cautions(table: pd.DataFrame) -> list[str]:
    """What stands above everything else where a table mixes starts."""
    if table.empty or not are_mixed(table["start"]):
        return []
    parts = []
    for start, members in table[table["start"] != NO_WEIGHTS].groupby("start", sort=False):
        data = list(dict.fromkeys(name for names in members["pretrained_on"] for name in names))
        parts.append(f"{MARKS[str(start)]}: {len(members)}{f' ({data_words(data)})' if data else ''}")
    return [
        f"Unequal starts ({'; '.join(parts)}). A lead over a method of another start may be owed to the pretraining, not to the"
        " method: compare within equal starts."
    ]


def best_within_starts(table: pd.DataFrame) -> list[str]:
    """The best automatic method of every start, in one sentence; none where all starts are equal."""
    ranked = table[(table["track"] == "automatic") & table["dice"].notna() & (table["start"] != NO_WEIGHTS)]
    if not are_mixed(ranked["start"]):
        return []
    parts = []
    ranked = ranked[ranked["start"] != NOT_STATED]
    for start, members in ranked.groupby("start", sort=False):
        best = rows(members)[0]
        others = "the only one" if len(members) == 1 else f"of {len(members)}"
        value = f"{number(best.dice)} {interval(best.dice_low, best.dice_high)}".strip()
        parts.append(f"{best.title} [{MARKS[str(start)]}, {others}] {value}")
    return [f"The highest macro Dice within each start: {'; '.join(parts)}."]
