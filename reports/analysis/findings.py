"""What the tables say, in sentences: the first thing that a reader sees."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from harness.errors import some
from harness.statistics import Estimate
from reports.analysis.starts import are_mixed, best_within_starts
from reports.records.formatting import interval, number
from reports.records.frames import rows
from reports.records.records import Records

# More names than these make a sentence a list, and the tables below are better lists.
MOST_NAMED = 6


def findings(
    records: Records, table: pd.DataFrame, modalities: pd.DataFrame, lead: Callable[[str, str], Estimate]
) -> list[str]:
    """The findings of a run, the most important first.

    Args:
        table, modalities: as in `reports.tables.leaderboard.Leaderboard`.
        lead: macro Dice of one ranked method minus that of another, paired by image.
    """
    if all(trial.state != "done" for trial in records.trials):
        return ["No trial has finished yet: there is nothing to rank."]
    return [
        *_about_the_best(records, table, lead),
        *best_within_starts(table),
        *_lost_on_unseen_domains(table),
        *_seeds(records, table),
        *_baselines_not_beaten(table, modalities),
        *_domains_not_tested(records),
    ]


def _about_the_best(records: Records, table: pd.DataFrame, lead: Callable[[str, str], Estimate]) -> list[str]:
    ranked = rows(table[table["track"] == "automatic"])
    if not ranked:
        return []
    best, others = ranked[0], ranked[1:]
    # Asked of each one directly: places don't say it, because "no significant difference" is not transitive.
    leads = {other.label: lead(best.method, other.method) for other in others}
    equal = [title for title, each in leads.items() if each == Estimate(0.0, 0.0, 0.0)]
    tied = [title for title, each in leads.items() if title not in equal and not each.excludes_zero()]
    kind = "unseen-domain" if records.unseen else "test"
    way = (
        f"and {some(equal, MOST_NAMED)} share the highest"
        if equal
        else "has the highest"
        if others
        else "is the only ranked method:"
    )
    notes = [f"{best.label} {way} macro {kind} Dice{',' if others else ''} {_with_interval(best, 'dice')}."]
    if tied:
        notes[0] += f" These images show no significant difference to it for: {some(tied, MOST_NAMED)}."
    elif len(others) > len(equal):
        notes[0] += " The interval of its lead over each other ranked method excludes 0."
    if others and are_mixed(row.start for row in ranked):
        notes[0] += " Not all of them start alike, so this is not a comparison on equal terms."
    if pd.notna(best.gap):
        if _gains(best):
            way = f"On unseen domains it does better than on seen ones, {best.dice:.3f} against {best.seen:.3f} Dice"
        else:
            way = f"From domains seen in training to unseen ones it goes from {best.seen:.3f} to {best.dice:.3f} Dice"
        notes.append(f"{way}: a gap of {_with_interval(best, 'gap')}.")
    if pd.notna(best.worst_dice):
        notes.append(f"Its worst domain is {best.worst_domain} with {best.worst_dice:.3f}.")
    return notes


def _lost_on_unseen_domains(table: pd.DataFrame) -> list[str]:
    automatic = rows(table[(table["track"] == "automatic") & table["gap"].notna()])
    networks = [row for row in automatic if not row.trivial_baseline]
    losing = [row for row in networks if not _gains(row)]
    # The best one's gap is given whatever it is, so a negative one is explained, a trivial baseline's too.
    gaining = [row for row in automatic if _gains(row) and (not row.trivial_baseline or row is automatic[0])]
    notes = []
    if len(losing) == 1:
        notes.append(f"On unseen domains {losing[0].label} loses on average {_loss(losing[0].gap)} Dice.")
    elif losing:
        least, most = (_loss(choose(network.gap for network in losing)) for choose in (min, max))
        span = least if least == most else f"{least} to {most}"
        each = some([f"{network.label} {_loss(network.gap)}" for network in losing], MOST_NAMED)
        which = (
            "the learned methods"
            if len(losing) == len(networks)
            else f"{len(losing)} of {len(networks)} learned methods"
        )
        notes.append(f"On unseen domains {which} lose on average {span} Dice: {each}.")
    if gaining:
        each = some([f"{row.label} by {number(-row.gap, 2)}" for row in gaining], MOST_NAMED)
        notes.append(
            f"Better on unseen domains than on seen ones: {each}. The unseen test domains are easier, or validation images"
            " are few."
        )
    return notes


def _gains(row: Any) -> bool:
    """Whether the gap is negative by more than rounding."""
    return bool(row.gap <= -0.005)


def _loss(gap: float) -> str:
    return number(max(gap, 0.0), 2)


def _seeds(records: Records, table: pd.DataFrame) -> list[str]:
    """How often methods were trained, where that is once, or not equally often."""
    trained = rows(table[table["dice"].notna() & ~table["trivial_baseline"].astype(bool)])
    counts = {row.label: len({trial.seed for trial in records.trials_of(row.method)}) for row in trained}
    if len({trial.seed for trial in records.trials}) == 1 and counts:
        return ["One seed: the chance of training is not in the intervals."]
    if len(set(counts.values())) < 2:
        return []
    fewest = min(counts.values())
    fewer = some([label for label, count in counts.items() if count == fewest], MOST_NAMED)
    words = "one seed" if fewest == 1 else f"{fewest} seeds"
    return [
        f"Not all rows have the same number of seeds: {words} of {fewer}, up to {max(counts.values())} of others. The chance of"
        " training is in no interval, and largest where seeds are few."
    ]


def _baselines_not_beaten(table: pd.DataFrame, modalities: pd.DataFrame) -> list[str]:
    """A network that is no better than a trivial method is news, whatever it costs and wherever it is ranked."""
    baselines = set(table.loc[table["trivial_baseline"].astype(bool), "method"])
    titles = dict(zip(table["method"], table["label"], strict=True))
    places: dict[str, list[str]] = {name: [] for name in table["method"] if name not in baselines}
    for modality, members in modalities.dropna(subset=["dice"]).groupby("modality", sort=False):
        trivial = members[members["method"].isin(baselines)]
        if trivial.empty:
            continue
        highest = trivial.iloc[int(np.argmax(trivial["dice"].to_numpy(float)))]
        for row in rows(members[~members["method"].isin(baselines)]):
            if row.dice <= highest["dice"]:
                beside = f"{number(row.dice)}; {titles[highest['method']]} {number(highest['dice'])}"
                places[row.method].append(f"{modality} ({beside})")
    notes = [
        f"{titles[name]} does not beat a trivial baseline in {_listed(where)}."
        for name, where in places.items()
        if where
    ]
    if len(notes) > MOST_NAMED:
        more = len(notes) - MOST_NAMED
        notes[MOST_NAMED:] = [
            f"{more} more {'does' if more == 1 else 'do'} not beat it in a modality or more: see By domain."
        ]
    return notes


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
