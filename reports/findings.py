"""What the tables say, in sentences: the first thing that a reader sees."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from harness.statistics import Estimate
from reports.columns import interval, number
from reports.frames import rows
from reports.records import Records


def findings(
    records: Records, table: pd.DataFrame, modalities: pd.DataFrame, lead: Callable[[str, str], Estimate]
) -> list[str]:
    """The findings of a run, the most important first.

    Args:
        table, modalities: as in `reports.leaderboard.Leaderboard`.
        lead: macro Dice of one ranked method minus that of another, paired by image.
    """
    return [
        *_about_the_best(records, table, lead),
        *_lost_on_unseen_domains(table),
        *_floors_not_beaten(table, modalities),
        *_domains_not_tested(records),
    ]


def _about_the_best(records: Records, table: pd.DataFrame, lead: Callable[[str, str], Estimate]) -> list[str]:
    ranked = rows(table[table["track"] == "automatic"])
    if not ranked:
        return []
    best, others = ranked[0], ranked[1:]
    # Asked of each one directly: places don't tell, because "not told apart" is not transitive.
    tied = [other.title for other in others if not lead(best.method, other.method).excludes_zero()]
    kind = "unseen-domain" if records.unseen else "test"
    notes = [f"{best.title} has the highest macro {kind} Dice, {_with_interval(best, 'dice')}."]
    if tied:
        notes[0] += f" Not told apart from it by these images: {', '.join(tied)}."
    elif others:
        notes[0] += " The interval of its lead over each other ranked method excludes 0."
    if pd.notna(best.gap):
        notes.append(
            f"From domains seen in training to unseen ones it goes from {best.seen:.3f} to {best.dice:.3f} Dice:"
            f" a gap of {_with_interval(best, 'gap')}."
        )
    if pd.notna(best.worst_dice):
        notes.append(f"Its worst domain is {best.worst_domain} with {best.worst_dice:.3f}.")
    return notes


def _lost_on_unseen_domains(table: pd.DataFrame) -> list[str]:
    networks = rows(table[(table["track"] == "automatic") & ~table["floor"].astype(bool) & table["gap"].notna()])
    if not networks:
        return []
    if len(networks) == 1:
        return [f"On unseen domains {networks[0].title} loses on average {number(networks[0].gap, 2)} Dice."]
    least, most = (number(choose(network.gap for network in networks), 2) for choose in (min, max))
    span = least if least == most else f"{least} to {most}"
    each = ", ".join(f"{network.title} {number(network.gap, 2)}" for network in networks)
    return [f"On unseen domains the networks lose on average {span} Dice: {each}."]


def _floors_not_beaten(table: pd.DataFrame, modalities: pd.DataFrame) -> list[str]:
    """A network that is no better than a trivial method is news, whatever it costs and wherever it is ranked."""
    floors = set(table.loc[table["floor"].astype(bool), "method"])
    titles = dict(zip(table["method"], table["title"], strict=True))
    places: dict[str, list[str]] = {name: [] for name in table["method"] if name not in floors}
    for modality, members in modalities.dropna(subset=["dice"]).groupby("modality", sort=False):
        trivial = members[members["method"].isin(floors)]
        if trivial.empty:
            continue
        floor = trivial.iloc[int(np.argmax(trivial["dice"].to_numpy(float)))]
        for row in rows(members[~members["method"].isin(floors)]):
            if row.dice <= floor["dice"]:
                beside = f"{number(row.dice)}; {titles[floor['method']]} {number(floor['dice'])}"
                places[row.method].append(f"{modality} ({beside})")
    return [f"{titles[name]} does not beat the floor in {_listed(where)}." for name, where in places.items() if where]


def _domains_not_tested(records: Records) -> list[str]:
    partly = records.partly_tested()
    if not partly:
        return []
    alike: dict[tuple[int, int], list[str]] = {}
    for modality, counts in partly.items():
        alike.setdefault(counts, []).append(modality)
    parts = [f"{tested} of {all_} in {_listed(names)}" for (tested, all_), names in alike.items()]
    folds = (records.suite.config.get("protocol") or {}).get("max_folds")
    why = f" (protocol.max_folds={folds})" if folds else ""
    return [f"The folds of this run{why} do not test every domain: {'; '.join(parts)}."]


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _with_interval(row: Any, name: str) -> str:
    return f"{number(getattr(row, name))} {interval(getattr(row, f'{name}_low'), getattr(row, f'{name}_high'))}".strip()
