"""From submissions to rankings: what was measured on the same images by the same rules stands in one, and nothing else does.

Two rows share a ranking where all of these are equal: the fingerprint of every split and whether it holds domains out, what the test images and masks are (subject,
size, foreground), and the rules of the metrics. Verified and unverified rows never share one: a made-up number must not move
the rank, the interval or the significance of a recomputed one.
"""

from __future__ import annotations

import logging
import math
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from harness.files import sha256_json
from harness.metrics import shown_metrics
from harness.store.records import SuiteRecord
from harness.submissions.guard import Verdict
from harness.submissions.layout import SubmittedTrial
from harness.trial_spec import TrialIds
from reports.records.reading import count_cells, outdated, unique_titles
from reports.records.records import GUESS, MethodFacts, Records, ReportedTrial
from reports.submissions.entries import Entry
from reports.tables.leaderboard import Leaderboard, build_leaderboard

logger = logging.getLogger(__name__)

Compute = Callable[[Records], Leaderboard]
TRUST = ("verified", "unverified")
_FACTS = ["key", "subject", "width", "height", "reference_pixels"]


@dataclass(frozen=True)
class Row:
    """One method of one submission: a row of a ranking.

    Attributes:
        place: of the method in the submission.
        data: id of what it was measured on and how, see `data_id`.
    """

    entry: Entry
    place: int
    data: str

    @property
    def name(self) -> str:
        """No other row has it: two methods of a submission may share a name, and nobody can make a file with this SHA-256."""
        return f"{self.method['name']}@{self.page}"

    @property
    def page(self) -> str:
        """Name of its page: of no text of the submission."""
        return f"{self.entry.submission.digest[:16]}-{self.place}"

    @property
    def method(self) -> dict[str, Any]:
        methods = self.entry.submission.manifest["methods"]
        assert isinstance(methods, list)
        return dict(methods[self.place])

    @property
    def trials(self) -> list[tuple[int, SubmittedTrial]]:
        """With their places in the submission."""
        return [(at, trial) for at, trial in enumerate(self.entry.submission.trials) if trial.method == self.place]


@dataclass(frozen=True)
class Ranking:
    """The rows of equal data and equal trust, with the tables of a report. `rows` are by their names."""

    data: str
    trust: str
    rows: dict[str, Row]
    records: Records
    board: Leaderboard


def rows_of(entries: Sequence[Entry]) -> list[Row]:
    """The rows of all submissions that were not refused, in the order in which they came."""
    found = []
    for entry in entries:
        if entry.verdict.submission is not None:
            methods = sorted({trial.method for trial in entry.submission.trials})
            found += [Row(entry, place, data_id(entry, place)) for place in methods]
    return found


def data_id(entry: Entry, method: int) -> str:
    """SHA-256 of what a method was measured on, and by which rules: equal ids may be ranked together."""
    submission = entry.submission
    own = {at: trial.spec for at, trial in enumerate(submission.trials) if trial.method == method}
    images = submission.images[(submission.images["role"] == "test") & submission.images["trial"].isin(own)]
    facts = images[["trial", *_FACTS]].astype(object).where(images[["trial", *_FACTS]].notna(), None)
    by_split: dict[tuple[str, str, bool], set[tuple[Any, ...]]] = {}
    for at, spec in own.items():
        split, rows = spec.split, facts[facts["trial"] == at]
        # Whether its domains are unseen decides on what the columns of a ranking mean.
        found = by_split.setdefault((split.name, split.fingerprint, bool(split.held_out)), set())
        found.update(rows[_FACTS].itertuples(index=False, name=None))
    content = [[*split, sorted([list(row) for row in rows], key=str)] for split, rows in sorted(by_split.items())]
    return sha256_json({"splits": content, "metrics": asdict(next(iter(own.values())).evaluation)})


def build_rankings(entries: Sequence[Entry], compute: Compute = build_leaderboard) -> tuple[list[Ranking], list[Entry]]:
    """All rankings, and the entries: those whose numbers can't be ranked are refused now.

    Args:
        compute: `build_leaderboard`, or that of a guarded process.
    """
    entries = list(entries)
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows_of(entries):
        groups.setdefault((row.data, row.entry.verdict.state), []).append(row)
    rankings = []
    for (data, trust), rows in groups.items():
        try:
            rankings.append(_ranking(data, trust, rows, compute))
        except Exception as error:
            # Numbers that passed every check and break a statistic all the same.
            bad = _who_breaks(rows, compute)
            files = sorted({row.entry.file for row in rows if row.entry.submission.digest in bad})
            logger.warning("%s: its numbers can't be ranked (%r).", ", ".join(files), error)
            return build_rankings([_refused(entry, bad) for entry in entries], compute)
    order = {trust: place for place, trust in enumerate(TRUST)}
    first = {data: place for place, data in reversed(list(enumerate(data for data, _ in groups)))}
    return sorted(rankings, key=lambda ranking: (first[ranking.data], order[ranking.trust])), entries


def _who_breaks(rows: Sequence[Row], compute: Compute) -> dict[str, str]:
    """SHA-256 of a submission -> why it is refused: those that can't even be ranked alone, else the one that came last."""
    bad = {}
    for row in rows:
        try:
            _ranking(row.data, "alone", [row], compute)
        except Exception:
            bad[row.entry.submission.digest] = (
                "its numbers can't be ranked: a statistic of them is not defined, or takes too much memory."
            )
    return bad or {rows[-1].entry.submission.digest: "it can't be ranked together with those that came before it."}


def _refused(entry: Entry, reasons: Mapping[str, str]) -> Entry:
    found = entry.verdict.submission
    if found is None or found.digest not in reasons:
        return entry
    return replace(entry, verdict=Verdict("refused", reasons[found.digest]))


def _ranking(data: str, trust: str, rows: Sequence[Row], compute: Compute) -> Ranking:
    records = records_of(rows)
    return Ranking(data, trust, {row.name: row for row in rows}, records, compute(records))


def records_of(rows: Sequence[Row]) -> Records:
    """Rows of several submissions as the records of one run, so that all of a report can be made of them."""
    trials: list[ReportedTrial] = []
    frames, costs, facts = [], [], {}
    for row in rows:
        facts[row.name] = _facts(row)
        costs.append({"method": row.method["name"], "model": facts[row.name].model, **row.method["costs"]})
        places = {at: _reported(row, at, trial) for at, trial in row.trials}
        trials += places.values()
        images = row.entry.submission.images
        own = images[images["trial"].isin(places)]
        labels = {
            name: own["trial"].map({at: getattr(t, name) for at, t in places.items()})
            for name in ("fold", "seed", "id")
        }
        frames.append(own.assign(method=row.name, fold=labels["fold"], seed=labels["seed"], trial=labels["id"]))
    samples = pd.concat(frames, ignore_index=True)
    parts = samples["key"].str.split("/", n=2)
    samples = samples.assign(modality=parts.str[0], domain=parts.str[1], id=parts.str[2])
    samples[GUESS] = samples[GUESS].astype(object)
    unmeasured = {name: set[str]() for name in facts}
    for trial in trials:
        unmeasured[trial.method] |= set(shown_metrics()).difference(trial.metrics)
    for name, older in outdated(trials).items():
        samples.loc[samples["trial"].isin([trial.id for trial in older]), name] = math.nan
        for trial in older:
            unmeasured[trial.method].add(name)
    name = rows[0].entry.submission.trials[0].spec.data.name
    return Records(
        suite=SuiteRecord(name, "", Path(), {}, []),
        trials=trials,
        methods=unique_titles(_with_submitters(rows, facts)),
        samples=samples.reindex(columns=[*dict.fromkeys([*samples.columns, *shown_metrics()])]),
        cells=count_cells(trials),
        curves=pd.DataFrame(columns=["method", "fold", "seed"]),
        efficiency=costs,
        unmeasured={method: frozenset(names) for method, names in unmeasured.items()},
    )


def _facts(row: Row) -> MethodFacts:
    method, spec = row.method, row.trials[0][1].spec
    training = spec.settings()["training"]
    return MethodFacts(
        row.name, str(method["card"]["title"]), method["card"], str(training.get("selection", "unknown")),
        training.get("image_size"),
        # With the row's name, for costs are looked up by it: those of another lab's method of the same name are not its own.
        {**method["model"], "row": row.name},
        method["version"], origin=method["name"],
        geometry=str(training.get("geometry") or ("stretch" if training.get("image_size") else "")),
    )  # fmt: skip


def _with_submitters(rows: Sequence[Row], facts: dict[str, MethodFacts]) -> dict[str, MethodFacts]:
    """Says of titles that several rows have whose and from when each is."""
    looks = {name: _look(each.title) for name, each in facts.items()}
    titles = Counter(looks.values())
    shared = [row for row in rows if titles[looks[row.name]] > 1]
    own = {row.name: f"{row.entry.submitter['name'] or row.entry.file}, {row.entry.received[:10]}" for row in shared}
    return {
        name: replace(each, title=f"{each.title} ({own[name]})") if name in own else each
        for name, each in facts.items()
    }


def _look(title: str) -> str:
    """What is equal for titles that are read alike: case, blanks and forms of a letter don't tell methods apart."""
    return " ".join(unicodedata.normalize("NFKC", title).casefold().split())


def _reported(row: Row, at: int, trial: SubmittedTrial) -> ReportedTrial:
    label = f"{row.entry.submission.digest[:16]}-{at}"
    return ReportedTrial(
        id=label, ids=TrialIds(label, label, label), method=row.name, fold=trial.spec.split.name, seed=trial.spec.seed,
        state="done", seconds=trial.summary.get("seconds"), spec=trial.spec, provenance=dict(trial.provenance),
        summary=dict(trial.summary), metrics=trial.metrics,
    )  # fmt: skip
