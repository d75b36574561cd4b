"""Reads one run of a suite from the store into tidy tables, and says plainly what is not there.

What was expected comes from the suite's list of trials, never from what happens to lie on the disk.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from harness.errors import UserError
from harness.store import Store, SuiteRecord, TrialRecord

METRICS = ("dice", "hd95", "nsd", "hd95_max", "precision", "recall")
ROLES = ("test", "validation")
STATES = ("done", "failed", "unfinished", "damaged", "missing")
"""Of a trial. `unfinished` was begun and has no result; `damaged` has files that don't match; `missing` was never begun."""

_SAMPLE_COLUMNS = ["key", "modality", "domain", "id", "subject", "role", "width", "height", "empty", *METRICS]
_SAMPLE_COLUMNS += ["reference_pixels", "predicted_pixels"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trial:
    """One expected trial and what became of it. `error` is the file with a failed one's traceback, relative to the store."""

    id: str
    method: str
    fold: str
    seed: int
    state: str
    reason: str = ""
    seconds: float | None = None
    spec: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    error: str = ""


@dataclass(frozen=True)
class MethodFacts:
    """What a method's card and training settings say. No two methods of a run share a `title`."""

    name: str
    title: str
    card: dict[str, Any]
    selection: str
    image_size: int | None
    model: dict[str, Any] | None = None
    version: int | None = None

    @property
    def prompt(self) -> str:
        return str(self.card.get("prompt", "none"))

    @property
    def floor(self) -> bool:
        """A trivial method, by its card: a network that does not beat it has learnt nothing of use."""
        return self.card.get("floor") is True

    @property
    def oracle(self) -> bool:
        """It was helped by the truth: prompted with it, or its weights were chosen on the test images."""
        return self.prompt.startswith("oracle") or self.selection == "oracle"

    def possibly_seen(self, domains: Iterable[str]) -> list[str]:
        """Those of `domains` ("modality/domain") that its pretraining data may contain, by name."""
        known = {_plain(str(name)) for name in self.card.get("pretrained_on") or []}
        return [domain for domain in domains if {_plain(domain), _plain(domain.partition("/")[2])} & known]


@dataclass(frozen=True)
class Records:
    """One run of a suite.

    Attributes:
        samples: one row per trial and image: method, fold, seed, trial, key, modality, domain, id, subject, role, sizes, metrics.
        cells: one row per method, role and domain ("modality/domain") that the trials should cover: `expected` and `found`
            trials, `state` ("done" or the worst state among its trials), `images` expected.
        curves: method, fold, seed and the columns of curves.csv.
    """

    suite: SuiteRecord
    trials: list[Trial]
    methods: dict[str, MethodFacts]
    samples: pd.DataFrame
    cells: pd.DataFrame
    curves: pd.DataFrame
    efficiency: list[dict[str, Any]]

    @property
    def domains(self) -> list[str]:
        """ "modality/domain" of all expected test domains, in the order of modalities in the data."""
        return list(dict.fromkeys(self.cells.loc[self.cells["role"] == "test", "domain"]))

    @property
    def unseen(self) -> bool:
        """Whether the test domains were kept out of training (all protocols but `in_domain`)."""
        specs = [trial.spec for trial in self.trials if trial.spec]
        return all(spec["split"]["held_out"] for spec in specs) if specs else True

    @property
    def seen_domains(self) -> list[str]:
        """Where the seen side of the gap is measured: the tested domains, on images of folds that trained on them.

        Where some tested domain has no such images (few folds, or a protocol that never trains on it): all seen domains.
        """
        seen = list(dict.fromkeys(self.cells.loc[self.cells["role"] == "validation", "domain"]))
        return self.domains if set(self.domains) <= set(seen) else seen

    @property
    def seen_where_tested(self) -> bool:
        return set(self.seen_domains) == set(self.domains)

    @property
    def nsd_tolerance(self) -> float | None:
        """In pixels; None where no trial says it, or trials differ."""
        found = {trial.spec["metrics"]["nsd_tolerance"] for trial in self.trials if trial.spec}
        return float(found.pop()) if len(found) == 1 else None

    def partly_tested(self) -> dict[str, tuple[int, int]]:
        """Modality -> (tested domains, all domains), of those that the folds don't test as a whole; {} while unknown."""
        splits = {trial.fold: trial.spec["split"] for trial in self.trials if trial.spec}
        if set(splits) != {trial.fold for trial in self.trials}:
            return {}
        roles = ("train", "validation", "test")
        known = {_domain(key) for split in splits.values() for role in roles for key in split[role]}
        tested = set(self.domains)
        counts: dict[str, tuple[int, int]] = {}
        for domain in sorted(known, key=_modality_order(known).__getitem__):
            done, all_ = counts.get(domain.split("/")[0], (0, 0))
            counts[domain.split("/")[0]] = (done + (domain in tested), all_ + 1)
        return {modality: (done, all_) for modality, (done, all_) in counts.items() if done < all_}

    def trials_of(self, method: str) -> list[Trial]:
        return [trial for trial in self.trials if trial.method == method]


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
    return any(store.result(entry["id"]) is not None for entry in suite.trials)


def read_records(store: Store, suite: SuiteRecord) -> Records:
    """Loads all trials of a run. Trials that failed, are damaged or were never begun become entries, not errors."""
    trials, frames, curves = [], [], []
    for entry in suite.trials:
        trial, record = _read_trial(store, entry)
        labels: dict[str, Any] = {"method": trial.method, "fold": trial.fold, "seed": trial.seed}
        if trial.state == "done" and record is not None and record.samples is not None:
            frames.append(record.samples[_SAMPLE_COLUMNS].assign(**labels, trial=trial.id))
            if record.curves is not None and len(record.curves):
                curves.append(record.curves.assign(**labels))
        trials.append(trial)
    columns = ["method", "fold", "seed", "trial"]
    samples = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=[*columns, *_SAMPLE_COLUMNS])
    return Records(
        suite=suite,
        trials=trials,
        methods=_method_facts(suite, trials),
        samples=samples,
        cells=_cells(trials),
        curves=pd.concat(curves, ignore_index=True) if curves else pd.DataFrame(columns=columns),
        efficiency=store.efficiency(),
    )


def _read_trial(store: Store, entry: dict[str, Any]) -> tuple[Trial, TrialRecord | None]:
    """`entry` is {id, method, fold, seed}, as in trials.json."""
    base: dict[str, Any] = {
        "id": entry["id"],
        "method": str(entry["method"]),
        "fold": str(entry["fold"]),
        "seed": entry["seed"],
    }
    try:
        record = store.load(entry["id"])
    except UserError as error:
        state, reason = _why_not_loaded(store, entry["id"], error)
        return Trial(**base, state=state, reason=reason), None
    details: dict[str, Any] = {"spec": record.spec, "provenance": record.provenance, "folder": record.folder}
    state = str(record.status.get("state", "pending"))
    if record.result is None:
        if state == "done" or (record.folder / "result.json").exists():
            return Trial(**base, **details, state="damaged", reason="its files don't match their checksums"), None
        if state == "failed":
            reason = str(record.status.get("reason") or "no cause given")
            file = record.folder / "error.txt"
            traceback = file.relative_to(store.root).as_posix() if file.exists() else ""
            return Trial(**base, **details, state="failed", reason=reason, error=traceback), None
        return Trial(**base, **details, state="unfinished", reason=_how_far(record.status)), None
    hole = _what_is_missing(record)
    if hole:
        return Trial(**base, **details, state="damaged", reason=hole), None
    seconds = record.result.get("seconds")
    return Trial(**base, **details, state="done", seconds=seconds, summary=record.result), record


def _how_far(status: dict[str, Any]) -> str:
    """ "interrupted in epoch 3 of 8" where its process is gone, "running, in epoch 3 of 8" where it lives."""
    epochs = status.get("epochs")
    where = f"in epoch {status.get('epoch')} of {epochs}" if epochs else "before the end of its first epoch"
    return {"interrupted": f"interrupted {where}", "running": f"running, {where}"}.get(
        status["state"], "begun, no result yet"
    )


def _why_not_loaded(store: Store, trial_id: str, error: UserError) -> tuple[str, str]:
    """The state of a trial that the store can't load, and its reason."""
    folder = store.trial_folder(trial_id)
    if any((folder / name).exists() for name in ("result.json", "spec.json", "status.json")):
        return "damaged", str(error)
    # A run moves a damaged trial aside before it begins anew; it may have been stopped in between.
    if next((store.root / "damaged").glob(f"{trial_id}-*"), None):
        return "damaged", "its files didn't match their checksums; moved aside, not run again yet"
    return "missing", "never begun"


def _what_is_missing(record: TrialRecord) -> str:
    """What a finished trial's table lacks: columns, or images of its split; "" when whole."""
    assert record.samples is not None
    lacking = [name for name in _SAMPLE_COLUMNS if name not in record.samples]
    if lacking:
        return f"samples.parquet has no column {', '.join(lacking)}: written by another version of the bench"
    for role in ROLES:
        expected = set(record.spec["split"][role])
        found = record.samples.loc[record.samples["role"] == role, "key"]
        if set(found) != expected or found.duplicated().any():
            return f"{len(expected)} {role} images expected, rows found for {len(expected & set(found))} of them"
    return ""


def _method_facts(suite: SuiteRecord, trials: Sequence[Trial]) -> dict[str, MethodFacts]:
    configured = suite.config.get("methods") or {} if isinstance(suite.config, dict) else {}
    facts = {}
    for name in dict.fromkeys(trial.method for trial in trials):
        spec = next((trial.spec for trial in trials if trial.method == name and trial.spec), None)
        if spec:
            method, training = spec["method"], spec.get("training") or {}
        else:
            method = configured.get(name) or {}
            training = {**(suite.config.get("training") or {}), **(method.get("training") or {})}
        # A trial is used again when only the card has changed since: what this run was asked for says it best.
        card = {**(method.get("card") or {}), **((configured.get(name) or {}).get("card") or {})}
        selection = str(training.get("selection", "unknown"))
        title = str(card.get("title") or name)
        facts[name] = MethodFacts(
            name, title, card, selection, training.get("image_size"), method.get("model"), method.get("version")
        )
    # Two rows of one name could not be told apart in any table or figure.
    titles = Counter(each.title.casefold() for each in facts.values())
    return {
        name: replace(each, title=f"{each.title} ({name})") if titles[each.title.casefold()] > 1 else each
        for name, each in facts.items()
    }


def _cells(trials: Sequence[Trial]) -> pd.DataFrame:
    """Which domains every method should cover. A trial without a spec borrows the split from others of its fold."""
    splits = {trial.fold: trial.spec["split"] for trial in trials if trial.spec}
    counts: dict[tuple[str, str, str], dict[str, Any]] = {}
    for trial in trials:
        split = trial.spec["split"] if trial.spec else splits.get(trial.fold)
        if split is None:
            continue
        for role in ROLES:
            for domain in dict.fromkeys(map(_domain, split[role])):
                cell = counts.setdefault(
                    (trial.method, role, domain), {"expected": 0, "found": 0, "state": "done", "why": []}
                )
                cell["expected"] += 1
                cell["found"] += trial.state == "done"
                if trial.state != "done":
                    cell["why"].append(f"{trial.fold}, seed {trial.seed}")
                cell["state"] = max(cell["state"], trial.state, key=_severity)
    rows = [{"method": m, "role": r, "domain": d, **cell} for (m, r, d), cell in counts.items()]
    cells = pd.DataFrame(rows, columns=["method", "role", "domain", "expected", "found", "state", "why"])
    order = _modality_order(cells["domain"])
    return cells.sort_values("domain", key=lambda names: names.map(order), kind="stable", ignore_index=True)


def _domain(key: str) -> str:
    """ "modality/domain/id" -> "modality/domain"."""
    return "/".join(key.split("/", 2)[:2])


def _severity(state: str) -> int:
    return {"done": 0, "missing": 1, "unfinished": 2, "damaged": 3, "failed": 4}[state]


def _modality_order(domains: Iterable[str]) -> dict[str, tuple[int, str]]:
    from harness.data.sample import MODALITIES

    places = {name: index for index, name in enumerate(MODALITIES)}
    return {name: (places.get(name.split("/")[0], len(places)), name) for name in domains}


def _plain(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum())
