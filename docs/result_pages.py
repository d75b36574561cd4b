"""Results that the project publishes: the tables of files that `submit` wrote, as a report's Markdown has them."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from harness.submissions.layout import Submission
    from reports.submissions.rankings import Ranking
    from reports.tables.cells import Column

FOLDER = Path(__file__).resolve().parents[1] / "results"
_LIBRARIES = ("torch", "torchvision", "timm", "numpy")
_NOTHING = ("", "—", "unknown device")


def results(*files: str) -> str:
    """The tables of all `files` of the folder `results` together, and where the numbers of each come from."""
    from reports.tables.cost_columns import cost_columns
    from reports.tables.files import markdown
    from reports.tables.leaderboard import columns_of

    ranking = ranking_of(files)
    records, board = ranking.records, ranking.board
    costs = _measured(cost_columns(board.costs), board.costs)
    text = markdown(records, board, columns_of(board, records), costs, ", ".join(files))
    _, _, tables = text.partition("\n\n")
    # A method's name in the file's own ranking ends in the file's digest, which tells a reader nothing.
    tables = re.sub(r"^## ", "### ", re.sub(r"@[0-9a-f]{16}-\d+", "", tables), flags=re.MULTILINE)
    return f"{tables}\n### Where the numbers come from\n\n{_provenance(ranking)}"


def result_differences(*words: str) -> str:
    """Differences in the Dice on test domains, paired by image: a row for each pair, "better/worse" by their names.

    `words` are names of files of the folder `results`, then pairs. Differences are over all domains, over those that no start is known to hold, and over the latter by modality.
    """
    from reports.analysis.means import Means
    from reports.analysis.starts import marked, surely_unseen
    from reports.records.formatting import interval

    files = tuple(word for word in words if word.endswith(".zip"))
    records = ranking_of(files).records
    means, unlisted = Means(records), surely_unseen(records)
    seeds = {name: {trial.seed for trial in records.trials_of(name)} for name in records.methods}
    names = {facts.origin: name for name, facts in records.methods.items()}
    scopes = {f"all {len(records.domains)} domains": list(records.domains)}
    scopes[f"{len(unlisted)} that no start is known to hold"] = unlisted
    for modality in dict.fromkeys(domain.partition("/")[0] for domain in unlisted):
        own = [domain for domain in unlisted if domain.startswith(f"{modality}/")]
        scopes[f"of these, {modality} ({len(own)})"] = own
    lines = [["Difference in Dice [95 %]", "seeds", *scopes], ["---"] + ["---:"] * (1 + len(scopes))]
    for pair in words[len(files) :]:
        better, worse = (names[name] for name in pair.split("/"))
        titles = [marked(records.methods[name].title, records.methods[name].start) for name in (better, worse)]
        leads = [means.lead(better, worse, domains) for domains in scopes.values()]
        cells = [f"{lead.value:+.3f} {interval(lead.low, lead.high)}".replace("-", "−") for lead in leads]
        trained = ", ".join(str(len(seeds[name])) for name in (better, worse))
        lines.append([" − ".join(titles), trained, *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


@cache
def ranking_of(files: tuple[str, ...]) -> Ranking:
    """All rows of `files` as one ranking: they were measured on the same images by the same rules, or this fails."""
    from harness.submissions.guard import judge
    from reports.submissions.entries import Entry
    from reports.submissions.rankings import build_rankings

    (ranking,), _ = build_rankings([Entry(file, "", judge(FOLDER / file, None)) for file in files])
    return ranking


def _measured(columns: list[Column], costs: pd.DataFrame) -> list[Column]:
    """The columns that hold anything: a file of results has no times, which depend on the machine."""
    return [column for column in columns if any(column.cell(row).text() not in _NOTHING for _, row in costs.iterrows())]


def _provenance(ranking: Ranking) -> str:
    """Code, machine, dates and licence of each file as it says them, and the folds, which are the same in all."""
    entries = {row.entry.file: row.entry for row in ranking.rows.values()}
    splits = {trial.fold: trial.spec.split for trial in ranking.records.trials if trial.spec}
    folds = [
        f"{name}: {len(split.of('train'))} images train, {len(split.of('validation'))} validate, {len(split.of('test'))}"
        f" test ({', '.join(split.held_out)})"
        for name, split in splits.items()
    ]
    columns = [_origin(entry.submission) for entry in entries.values()]
    rows = [
        ["", *entries],
        ["---"] * (1 + len(entries)),
        *([name, *(column[name] for column in columns)] for name in columns[0]),
    ]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"{table}\n\nFolds: {'; '.join(folds)}.\n"


def _origin(submission: Submission) -> dict[str, str]:
    """What one file says of its trials."""
    found: list[dict[str, Any]] = [trial.provenance for trial in submission.trials]
    machines = [each["machine"] for each in found]
    submitter: Any = submission.manifest["submitter"]
    runs: Any = submission.manifest["runs"]
    return {
        "commit": _each(each["code"]["commit"] for each in found),
        "machine": _each(f"{m['processor']}, {m['cores']} cores, on {m['device']} in {m['threads']} thread" for m in machines),
        "libraries": _each(
            ", ".join([f"Python {each['python']}", *(f"{name} {each['libraries'][name]}" for name in _LIBRARIES)])
            for each in found
        ),
        "seeds": _each(str(trial.spec.seed) for trial in submission.trials),
        "packed from the runs of": _each(f"{run['time'][:10]} {run['time'][11:16].replace('-', ':')} UTC" for run in runs),
        "by": f"{submitter['name']}, {submitter['licence']}",
    }  # fmt: skip


def _each(values: Any) -> str:
    """Every value once, in order."""
    return "; ".join(sorted(set(values)))
