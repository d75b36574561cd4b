"""What ran, on what, from which code and data: gathered over all trials of a run, differences shown, not hidden."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable
from typing import Any

from harness.protocols.split import ROLES
from harness.trial_spec import TrialSpec
from reports.records.records import Records, ReportedTrial

Entry = tuple[str, list[str]]
Section = tuple[str, list[Entry]]


def provenance_sections(records: Records) -> list[Section]:
    """Sections of (name, values). A name with several values differs between trials; each says in how many."""
    done = [trial for trial in records.trials if trial.provenance]
    specs = [trial.spec for trial in records.trials if trial.spec]
    return [
        ("Command", [("To reproduce", _values(_command(trial) for trial in done))]),
        ("Data", _data(specs)),
        ("Settings", _settings(records, specs)),
        ("Code and libraries", _code(done)),
        ("Machines", _flat([trial.provenance.get("machine") or {} for trial in done])),
    ]


def _command(trial: ReportedTrial) -> str:
    return shlex.join(map(str, trial.provenance.get("command") or []))


def _data(specs: list[TrialSpec]) -> list[Entry]:
    splits = {spec.split.name: spec.split for spec in specs}
    entries = [("Dataset", _values(f"{spec.data.name} ({spec.data.root})" for spec in specs))]
    for fold, split in splits.items():
        counts = ", ".join(f"{len(split.of(role))} {role}" for role in ROLES)
        held_out = ", ".join(split.held_out) or "no domain"
        entries.append((fold, [f"{counts}; held out: {held_out}; fingerprint {split.fingerprint}"]))
    return entries


def _settings(records: Records, specs: list[TrialSpec]) -> list[Entry]:
    seeds = ", ".join(map(str, sorted({trial.seed for trial in records.trials})))
    entries: list[Entry] = [("seeds", [seeds])]
    settings = [spec.settings() for spec in specs]
    for part in ("protocol", "training", "metrics", "versions"):
        entries += [(f"{part}.{name}", values) for name, values in _flat([each[part] for each in settings])]
    versions = {spec.method.name: str(spec.method.version) for spec in specs}
    entries.append(("method versions", [", ".join(f"{name} {version}" for name, version in versions.items())]))
    return [entry for entry in entries if entry[1]]


def _code(trials: list[ReportedTrial]) -> list[Entry]:
    entries = [("delightsam-bench", _values(str(trial.provenance.get("bench", "")) for trial in trials))]
    entries.append(("commit", _values(_revision(trial.provenance.get("code") or {}) for trial in trials)))
    entries.append(("python", _values(str(trial.provenance.get("python", "")) for trial in trials)))
    return [entry for entry in entries if entry[1]] + _flat(
        [trial.provenance.get("libraries") or {} for trial in trials]
    )


def _revision(code: dict[str, Any]) -> str:
    return (
        f"{code['commit']}{' with uncommitted changes' if code.get('uncommitted_changes') else ''}"
        if code.get("commit")
        else ""
    )


def _flat(dicts: list[dict[str, Any]]) -> list[Entry]:
    names = dict.fromkeys(name for values in dicts for name in values)
    return [(name, _values(_word(values[name]) for values in dicts if name in values)) for name in names]


def _word(value: Any) -> str:
    return "none" if value is None else str(value)


def _values(words: Iterable[str]) -> list[str]:
    """Distinct values, the most frequent first; with counts when they differ."""
    counts = Counter(word for word in words if word)
    return [word if len(counts) == 1 else f"{word} ({count} trials)" for word, count in counts.most_common()]
