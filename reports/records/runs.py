"""Which runs a report is of, and how several become one."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from harness.errors import UserError
from harness.files import sha256_json
from harness.store.records import SuiteRecord
from harness.store.store import Store
from reports.records.corruption import joined
from reports.records.reading import count_cells, read_records, unique_titles
from reports.records.records import MethodFacts, Records, ReportedTrial

log = logging.getLogger(__name__)


def find_suite(store: Store, name: str | None = None, time: str | None = None) -> SuiteRecord:
    """The run of that time, or the latest one (of suite `name`) with a finished trial; a newer one without is skipped aloud.

    Raises:
        UserError: the store has no such run; names those it has.
    """
    from harness.errors import did_you_mean

    records = store.suites()
    if not records:
        raise UserError(
            f"Expected runs of suites below {store.root / 'suites'}, found none."
            " Run one first (python -m harness run suite=domain_generalization), or name another store: store.root=..."
        )
    names = {record.name for record in records}
    if name is not None and name not in names:
        raise UserError(f"The store {store.root} has no run of a suite '{name}'.{did_you_mean(name, names)}")
    chosen = [record for record in records if name in (None, record.name) and time in (None, record.time)]
    if not chosen:
        times = ", ".join(record.time for record in records if name in (None, record.name))
        raise UserError(f"There is no run at '{time}'. Runs in {store.root}: {times}.")
    begun = next((record for record in reversed(chosen) if _has_result(store, record)), chosen[-1])
    skipped = chosen[chosen.index(begun) + 1 :]
    if skipped:
        times = ", ".join(f"{record.name}/{record.time}" for record in skipped)
        log.warning(
            "Skipped %s: no trial of it has finished yet. To see it all the same: --run %s", times, skipped[-1].time
        )
    return begun


def _has_result(store: Store, suite: SuiteRecord) -> bool:
    return any(store.result(entry.ids) is not None for entry in suite.trials)


def read_runs(runs: Sequence[tuple[Store, SuiteRecord]]) -> Records:
    """Reads runs, of one store or of several, into one report.

    A method that is the same in two runs (model, training, metrics and data rules) is one row over the trials of both; one
    of the same name that differs gets the run's time behind its name.

    Raises:
        UserError: no runs, or their metrics are defined differently: such numbers must not stand in one table.
    """
    if not runs:
        raise UserError("A report needs at least one run.")
    parts = [read_records(store, suite) for store, suite in runs]
    return parts[0] if len(parts) == 1 else _merged(parts)


def _merged(parts: list[Records]) -> Records:
    _check_metrics(parts)
    kinds: dict[str, str] = {}
    trials: dict[str, ReportedTrial] = {}
    methods: dict[str, MethodFacts] = {}
    samples, curves, corrupted, notes = [], [], [], []
    unmeasured: dict[str, frozenset[str]] = {}
    for part in parts:
        names = {}
        for name, facts in part.methods.items():
            kind = _kind(part, name)
            # Nothing of it has begun: it can only be what the other run says.
            same = kinds.setdefault(name, kind) == kind or not kind
            names[name] = name if same else f"{name} ({part.suite.name} {part.suite.time})"
            if not same:
                notes.append(f"{name} differs between the runs: that of {part.suite.time} is {names[name]}.")
            methods.setdefault(names[name], replace(facts, name=names[name], origin=name))
        part = _renamed(part, names)
        fresh = {trial.id for trial in part.trials if trial.id not in trials or trials[trial.id].state != "done"}
        trials |= {trial.id: trial for trial in part.trials if trial.id in fresh}
        samples.append(part.samples[part.samples["trial"].isin(fresh)])
        corrupted.append(part.corrupted[part.corrupted["trial"].isin(fresh)])
        done = {(t.method, t.fold, t.seed) for t in part.trials if t.id in fresh}
        places = [place in done for place in zip(*(part.curves[c] for c in ("method", "fold", "seed")), strict=True)]
        # As an array: an empty list would choose no columns.
        curves.append(part.curves[np.array(places, bool)])
        for name, metrics in part.unmeasured.items():
            unmeasured[name] = unmeasured.get(name, frozenset()) | metrics
    older = dict.fromkeys(note for part in parts for note in part.notes)
    suite = replace(parts[-1].suite, name=" + ".join(dict.fromkeys(part.suite.name for part in parts)))
    merged = list(trials.values())
    return Records(
        suite=suite,
        trials=merged,
        methods=unique_titles(methods),
        samples=pd.concat(samples, ignore_index=True),
        cells=count_cells(merged),
        curves=pd.concat(curves, ignore_index=True),
        efficiency=list({sha256_json(row): row for part in parts for row in part.efficiency}.values()),
        unmeasured=unmeasured,
        corrupted=joined(corrupted),
        notes=(f"This report joins {len(parts)} runs: {', '.join(p.suite.time for p in parts)}.", *notes, *older),
    )


def _kind(records: Records, method: str) -> str:
    """What must be equal for two runs' trials of one name to be the same method; "" before any has begun."""
    spec = next((trial.spec for trial in records.trials_of(method) if trial.spec), None)
    # Of a searched method no trial stands for the others: each fold has values of its own.
    chosen = {trial.fold: trial.search.values for trial in records.trials_of(method) if trial.search}
    if spec is None:
        return sha256_json({"search": chosen}) if chosen else ""
    # An external method's files are the masks of one trial, not the method.
    files = {} if spec.is_external else spec.method.files
    model = {"version": spec.method.version, "model": spec.method.model, "trainer": spec.method.trainer, "files": files}
    found = {"method": model, **spec.settings()}
    return sha256_json({**found, "training": None, "search": chosen} if chosen else found)


def _renamed(part: Records, names: dict[str, str]) -> Records:
    """The records with other names of methods. The same trial may stand under both: it then has two ids, too."""
    if all(old == new for old, new in names.items()):
        return part
    ids = {
        trial.id: trial.id if names[trial.method] == trial.method else f"{names[trial.method]} {trial.ids.measurement}"
        for trial in part.trials
    }

    def table(found: pd.DataFrame) -> pd.DataFrame:
        trials = {"trial": found["trial"].map(ids)} if "trial" in found else {}
        return found.assign(method=found["method"].map(names), **trials)

    return replace(
        part,
        trials=[replace(trial, id=ids[trial.id], method=names[trial.method]) for trial in part.trials],
        samples=table(part.samples),
        curves=table(part.curves),
        corrupted=table(part.corrupted),
        unmeasured={names[name]: metrics for name, metrics in part.unmeasured.items()},
    )


def _check_metrics(parts: list[Records]) -> None:
    found: dict[str, tuple[dict[str, Any], str]] = {}
    for part in parts:
        for trial in part.trials:
            if trial.spec:
                metrics = trial.spec.settings()["metrics"]
                found.setdefault(sha256_json(metrics), (metrics, part.suite.time))
    if len(found) > 1:
        listed = "; ".join(f"{time}: {metrics}" for metrics, time in found.values())
        raise UserError(f"Expected runs that measured alike, found different metrics ({listed}). Report them apart.")
    versions: dict[str, set[int]] = {}
    for trial in (trial for part in parts for trial in part.trials):
        for name, version in trial.metrics.items():
            versions.setdefault(name, set()).add(version)
    if other := {name: sorted(found) for name, found in versions.items() if len(found) > 1}:
        listed = "; ".join(f"{name}: versions {', '.join(map(str, found))}" for name, found in other.items())
        raise UserError(
            f"Expected metrics of one version each, found several ({listed}). Measure again what is older:"
            " python -m harness measure, with the words of its run."
        )
