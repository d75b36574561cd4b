"""From records to the tables of the report: ranking, per domain, per modality, and what they say in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from harness.methods.card import NOT_STATED
from harness.metrics import REGISTRY, shown_metrics
from harness.statistics import Estimate, seed_spread
from reports.analysis.comparison import Comparison, compare_methods
from reports.analysis.corruption import corruption_table, mean_losses
from reports.analysis.costs import COUNTS, cost_table, machines
from reports.analysis.fairness import Difference, differences
from reports.analysis.findings import findings
from reports.analysis.means import Means
from reports.analysis.setting import cautions, headline
from reports.analysis.spread import FAILURES, failure_table, spread_table
from reports.analysis.starts import are_mixed, start_cautions, surely_unseen, with_starts
from reports.analysis.terms import Terms, terms_of
from reports.analysis.views import build_views, rank_words
from reports.records.frames import rows as table_rows
from reports.records.records import GUESS, MethodFacts, Records
from reports.tables.cells import Column
from reports.tables.columns import columns, extra_columns

TRACKS = {
    "automatic": "Automatic methods",
    "oracle": "Ranked apart: helped by the truth (prompted with it, or weights chosen on the test images)",
    "incomplete": "Not ranked: incomplete",
}
_MODALITY_COLUMNS = ["method", "modality", "dice", "dice_low", "dice_high", "seen", "state"]


@dataclass(frozen=True)
class Leaderboard:
    """The tables of a report.

    Attributes:
        table: one row per method, best first within its track. Incomplete methods have no mean and no rank.
        domains: one row per method and test domain: dice, dice_low, dice_high, the other metrics, seen, images, state, why,
            possibly_seen, start.
        modalities: one row per method and modality: dice with interval, over that modality's domains; state as above.
        costs: one row per method and machine, newest measurement; a single row without numbers where there is none.
        hardware: machines on which throughput was measured; column `throughput_<n>` of `table` belongs to entry n.
        notes: findings in sentences.
        headline: what the numbers are, in one line: protocol, size, budget, selection, seeds, data.
        cautions: why the numbers may say little: phantoms, a tiny budget.
        spread: quantiles of the Dice over the images of each method and domain, see `reports.analysis.spread`.
        failures: counts of predictions by the way they failed, one row per method and domain.
        images: method, domain_key ("modality/domain") and dice of every test image of a method, an image tested several times by
            its mean; only of domains that are whole.
        comparison: tests between the complete automatic methods; None with fewer than two.
        views: the ranking by other metrics and over fewer domains, see `reports.analysis.views`.
        corruptions: mean Dice and relative loss by method, corruption and severity, see `reports.analysis.corruption`; no rows
            where nothing was corrupted. Then `table` has no column `corruption_loss`.
        differences: in what the methods' training differs, see `reports.analysis.fairness`.
        terms: each method's budget and how its learning rate was found, see `reports.analysis.terms`.
    """

    table: pd.DataFrame
    domains: pd.DataFrame
    modalities: pd.DataFrame
    costs: pd.DataFrame
    hardware: list[str]
    notes: list[str]
    headline: str
    cautions: list[str]
    spread: pd.DataFrame
    failures: pd.DataFrame
    views: dict[str, Any]
    images: pd.DataFrame
    comparison: Comparison | None
    differences: list[Difference]
    terms: list[Terms]
    corruptions: pd.DataFrame


def build_leaderboard(records: Records) -> Leaderboard:
    """Computes all tables. Means and intervals by harness.statistics; nothing incomplete gets a mean."""
    means = Means(records)
    costs = cost_table(records)
    hardware = machines(costs)
    domains = _domain_table(records, means)
    modalities = _modality_table(records, means, domains)
    tests = means.images[means.images["role"] == "test"]
    spread, failures = spread_table(tests), failure_table(records)
    sure = surely_unseen(records)
    rows = [_row(records, means, domains, facts, spread, failures, sure) for facts in records.methods.values()]
    priced = [_own_costs(costs[costs["method"] == row["method"]], hardware) for row in rows]
    table = _ranked(
        pd.DataFrame([row | price for row, price in zip(rows, priced, strict=True)]), means, records.domains
    )
    table = with_starts(table, means, records.domains)
    comparison = compare_methods(table, means)
    groups = comparison.groups if comparison is not None else {}
    ranks = comparison.ranks if comparison is not None else None
    firsts = dict(zip(comparison.methods, ranks.first, strict=True)) if comparison and ranks else {}
    table = table.assign(group=table["method"].map(groups), first=table["method"].map(firsts))
    corruptions = corruption_table(records.corrupted)
    if len(corruptions):
        complete = table.loc[table["track"] != "incomplete", "method"].tolist()
        table["corruption_loss"] = table["method"].map(mean_losses(corruptions, complete)).astype(float)
    for column in extra_columns():
        if column.value is not None:
            table[column.key] = [column.value(row) for _, row in table.iterrows()]
    costs = costs.set_index("method").loc[table["method"]].reset_index()
    return Leaderboard(
        table,
        domains,
        modalities,
        costs,
        hardware,
        notes=[
            *records.notes,
            *_unmeasured(records),
            *findings(records, table, modalities, means.lead),
            *_identical(table, means),
        ],
        headline=headline(records),
        cautions=[*cautions(records), *start_cautions(table)],
        spread=spread,
        failures=failures,
        views=build_views(records, table, means, sure),
        images=tests[["method", "domain_key", "key", "dice"]],
        comparison=comparison,
        differences=differences(records),
        terms=terms_of(records),
        corruptions=corruptions,
    )


def _identical(table: pd.DataFrame, means: Means) -> list[str]:
    """Which complete methods no image tells apart."""
    titles = dict(zip(table["method"], table["label"], strict=True))
    complete = table.loc[table["dice"].notna(), "method"].tolist()
    return [
        f"Identical results, the same Dice on every image: {', '.join(titles[name] for name in names)}."
        for names in means.alike(complete)
    ]


def _unmeasured(records: Records) -> list[str]:
    """Which metrics some trials lack, and what to do."""
    lacking = [name for name in shown_metrics() if any(name in names for names in records.unmeasured.values())]
    if not lacking:
        return []
    titles = ", ".join(REGISTRY[name].title for name in lacking)
    return [
        f"Not measured in every trial: {titles}. `python -m harness measure` with the words of the run computes it."
    ]


def _row(
    records: Records,
    means: Means,
    domains: pd.DataFrame,
    facts: MethodFacts,
    spread: pd.DataFrame,
    failures: pd.DataFrame,
    sure: list[str],
) -> dict[str, Any]:
    trials = records.trials_of(facts.name)
    done = sum(trial.state == "done" for trial in trials)
    own = domains[domains["method"] == facts.name]
    seen_domains = records.seen_domains
    missing = _missing(records, facts.name)
    complete = not missing and bool(records.domains)
    whole = records.domains if complete else []
    unseen = {metric: means.unseen(facts.name, whole, metric) for metric in means.metrics}
    seen = means.seen(facts.name, seen_domains if complete else [])
    gap = means.gap(facts.name, seen_domains, whole) if complete and records.unseen else Estimate(math.nan)
    tests = records.samples[(records.samples["method"] == facts.name) & (records.samples["role"] == "test")]
    undefined = int(tests["dice"].isna().sum())
    if complete and undefined:
        missing.append(f"Dice is undefined in {undefined} rows")
    worst = (
        own.iloc[int(np.argmin(own["dice"].to_numpy()))]
        if complete and own["dice"].notna().all() and len(own)
        else None
    )
    return {
        "method": facts.name,
        "title": facts.title,
        "track": "incomplete" if missing else "oracle" if facts.oracle else "automatic",
        "trivial_baseline": facts.trivial_baseline,
        **_columns("dice", unseen["dice"]),
        "dice_seed_sd": seed_spread(tests, "dice") if complete and len(tests) else None,
        "worst_domain": None if worst is None else worst["domain"],
        "worst_dice": None if worst is None else worst["dice"],
        "quartile": _lower_quartile(spread, facts.name) if complete and not undefined else None,
        **_columns("seen", seen),
        **_columns("gap", gap),
        **{key: value for metric in means.metrics[1:] for key, value in _columns(metric, unseen[metric]).items()},
        "unmeasured": sorted(records.unmeasured.get(facts.name, ())),
        **(dict.fromkeys(FAILURES) if missing else _failed(failures, facts.name)),
        "images": int(tests["key"].nunique()),
        "prompt": facts.prompt,
        "selection": facts.selection,
        "geometry": facts.geometry,
        "modality_knowledge": facts.modality_knowledge,
        "guess_accuracy": _guess_accuracy(tests),
        "external": facts.external,
        "sees_test_images": facts.sees_test_images,
        "searched": any(trial.search for trial in trials),
        "start": facts.start,
        "pretrained_on": facts.pretrained_on,
        **_columns("surely_unseen", _surely_unseen(means, facts, sure if complete else [])),
        "surely_unseen_domains": len(sure),
        "resized": facts.resized,
        "possibly_seen": facts.possibly_seen(records.domains),
        "trials_done": done,
        "trials_expected": len(trials),
        "missing": missing,
    }


def _missing(records: Records, method: str) -> list[str]:
    """What keeps the method's row from being ranked: trials that are not done, domains and images that others have."""
    cells = records.cells[records.cells["method"] == method]
    unfinished = [trial for trial in records.trials_of(method) if trial.state != "done"]
    return [
        *(f"{trial.fold}, seed {trial.seed}: {trial.state}" for trial in unfinished),
        *(f"{domain}: not asked for" for domain in records.domains if domain not in set(cells["domain"])),
        *_other_images(records, method),
    ]


def _surely_unseen(means: Means, facts: MethodFacts, domains: list[str]) -> Estimate:
    """Undefined where the card does not state the start: then nobody knows what was seen."""
    return Estimate(math.nan) if facts.start == NOT_STATED else means.unseen(facts.name, domains)


def _other_images(records: Records, method: str) -> list[str]:
    """Domains of which the method was asked for fewer images than others were: such means can't be compared."""
    tests = records.cells[records.cells["role"] == "test"]
    every: dict[str, frozenset[str]] = {}
    for cell in table_rows(tests):
        every[cell.domain] = every.get(cell.domain, frozenset()) | cell.keys
    own = {cell.domain: cell.keys for cell in table_rows(tests[tests["method"] == method])}
    lacking = {domain: len(every[domain] - keys) for domain, keys in own.items() if every[domain] != keys}
    return [f"{domain}: {number} images not asked for" for domain, number in lacking.items()]


def _lower_quartile(spread: pd.DataFrame, method: str) -> float:
    return float(spread.loc[spread["method"] == method, "lower_quartile"].mean())


def _failed(failures: pd.DataFrame, method: str) -> dict[str, int]:
    own = failures[failures["method"] == method]
    return {name: int(own[name].sum()) for name in FAILURES}


def _guess_accuracy(tests: pd.DataFrame) -> float | None:
    """Part of the test predictions whose modality was guessed rightly; None where none was guessed."""
    guessed = tests[tests[GUESS].notna()]
    return float((guessed[GUESS] == guessed["modality"]).mean()) if len(guessed) else None


def _own_costs(measured: pd.DataFrame, hardware: list[str]) -> dict[str, Any]:
    """One method's row of costs. Counts are the same on all machines: the newest count."""
    newest = measured.iloc[0]
    speeds = dict(zip(measured["machine"], measured["throughput_images_per_second"], strict=True))
    throughput = {f"throughput_{index}": speeds.get(machine) for index, machine in enumerate(hardware)}
    return {**{name: newest[name] for name in COUNTS}, "cost_image_size": newest["image_size"], **throughput}


def _columns(name: str, estimate: Estimate) -> dict[str, float | None]:
    value = None if math.isnan(estimate.value) else estimate.value
    return {name: value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def _ranked(table: pd.DataFrame, means: Means, domains: Sequence[str]) -> pd.DataFrame:
    """Sorts by track and Dice and adds `rank`: "2", or "1-3" where the data leave that open."""
    ranks: dict[str, str] = {}
    for track in ("automatic", "oracle"):
        names = table.loc[(table["track"] == track) & table["dice"].notna(), "method"].tolist()
        ranks |= dict(zip(names, map(rank_words, means.ranks(names, domains)), strict=True))
    table["rank"] = table["method"].map(ranks).astype(object).where(table["method"].isin(ranks), None)
    order = table["track"].map({name: index for index, name in enumerate(TRACKS)})
    numbers = pd.to_numeric(table["dice"])
    return table.assign(_order=order, _dice=-numbers).sort_values(["_order", "_dice", "method"], ignore_index=True)[
        ["rank", *(column for column in table.columns if column != "rank")]
    ]


def _domain_table(records: Records, means: Means) -> pd.DataFrame:
    rows = []
    cells = {(row.method, row.role, row.domain): row for row in table_rows(records.cells)}
    others = means.metrics[1:]
    columns = [
        "method",
        "start",
        "domain",
        "dice",
        "dice_low",
        "dice_high",
        *others,
        "seen",
        "images",
        "state",
        "why",
        "possibly_seen",
    ]
    tests = means.images[means.images["role"] == "test"]
    sizes = tests.groupby(["method", "domain_key"]).size().to_dict()
    undefined = tests[tests["dice"].isna()].groupby(["method", "domain_key"]).size().to_dict()
    for name, facts in records.methods.items():
        seen_before = set(facts.possibly_seen(records.domains))
        for domain in records.domains:
            cell = cells.get((name, "test", domain))
            rows.append(
                {
                    "method": name,
                    "start": facts.start,
                    "domain": domain,
                    **_columns("dice", means.unseen(name, [domain])),
                    **{metric: _columns(metric, means.unseen(name, [domain], metric))[metric] for metric in others},
                    "seen": _columns("seen", means.seen(name, [domain]))["seen"],
                    "images": int(sizes.get((name, domain), 0)),
                    "state": "missing" if cell is None else "undefined" if (name, domain) in undefined else cell.state,
                    "why": "" if cell is None else "; ".join(cell.why),
                    "possibly_seen": domain in seen_before,
                }
            )
    # Before the first trial has begun no domain is known: columns, no rows.
    return pd.DataFrame(rows, columns=columns)


def _modality_table(records: Records, means: Means, domains: pd.DataFrame) -> pd.DataFrame:
    rows = []
    groups: dict[str, list[str]] = {}
    for domain in records.domains:
        groups.setdefault(domain.split("/")[0], []).append(domain)
    for name in records.methods:
        for modality, members in groups.items():
            states = domains.loc[(domains["method"] == name) & domains["domain"].isin(members), "state"]
            rows.append(
                {
                    "method": name,
                    "modality": modality,
                    **_columns("dice", means.unseen(name, members)),
                    "seen": _columns("seen", means.seen(name, members))["seen"],
                    "state": next((state for state in states if state != "done"), "done"),
                }
            )
    return pd.DataFrame(rows, columns=_MODALITY_COLUMNS)


def columns_of(board: Leaderboard, records: Records) -> list[Column]:
    """The columns that the tables of a leaderboard may show."""
    return columns(
        board.hardware,
        unseen=records.unseen,
        seen_where_tested=records.seen_where_tested,
        nsd_tolerance=records.nsd_tolerance,
        corrupted=len(board.corruptions) > 0,
        mixed_starts=are_mixed(board.table["start"]),
        possibly_seen=bool(board.table["possibly_seen"].map(bool).any()),
    )
