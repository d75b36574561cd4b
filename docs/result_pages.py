"""Results that the project publishes: the tables of a file that `submit` wrote, as a report's Markdown has them."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from reports.records.records import ReportedTrial
    from reports.submissions.rankings import Ranking
    from reports.tables.cells import Column

FOLDER = Path(__file__).resolve().parents[1] / "results"
_LIBRARIES = ("torch", "torchvision", "timm", "numpy")
_NOTHING = ("", "—", "unknown device")


def results(file: str) -> str:
    """The tables of `results/FILE`, and where its numbers come from."""
    from reports.tables.cost_columns import cost_columns
    from reports.tables.files import markdown
    from reports.tables.leaderboard import columns_of

    ranking = ranking_of(file)
    records, board = ranking.records, ranking.board
    costs = _measured(cost_columns(board.costs), board.costs)
    text = markdown(records, board, columns_of(board, records), costs, file)
    _, _, tables = text.partition("\n\n")
    # A method's name in the file's own ranking ends in the file's digest, which tells a reader nothing.
    tables = re.sub(r"^## ", "### ", re.sub(r"@[0-9a-f]{16}-\d+", "", tables), flags=re.MULTILINE)
    return f"{tables}\n### Where the numbers come from\n\n{_provenance(ranking)}"


def result_differences(file: str, *pairs: str) -> str:
    """Differences in the Dice on test domains, paired by image: a row for each of `pairs`, "better/worse" by their names.

    They are over all domains, over those that no start is known to hold, and over the latter by modality.
    """
    from reports.analysis.means import Means
    from reports.analysis.starts import marked, surely_unseen
    from reports.records.formatting import interval

    records = ranking_of(file).records
    means, unlisted = Means(records), surely_unseen(records)
    seeds = {name: {trial.seed for trial in records.trials_of(name)} for name in records.methods}
    names = {facts.origin: name for name, facts in records.methods.items()}
    scopes = {f"all {len(records.domains)} domains": list(records.domains)}
    scopes[f"{len(unlisted)} that no start is known to hold"] = unlisted
    for modality in dict.fromkeys(domain.partition("/")[0] for domain in unlisted):
        own = [domain for domain in unlisted if domain.startswith(f"{modality}/")]
        scopes[f"of these, {modality} ({len(own)})"] = own
    lines = [["Difference in Dice [95 %]", "seeds", *scopes], ["---"] + ["---:"] * (1 + len(scopes))]
    for pair in pairs:
        better, worse = (names[name] for name in pair.split("/"))
        titles = [marked(records.methods[name].title, records.methods[name].start) for name in (better, worse)]
        leads = [means.lead(better, worse, domains) for domains in scopes.values()]
        cells = [f"{lead.value:+.3f} {interval(lead.low, lead.high)}".replace("-", "−") for lead in leads]
        trained = ", ".join(str(len(seeds[name])) for name in (better, worse))
        lines.append([" − ".join(titles), trained, *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


@cache
def ranking_of(file: str) -> Ranking:
    """All of `results/FILE` as one ranking."""
    from harness.submissions.guard import judge
    from reports.submissions.entries import Entry
    from reports.submissions.rankings import build_rankings

    (ranking,), _ = build_rankings([Entry(file, "", judge(FOLDER / file, None))])
    return ranking


def _measured(columns: list[Column], costs: pd.DataFrame) -> list[Column]:
    """The columns that hold anything: a file of results has no times, which depend on the machine."""
    return [column for column in columns if any(column.cell(row).text() not in _NOTHING for _, row in costs.iterrows())]


def _provenance(ranking: Ranking) -> str:
    """Folds and licence of the file, then a column for each commit that trials of it were made at."""
    trials = ranking.records.trials
    row = next(iter(ranking.rows.values()))
    manifest = row.entry.submission.manifest
    splits = {trial.fold: trial.spec.split for trial in trials if trial.spec}
    folds = [
        f"{name}: {len(split.of('train'))} images train, {len(split.of('validation'))} validate, {len(split.of('test'))}"
        f" test ({', '.join(split.held_out)})"
        for name, split in splits.items()
    ]
    submitter: Any = manifest["submitter"]
    runs: Any = manifest["runs"]
    packed = _each(f"{run['time'][:10]} {run['time'][11:16].replace('-', ':')} UTC" for run in runs)
    by_commit: dict[str, list[ReportedTrial]] = {}
    for trial in trials:
        by_commit.setdefault(trial.provenance["code"]["commit"], []).append(trial)
    columns = [_made_at(ranking, own) for own in by_commit.values()]
    rows = [
        ["", *(f"{len(own)} trials" for own in by_commit.values())],
        ["---"] * (1 + len(columns)),
        *([name, *(column[name] for column in columns)] for name in columns[0]),
    ]
    return (
        f"Packed from the runs of {packed}, by {submitter['name']}, {submitter['licence']}. Folds: {'; '.join(folds)}.\n\n"
        + "".join(f"| {' | '.join(row)} |\n" for row in rows)
    )


def _made_at(ranking: Ranking, trials: list[ReportedTrial]) -> dict[str, str]:
    """Of trials of one commit: what they are, code and machine."""
    found = [trial.provenance for trial in trials]
    machines = [each["machine"] for each in found]
    seeds: dict[str, set[int]] = {}
    for trial in trials:
        seeds.setdefault(ranking.records.methods[trial.method].origin, set()).add(trial.seed)
    return {
        "methods, with seeds": "; ".join(f"{name}: {', '.join(map(str, sorted(own)))}" for name, own in seeds.items()),
        "commit": trials[0].provenance["code"]["commit"],
        "machine": _each(f"{m['processor']}, {m['cores']} cores, on {m['device']} in {m['threads']} thread" for m in machines),
        "libraries": _each(
            ", ".join([f"Python {each['python']}", *(f"{name} {each['libraries'][name]}" for name in _LIBRARIES)])
            for each in found
        ),
    }  # fmt: skip


def _each(values: Any) -> str:
    """Every value once, in order."""
    return "; ".join(sorted(set(values)))
