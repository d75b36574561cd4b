"""What each submission changed: who took the lead, and where the others came in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from reports.records.formatting import interval, number
from reports.records.frames import rows as table_rows
from reports.submissions.rankings import Ranking


@dataclass(frozen=True)
class Event:
    """The arrival of one row.

    Attributes:
        title: of the row, with a mark of its start where those of the ranking differ.
        dice: macro Dice over all test domains; None of a row without a mean.
        leads: whether it was the highest among the automatic methods of its ranking when it came.
        words: the same as a sentence.
    """

    received: str
    file: str
    method: str
    title: str
    page: str
    data: str
    trust: str
    dice: float | None
    leads: bool
    words: str


def history(rankings: Sequence[Ranking]) -> list[Event]:
    """All arrivals, the oldest first. The lead is that of the means: whether it is more than chance, the ranking says."""
    events = [event for ranking in rankings for event in _of_ranking(ranking)]
    return sorted(events, key=lambda event: (event.received, event.file, event.method))


def _of_ranking(ranking: Ranking) -> list[Event]:
    table = {row.method: row for row in table_rows(ranking.board.table)}
    arrivals = sorted(ranking.rows.values(), key=lambda row: (row.entry.received, row.entry.file, row.place))
    events: list[Event] = []
    best, leader = -math.inf, ""
    for row in arrivals:
        found = table[row.name]
        ranked = found.track == "automatic" and found.dice is not None and not math.isnan(found.dice)
        dice = float(found.dice) if found.dice is not None and not math.isnan(found.dice) else None
        leads = ranked and dice is not None and dice > best
        with_interval = f"{number(found.dice)} {interval(found.dice_low, found.dice_high)}".strip()
        if leads and dice is not None:
            before = f" (before: {leader}, {number(best)})" if leader else ""
            words, best, leader = f"takes the lead with {with_interval}{before}", dice, str(found.label)
        elif ranked:
            words = f"comes in with {with_interval}; {leader} leads with {number(best)}"
        elif dice is not None:
            words = f"comes in with {with_interval}, ranked apart: helped by the truth"
        else:
            words = "comes in without a mean: incomplete"
        events.append(
            Event(row.entry.received, row.entry.file, row.name, str(found.label), row.page, ranking.data, ranking.trust,
                  dice, leads, words)
        )  # fmt: skip
    return events
