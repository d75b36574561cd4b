"""From records to the tables of the report: ranking, per domain, per modality, and what they say in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from harness.statistics import DomainBootstrap, Estimate, mean_per_image, rank_ranges, seed_spread
from reports.costs import COUNTS, cost_table, machines
from reports.findings import findings
from reports.frames import rows as table_rows
from reports.records import METRICS, MethodFacts, Records
from reports.setting import cautions, headline

TRACKS = {
    "automatic": "Automatic methods",
    "oracle": "Ranked apart: helped by the truth (prompted with it, or weights chosen on the test images)",
    "incomplete": "Not ranked: incomplete",
}
_DOMAIN_COLUMNS = [
    "method", "domain", "dice", "dice_low", "dice_high", "hd95", "nsd", "seen", "images", "state", "why", "possibly_seen",
]  # fmt: skip
_MODALITY_COLUMNS = ["method", "modality", "dice", "dice_low", "dice_high", "seen", "state"]


@dataclass(frozen=True)
class Leaderboard:
    """The tables of a report.

    Attributes:
        table: one row per method, best first within its track. Incomplete methods have no mean and no rank.
        domains: one row per method and test domain: dice, dice_low, dice_high, hd95, seen, images, state, why, possibly_seen.
        modalities: one row per method and modality: dice with interval, over that modality's domains; state as above.
        costs: one row per method and machine, newest measurement; a single row without numbers where there is none.
        hardware: machines on which throughput was measured; column `throughput_<n>` of `table` belongs to entry n.
        notes: findings in sentences.
        headline: what the numbers are, in one line: protocol, size, budget, selection, seeds, data.
        cautions: why the numbers may say little: phantoms, a tiny budget.
    """

    table: pd.DataFrame
    domains: pd.DataFrame
    modalities: pd.DataFrame
    costs: pd.DataFrame
    hardware: list[str]
    notes: list[str]
    headline: str
    cautions: list[str]


class _Means:
    """All intervals of a run: one bootstrap for the tests, one for seen minus unseen, both shared by all methods."""

    def __init__(self, records: Records) -> None:
        self.methods = list(records.methods)
        images = mean_per_image(records.samples, METRICS, by=("method", "role"))
        images["place"] = images["modality"].astype(str) + "/" + images["domain"].astype(str)
        cells = records.cells
        self.whole = {(row.method, row.role, row.domain) for row in table_rows(cells[cells["state"] == "done"])}
        keep = [cell in self.whole for cell in zip(images["method"], images["role"], images["place"], strict=True)]
        self.images = images[np.array(keep, bool)]
        tests = self.images[self.images["role"] == "test"]
        self.test = self._bootstrap(
            tests, [(method, metric) for method in self.methods for metric in METRICS], "method"
        )
        pairs = [(method, role) for method in self.methods for role in ("test", "validation")]
        self.roles = self._bootstrap(self.images, pairs, "role")

    def _bootstrap(self, images: pd.DataFrame, columns: list[tuple[str, str]], kind: str) -> DomainBootstrap | None:
        """Columns are (method, metric) of test images or, for `kind` "role", (method, role) with the Dice."""
        if images.empty:
            return None
        # The manifest may know subjects of some domains only: an image without one is a unit of its own.
        units = images["subject"].where(images["subject"].notna(), images["key"]).astype(str)
        facts = pd.DataFrame({"key": images["key"], "place": images["place"], "unit": units}).drop_duplicates("key")
        facts = facts.set_index("key").sort_index()
        values = np.full((len(facts), len(columns)), np.nan)
        present = np.zeros(values.shape, bool)
        for index, (method, other) in enumerate(columns):
            rows = images[images["method"] == method]
            if kind == "role":
                rows = rows[rows["role"] == other]
            places = facts.index.get_indexer(pd.Index(rows["key"]))
            values[places, index] = rows["dice" if kind == "role" else other].to_numpy(float)
            present[places, index] = True
        return DomainBootstrap(
            values, facts["place"].tolist(), facts["unit"].tolist(), present=present, stratify=kind == "role"
        )

    def column(self, method: str, metric: str = "dice") -> int:
        return self.methods.index(method) * len(METRICS) + METRICS.index(metric)

    def unseen(self, method: str, domains: Sequence[str], metric: str = "dice") -> Estimate:
        if self.test is None or not domains or any((method, "test", domain) not in self.whole for domain in domains):
            return Estimate(math.nan)
        return self.test.contrast(self.test.weights(self.column(method, metric), domains))

    def lead(self, method: str, other: str) -> Estimate:
        """How much higher the macro Dice of one complete method is, paired by image."""
        assert self.test is not None
        weights = self.test.weights(self.column(method)) - self.test.weights(self.column(other))
        return self.test.contrast(weights)

    def seen(self, method: str, domains: Sequence[str]) -> Estimate:
        if (
            self.roles is None
            or not domains
            or any((method, "validation", domain) not in self.whole for domain in domains)
        ):
            return Estimate(math.nan)
        return self.roles.contrast(self.roles.weights(2 * self.methods.index(method) + 1, domains))

    def gap(self, method: str, seen: Sequence[str], unseen: Sequence[str]) -> Estimate:
        if (
            math.isnan(self.seen(method, seen).value)
            or math.isnan(self.unseen(method, unseen).value)
            or self.roles is None
        ):
            return Estimate(math.nan)
        column = 2 * self.methods.index(method)
        return self.roles.contrast(self.roles.weights(column + 1, seen) - self.roles.weights(column, unseen))


def build_leaderboard(records: Records) -> Leaderboard:
    """Computes all tables. Means and intervals by harness.statistics; nothing incomplete gets a mean."""
    means = _Means(records)
    costs = cost_table(records)
    hardware = machines(costs)
    domains = _domain_table(records, means)
    modalities = _modality_table(records, means, domains)
    rows = [_row(records, means, domains, facts, costs, hardware) for facts in records.methods.values()]
    table = _ranked(pd.DataFrame(rows), means)
    costs = costs.set_index("method").loc[table["method"]].reset_index()
    return Leaderboard(
        table,
        domains,
        modalities,
        costs,
        hardware,
        notes=findings(records, table, modalities, means.lead),
        headline=headline(records),
        cautions=cautions(records),
    )


def _row(
    records: Records,
    means: _Means,
    domains: pd.DataFrame,
    facts: MethodFacts,
    costs: pd.DataFrame,
    hardware: list[str],
) -> dict[str, Any]:
    trials = records.trials_of(facts.name)
    done = sum(trial.state == "done" for trial in trials)
    own = domains[domains["method"] == facts.name]
    cells = records.cells[records.cells["method"] == facts.name]
    seen_domains = records.seen_domains
    missing = [f"{trial.fold}, seed {trial.seed}: {trial.state}" for trial in trials if trial.state != "done"]
    missing += [f"{domain}: not asked for" for domain in records.domains if domain not in set(cells["domain"])]
    complete = not missing and bool(records.domains)
    whole = records.domains if complete else []
    unseen = {metric: means.unseen(facts.name, whole, metric) for metric in METRICS}
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
        "floor": facts.floor,
        **_columns("dice", unseen["dice"]),
        "dice_seed_sd": seed_spread(tests, "dice") if complete and len(tests) else None,
        **_columns("hd95", unseen["hd95"]),
        "worst_domain": None if worst is None else worst["domain"],
        "worst_dice": None if worst is None else worst["dice"],
        **_columns("seen", seen),
        **_columns("gap", gap),
        **{key: value for metric in METRICS[2:] for key, value in _columns(metric, unseen[metric]).items()},
        "missed": int((tests["empty"] == "prediction").sum()) if complete else None,
        "false_alarms": int((tests["empty"] == "reference").sum()) if complete else None,
        "both_empty": int((tests["empty"] == "both").sum()) if complete else None,
        "images": int(tests["key"].nunique()),
        **_own_costs(costs[costs["method"] == facts.name], hardware),
        "prompt": facts.prompt,
        "selection": facts.selection,
        "possibly_seen": facts.possibly_seen(records.domains),
        "trials_done": done,
        "trials_expected": len(trials),
        "missing": missing,
    }


def _own_costs(measured: pd.DataFrame, hardware: list[str]) -> dict[str, Any]:
    """One method's row of costs. Counts are the same on all machines: the newest count."""
    newest = measured.iloc[0]
    speeds = dict(zip(measured["machine"], measured["throughput_images_per_second"], strict=True))
    throughput = {f"throughput_{index}": speeds.get(machine) for index, machine in enumerate(hardware)}
    return {**{name: newest[name] for name in COUNTS}, "cost_image_size": newest["image_size"], **throughput}


def _columns(name: str, estimate: Estimate) -> dict[str, float | None]:
    value = None if math.isnan(estimate.value) else estimate.value
    return {name: value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def _ranked(table: pd.DataFrame, means: _Means) -> pd.DataFrame:
    """Sorts by track and Dice and adds `rank`: "2", or "1-3" where the data leave that open."""
    ranks: dict[str, str] = {}
    for track in ("automatic", "oracle"):
        names = table.loc[(table["track"] == track) & table["dice"].notna(), "method"].tolist()
        if means.test is not None and names:
            ranges = rank_ranges(means.test, [means.column(name) for name in names])
            ranks |= {name: str(a) if a == b else f"{a}–{b}" for name, (a, b) in zip(names, ranges, strict=True)}
    table["rank"] = table["method"].map(ranks).astype(object).where(table["method"].isin(ranks), None)
    order = table["track"].map({name: index for index, name in enumerate(TRACKS)})
    numbers = pd.to_numeric(table["dice"])
    return table.assign(_order=order, _dice=-numbers).sort_values(["_order", "_dice", "method"], ignore_index=True)[
        ["rank", *(column for column in table.columns if column != "rank")]
    ]


def _domain_table(records: Records, means: _Means) -> pd.DataFrame:
    rows = []
    cells = {(row.method, row.role, row.domain): row for row in table_rows(records.cells)}
    tests = means.images[means.images["role"] == "test"]
    sizes = tests.groupby(["method", "place"]).size().to_dict()
    undefined = tests[tests["dice"].isna()].groupby(["method", "place"]).size().to_dict()
    for name, facts in records.methods.items():
        seen_before = set(facts.possibly_seen(records.domains))
        for domain in records.domains:
            cell = cells.get((name, "test", domain))
            rows.append(
                {
                    "method": name,
                    "domain": domain,
                    **_columns("dice", means.unseen(name, [domain])),
                    "hd95": _columns("hd95", means.unseen(name, [domain], "hd95"))["hd95"],
                    "nsd": _columns("nsd", means.unseen(name, [domain], "nsd"))["nsd"],
                    "seen": _columns("seen", means.seen(name, [domain]))["seen"],
                    "images": int(sizes.get((name, domain), 0)),
                    "state": "missing" if cell is None else "undefined" if (name, domain) in undefined else cell.state,
                    "why": "" if cell is None else "; ".join(cell.why),
                    "possibly_seen": domain in seen_before,
                }
            )
    # Before the first trial has begun no domain is known: columns, no rows.
    return pd.DataFrame(rows, columns=_DOMAIN_COLUMNS)


def _modality_table(records: Records, means: _Means, domains: pd.DataFrame) -> pd.DataFrame:
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
