"""Reads one run of a suite from the store into tidy tables, and says plainly what is not there.

What was expected comes from the suite's list of trials, never from what happens to lie on the disk.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import pandas as pd

from harness.config.schema import geometry_words
from harness.errors import UserError
from harness.metrics import REGISTRY, shown_metrics
from harness.protocols.split import Split
from harness.store.records import SuiteRecord, TrialEntry, TrialRecord
from harness.store.sealed_folder import RESULT, fault
from harness.store.store import Store
from harness.store.trial_state import TrialState
from harness.trial_spec import TrialIds
from reports.records.corruption import corruption_sums, joined, no_corruption
from reports.records.records import GUESS, ROLES, MethodFacts, Records, ReportedTrial, domain_of, modality_order

_SAMPLE_COLUMNS = ["key", "modality", "domain", "id", "subject", "role", "width", "height", "empty"]
_SAMPLE_COLUMNS += ["reference_pixels", "predicted_pixels"]
_CELL_COLUMNS = ["expected", "found", "state", "why", "keys"]


def read_records(store: Store, suite: SuiteRecord) -> Records:
    """Loads all trials of a run. Trials that failed, are damaged or were never begun become entries, not errors."""
    trials, frames, curves, corrupted = [], [], [], [no_corruption()]
    unmeasured: dict[str, set[str]] = {}
    splits: dict[Split, Split] = {}
    for entry in suite.trials:
        trial, record = _read_trial(store, entry)
        if trial.spec:
            # Hundreds of trials share a split of thousands of keys: keep each split once.
            split = splits.setdefault(trial.spec.split, trial.spec.split)
            trial = replace(trial, spec=replace(trial.spec, split=split))
        labels: dict[str, Any] = {"method": trial.method, "fold": trial.fold, "seed": trial.seed}
        if trial.state == "done" and record is not None and record.samples is not None:
            frames.append(_samples(record.samples).assign(**labels, trial=trial.id))
            if record.spec.corruptions is not None:
                corrupted.append(corruption_sums(record.samples).assign(**labels, trial=trial.id))
            unmeasured.setdefault(trial.method, set()).update(set(shown_metrics()).difference(record.samples))
            if record.curves is not None and len(record.curves):
                curves.append(record.curves.assign(**labels))
        trials.append(trial)
    columns = ["method", "fold", "seed", "trial"]
    empty = pd.DataFrame(columns=[*columns, *_SAMPLE_COLUMNS, *shown_metrics(), GUESS])
    samples = pd.concat(frames, ignore_index=True) if frames else empty
    for name, older in outdated(trials).items():
        samples.loc[samples["trial"].isin([trial.id for trial in older]), name] = math.nan
        for trial in older:
            unmeasured[trial.method].add(name)
    return Records(
        suite=suite,
        trials=trials,
        methods=_method_facts(suite, trials),
        samples=samples,
        cells=count_cells(trials),
        curves=pd.concat(curves, ignore_index=True) if curves else pd.DataFrame(columns=columns),
        efficiency=store.efficiency(),
        unmeasured={method: frozenset(names) for method, names in unmeasured.items()},
        notes=tuple(_older_than_this_bench(trials)),
        corrupted=joined(corrupted),
    )


def outdated(trials: Sequence[ReportedTrial]) -> dict[str, list[ReportedTrial]]:
    """Metric -> trials that measured it by an older version than others: such values must not stand in one table."""
    newest: dict[str, int] = {}
    for trial in trials:
        for name, version in trial.metrics.items():
            newest[name] = max(version, newest.get(name, version))
    return {
        name: older
        for name, version in newest.items()
        if name in shown_metrics() and (older := [t for t in trials if t.metrics.get(name, version) < version])
    }


def _older_than_this_bench(trials: Sequence[ReportedTrial]) -> list[str]:
    """A sentence for each metric that no trial measured by the version of this bench."""
    notes = []
    for name in shown_metrics():
        versions = {trial.metrics[name] for trial in trials if name in trial.metrics}
        if versions and max(versions) < REGISTRY[name].version:
            notes.append(
                f"{REGISTRY[name].title} is of version {max(versions)}, and this bench computes version"
                f" {REGISTRY[name].version}: `python -m harness measure` with the words of the run computes it again."
            )
    return notes


def _samples(table: pd.DataFrame) -> pd.DataFrame:
    """The columns that reports use, of clean images; a metric that was not measured, or a guess that was not made, is missing in all rows."""
    table = table[table["role"].isin(ROLES)]
    return table.reindex(columns=[*_SAMPLE_COLUMNS, *shown_metrics(), GUESS])


def _read_trial(store: Store, entry: TrialEntry) -> tuple[ReportedTrial, TrialRecord | None]:
    base: dict[str, Any] = {
        "id": f"{entry.method} {entry.ids.measurement}",
        "ids": entry.ids,
        "method": entry.method,
        "fold": entry.fold,
        "seed": entry.seed,
        "search": entry.search,
    }
    if entry.search is not None and entry.search.missing:
        return ReportedTrial(**base, state="missing", reason=entry.search.missing), None
    try:
        record = store.load(entry.ids)
    except UserError as error:
        state, reason = _why_not_loaded(store, entry.ids, error)
        return ReportedTrial(**base, state=state, reason=reason), None
    details: dict[str, Any] = {"spec": record.spec, "provenance": record.provenance}
    state = record.status.state
    if record.result is None:
        for folder in store.folders(entry.ids):
            if (folder / RESULT).exists() and (why := fault(folder)):
                return ReportedTrial(
                    **base, **details, state="damaged", reason=f"its files don't match their checksums: {why}"
                ), None
        if state == "done":
            return ReportedTrial(
                **base, **details, state="unfinished", reason="trained, not measured by these rules yet"
            ), None
        if state == "failed":
            reason = record.status.reason or "no cause given"
            file = record.folder / "error.txt"
            traceback = file.relative_to(store.root).as_posix() if file.exists() else ""
            return ReportedTrial(**base, **details, state="failed", reason=reason, error=traceback), None
        return ReportedTrial(**base, **details, state="unfinished", reason=_how_far(record.status)), None
    hole = _what_is_missing(record)
    if hole:
        return ReportedTrial(**base, **details, state="damaged", reason=hole), None
    seconds = record.result.get("seconds")
    return ReportedTrial(
        **base,
        **details,
        state="done",
        seconds=seconds,
        summary=record.result,
        metrics=record.metrics,
        predictions=store.prediction_folder(entry.ids),
    ), record


def _how_far(status: TrialState) -> str:
    """ "interrupted in epoch 3 of 8" where its process is gone, "running, in epoch 3 of 8" where it lives."""
    where = f"in epoch {status.epoch} of {status.epochs}" if status.epochs else "before the end of its first epoch"
    return {"interrupted": f"interrupted {where}", "running": f"running, {where}"}.get(
        status.state, "begun, no result yet"
    )


def _why_not_loaded(store: Store, ids: TrialIds, error: UserError) -> tuple[str, str]:
    """The state of a trial that the store can't load, and its reason."""
    *_, measurement = store.folders(ids)
    if any((measurement / name).exists() for name in (RESULT, "spec.json")):
        return "damaged", str(error)
    # A run moves what is damaged aside before it makes it anew; it may have been stopped in between.
    names = (ids.training, ids.prediction, ids.measurement)
    if any(next((store.root / "damaged").glob(f"{name}-*"), None) for name in names):
        return "damaged", "its files didn't match their checksums; moved aside, not run again yet"
    if store.weights(ids.training).exists():
        return "missing", "trained, but not predicted and measured by these rules: `run` or `measure` does it"
    return "missing", "never begun"


def _what_is_missing(record: TrialRecord) -> str:
    """What a finished trial's table lacks: images of its split, or what is no metric; "" when whole."""
    assert record.samples is not None
    lacking = [name for name in _SAMPLE_COLUMNS if name not in record.samples]
    if lacking:
        return f"samples.parquet has no column {', '.join(lacking)}: written by another version of the bench"
    wanted = {role: record.spec.split.of(role) for role in ROLES}
    wanted |= {form.role: keys for form, keys in record.spec.corrupted()}
    for role, keys in wanted.items():
        expected = set(keys)
        found = record.samples.loc[record.samples["role"] == role, "key"]
        if set(found) != expected or found.duplicated().any():
            return f"{len(expected)} {role} images expected, rows found for {len(expected & set(found))} of them"
    return ""


def _method_facts(suite: SuiteRecord, trials: Sequence[ReportedTrial]) -> dict[str, MethodFacts]:
    configured = suite.config.get("methods") or {} if isinstance(suite.config, dict) else {}
    facts = {}
    for name in dict.fromkeys(trial.method for trial in trials):
        spec = next((trial.spec for trial in trials if trial.method == name and trial.spec), None)
        if spec:
            method, training = asdict(spec.method), spec.settings()["training"]
        else:
            method = configured.get(name) or {}
            training = {**(suite.config.get("training") or {}), **(method.get("training") or {})}
        # A trial is used again when only the card has changed since: what this run was asked for says it best.
        card = {**(method.get("card") or {}), **((configured.get(name) or {}).get("card") or {})}
        selection = str(training.get("selection", "unknown"))
        searched = any(trial.search for trial in trials if trial.method == name)
        title = f"{card.get('title') or name}{' [tuned]' if searched else ''}"
        facts[name] = MethodFacts(
            name, title, card, selection, training.get("image_size"), method.get("model"), method.get("version"),
            geometry=_geometry(training),
        )  # fmt: skip
    return unique_titles(facts)


def _geometry(training: dict[str, Any]) -> str:
    if not training.get("image_size"):
        return ""
    # Of a trial it is in words already.
    return geometry_words(training.get("geometry") or "stretch", training.get("tiled") or [])


def unique_titles(facts: dict[str, MethodFacts]) -> dict[str, MethodFacts]:
    """Adds the name to titles that are alike: two rows of one title would look the same in every table and figure."""
    titles = Counter(each.title.casefold() for each in facts.values())
    return {
        name: replace(each, title=f"{each.title} ({name})") if titles[each.title.casefold()] > 1 else each
        for name, each in facts.items()
    }


def count_cells(trials: Sequence[ReportedTrial]) -> pd.DataFrame:
    """Which domains every method should cover. A trial without a spec borrows the split from others of its fold."""
    # Trials of other tools' masks have splits of a single domain: no measure for what others should cover.
    splits = {trial.fold: trial.spec.split for trial in trials if trial.spec and not trial.spec.is_external}
    places = {id(split): _keys_by_domain(split) for split in _distinct(trials)}
    counts: dict[tuple[str, str, str], dict[str, Any]] = {}
    for trial in trials:
        split = trial.spec.split if trial.spec else splits.get(trial.fold)
        if split is None:
            continue
        for role in ROLES:
            for domain, keys in places[id(split)][role].items():
                cell = counts.setdefault(
                    (trial.method, role, domain),
                    {"expected": 0, "found": 0, "state": "done", "why": [], "keys": keys},
                )
                if cell["keys"] is not keys:
                    cell["keys"] = cell["keys"] | keys
                cell["expected"] += 1
                cell["found"] += trial.state == "done"
                if trial.state != "done":
                    cell["why"].append(f"{trial.fold}, seed {trial.seed}")
                cell["state"] = max(cell["state"], trial.state, key=_severity)
    rows = [{"method": m, "role": r, "domain": d, **cell} for (m, r, d), cell in counts.items()]
    cells = pd.DataFrame(rows, columns=["method", "role", "domain", *_CELL_COLUMNS])
    order = modality_order(cells["domain"])
    return cells.sort_values("domain", key=lambda names: names.map(order), kind="stable", ignore_index=True)


def _distinct(trials: Sequence[ReportedTrial]) -> list[Split]:
    return list({id(trial.spec.split): trial.spec.split for trial in trials if trial.spec}.values())


def _keys_by_domain(split: Split) -> dict[str, dict[str, frozenset[str]]]:
    """Role -> domain -> keys of its images."""
    found: dict[str, dict[str, list[str]]] = {role: {} for role in ROLES}
    for role, places in found.items():
        for key in split.of(role):
            places.setdefault(domain_of(key), []).append(key)
    return {role: {domain: frozenset(keys) for domain, keys in places.items()} for role, places in found.items()}


def _severity(state: str) -> int:
    return {"done": 0, "missing": 1, "unfinished": 2, "damaged": 3, "failed": 4}[state]
