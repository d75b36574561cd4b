"""`compare A B`: what changed from one run to another, method by method, paired by image. Made for CI."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.common import terminal
from harness.errors import UserError, did_you_mean, near_name
from harness.methods.card import NO_WEIGHTS

if TYPE_CHECKING:
    import pandas as pd

    from harness.statistics import Estimate
    from harness.store.records import SuiteRecord
    from harness.store.store import Store
    from reports.records.records import Records

LOST = 1
_SHOWN = 5
_UNEQUAL = "{}: UNEQUAL STARTS: {} in A, {} in B. The change may be the pretraining's."
_MIXED = "Methods start from different weights (column start): compare each with itself, not with the others."
_DESCRIPTION = """\
Compares the methods that two runs share, paired by image: is B worse than A, and surely so?

Each of A and B is a run's folder (runs/suites/<suite>/<time>), a store (its newest run with results), or, in the store
given by --store, <suite>/<time>, <suite> or <time>.

Exit code 0: no loss. 1: a method got significantly worse, or was complete in A and is not in B. 2: a mistake, or nothing
that can be compared.
"""


@dataclass(frozen=True)
class Change:
    """One method from A to B. Without an estimate, `verdict` says why.

    `worst_domain` is the domain that fared worst, with its difference; `settings` what of method, training and libraries
    differs; `starts` from which weights it starts in A and in B.
    """

    method: str
    verdict: str
    before: float | None = None
    after: float | None = None
    difference: Estimate | None = None
    p_value: float | None = None
    rank_biserial: float | None = None
    worst_domain: str = ""
    settings: str = ""
    starts: tuple[str, str] = ("", "")
    lost: bool = False

    @property
    def unequal_starts(self) -> bool:
        return self.starts[0] != self.starts[1]


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "compare",
        help="two runs: what changed, is it significant; for CI",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("a", metavar="A", help="the run before")
    parser.add_argument("b", metavar="B", help="the run after")
    parser.add_argument("--store", type=Path, default=Path("runs"), metavar="DIR", help="default: runs")
    parser.add_argument("--metric", default="dice", metavar="NAME", help="a column of the results; default: dice")
    parser.add_argument(
        "--level",
        type=float,
        default=0.05,
        metavar="P",
        help="of significance, corrected by Holm's method; default: 0.05",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:

    from harness.metrics import shown_metrics
    from reports.records.reading import read_records

    if args.metric not in shown_metrics():
        raise UserError(f"--metric {args.metric} is unknown.{did_you_mean(args.metric, shown_metrics())}")
    if not 0 < args.level < 1:
        raise UserError(f"--level {args.level}: expected a number between 0 and 1, such as 0.05.")
    found = [_find(word, args.store) for word in (args.a, args.b)]
    if found[0][1].folder == found[1][1].folder:
        raise UserError(f"A and B are the same run, {found[0][1].folder}. Name two: `--help` says how.")
    before, after = (read_records(store, suite) for store, suite in found)
    changes = compare_runs(before, after, args.metric, args.level)
    if not any(change.difference for change in changes) and not any(change.lost for change in changes):
        reasons = "; ".join(f"{change.method}: {change.verdict}" for change in changes)
        raise UserError(f"The runs have nothing that can be compared. {reasons or 'Neither has a method.'}")
    names = [f"{suite.name}/{suite.time}" for _, suite in found]
    _print(changes, args.metric, names, terminal())
    return LOST if any(change.lost for change in changes) else 0


def _find(word: str, root: Path) -> tuple[Store, SuiteRecord]:
    """The run that a word of the command line names."""
    from harness.store.store import Store
    from reports.records.runs import find_suite

    path = Path(word).expanduser().resolve()
    if (path / "trials.json").is_file() and len(path.parts) > 3:
        store = Store(path.parents[2])
        return store, find_suite(store, path.parent.name, path.name)
    if (path / "suites").is_dir():
        store = Store(path)
        return store, find_suite(store)
    store = Store(root)
    records = store.suites()
    names = {record.name for record in records}
    suite, _, time = word.rpartition("/")
    if word in names:
        return store, find_suite(store, word)
    if any(record.time == time and suite in ("", record.name) for record in records):
        return store, find_suite(store, suite or None, time)
    known = [f"{record.name}/{record.time}" for record in records]
    beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    hint = near_name(word, known) or near_name(path.name, beside)
    listed = f" The newest runs there: {', '.join(known[-_SHOWN:])}." if known else ""
    raise UserError(
        f"'{word}' is neither a run's folder, nor a store, nor a run in the store {store.root}.{hint or listed}"
    )


def compare_runs(before: Records, after: Records, metric: str, level: float) -> list[Change]:
    """Every method of either run.

    Raises:
        UserError: the runs measured by different rules.
    """
    import numpy as np

    from harness.metrics import REGISTRY
    from harness.statistics import holm

    _check_rules(before, after, metric)
    higher = REGISTRY[metric].higher_is_better
    names = [*before.methods, *(name for name in after.methods if name not in before.methods)]
    changes = [_compare(name, before, after, metric, higher) for name in names]
    tested = [index for index, change in enumerate(changes) if change.p_value is not None]
    adjusted = holm(np.array([changes[index].p_value for index in tested], float))
    for index, p_value in zip(tested, adjusted, strict=True):
        change = changes[index]
        assert change.difference is not None
        surely = p_value <= level
        worse = (change.difference.value < 0) == higher and change.difference.value != 0
        verdict = ("worse" if worse else "better") if surely else change.verdict
        changes[index] = replace(change, p_value=float(p_value), verdict=verdict, lost=bool(surely and worse))
    return changes


def _check_rules(before: Records, after: Records, metric: str) -> None:
    first, second = (
        next((trial.spec.settings()["metrics"] for trial in run.trials if trial.spec), None) for run in (before, after)
    )
    if first is not None and second is not None and first != second:
        different = [key for key in sorted({*first, *second}) if first.get(key) != second.get(key)]
        found = ", ".join(f"metrics.{key} is {first.get(key)} in A and {second.get(key)} in B" for key in different)
        rules = " ".join(f"metrics.{key}={first.get(key)}" for key in different)
        raise UserError(
            f"The runs were measured by different rules: {found}. Such numbers can't be compared. Measure B by the rules of A:"
            f" python -m harness measure, with the words of its run and {rules}."
        )
    versions = {trial.metrics[metric] for run in (before, after) for trial in run.trials if metric in trial.metrics}
    if len(versions) > 1:
        raise UserError(
            f"{metric} has versions {' and '.join(map(str, sorted(versions)))} in these runs. Measure what is older again:"
            " python -m harness measure, with the words of its run."
        )


def _compare(name: str, before: Records, after: Records, metric: str, higher: bool) -> Change:
    from harness.statistics import DomainBootstrap, paired_tests, same

    for run, where in ((before, "A"), (after, "B")):
        trials = run.trials_of(name)
        undone = [trial for trial in trials if trial.state != "done"]
        if not trials:
            return Change(name, f"not in {where}")
        if undone:
            verdict = f"incomplete in {where}: {len(undone)} of {len(trials)} trials ({undone[0].state})"
            # What was there and is no more is a loss whatever its numbers were.
            return Change(name, verdict, lost=where == "B")
    first, second = (_images(run, name, metric) for run in (before, after))
    if reason := _why_other_images(first, second):
        return Change(name, reason)
    values = second[[metric]].assign(before=first[metric])[["before", metric]].to_numpy(float)
    domains = second["domain"].tolist()
    units = second["subject"].where(second["subject"].notna(), second.index.to_series()).astype(str).tolist()
    bootstrap = DomainBootstrap(values, domains, units)
    difference = bootstrap.contrast(bootstrap.weights(1) - bootstrap.weights(0))
    if difference.value != difference.value:
        return Change(name, f"{metric} is undefined for some images")
    tests = paired_tests(values, domains, units)
    steps = bootstrap.means[:, 1] - bootstrap.means[:, 0]
    place = int(steps.argmin() if higher else steps.argmax())
    equal = bool(same(values[:, 0], values[:, 1]).all())
    return Change(
        name,
        "equal on every image" if equal else "no significant difference",
        before=float(bootstrap.means[:, 0].mean()),
        after=float(bootstrap.means[:, 1].mean()),
        difference=difference,
        p_value=float(tests.permutation[1, 0]),
        rank_biserial=float(tests.rank_biserial[1, 0]),
        worst_domain="" if equal else f"{bootstrap.domains[place]} {steps[place]:+.3f}",
        settings=_changed_settings(name, before, after),
        starts=(before.methods[name].start, after.methods[name].start),
    )


def _images(run: Records, name: str, metric: str) -> pd.DataFrame:
    """One row per test image, by key: its mean over folds and seeds, and the size of its truth."""
    from harness.statistics import mean_per_image

    samples = run.samples
    rows = samples[(samples["method"] == name) & (samples["role"] == "test")]
    images = mean_per_image(rows, list(dict.fromkeys([metric, "reference_pixels"]))).set_index("key")
    return images.assign(domain=images["modality"].astype(str) + "/" + images["domain"].astype(str))


def _why_other_images(first: pd.DataFrame, second: pd.DataFrame) -> str:
    if set(first.index) != set(second.index):
        only = (len(set(first.index) - set(second.index)), len(set(second.index) - set(first.index)))
        return f"tested on other images: {only[0]} only in A, {only[1]} only in B"
    if not (first["reference_pixels"] == second["reference_pixels"]).all():
        changed = int((first["reference_pixels"] != second["reference_pixels"]).sum())
        return f"the true masks of {changed} images changed"
    return ""


def _changed_settings(name: str, before: Records, after: Records) -> str:
    """Names of what differs between the first trials of the two runs."""
    sides: list[dict[str, Any]] = []
    for run in (before, after):
        trial = run.trials_of(name)[0]
        if trial.spec is None:
            return ""
        model = {f"model.{key}": value for key, value in trial.spec.method.model.items()}
        model |= {f"trainer.{key}": value for key, value in (trial.spec.method.trainer or {}).items()}
        training = {f"training.{key}": value for key, value in trial.spec.settings()["training"].items()}
        training |= dict.fromkeys(trial.search.values if trial.search else (), "searched")
        libraries = trial.provenance.get("libraries") or {}
        code = {"code": (trial.provenance.get("code") or {}).get("commit"), "bench": trial.provenance.get("bench")}
        counts = {"trials": len(run.trials_of(name)), "version": trial.spec.method.version}
        sides.append({**counts, **model, **training, **code, **libraries})
    keys = [key for key in dict.fromkeys([*sides[0], *sides[1]]) if sides[0].get(key) != sides[1].get(key)]
    return ", ".join(f"{key} {_short(sides[0].get(key))} → {_short(sides[1].get(key))}" for key in keys)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 12 else f"{text[:10]}…"


def _print(changes: list[Change], metric: str, names: list[str], console: Any) -> None:
    from rich.table import Table

    table = Table("method", title=f"{metric}: A = {names[0]}, B = {names[1]}", title_justify="left")
    table.add_column("start")
    for column in ("A", "B", "B − A [95 %]", "p (Holm)"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("verdict")
    for change in changes:
        table.add_row(*_cells(change))
    console.print(table)
    for change in changes:
        if change.unequal_starts:
            console.print(_UNEQUAL.format(change.method, *change.starts), markup=False, highlight=False, soft_wrap=True)
        details = [change.worst_domain and f"worst change in {change.worst_domain}", change.settings]
        if change.rank_biserial:
            details.insert(0, f"rank-biserial effect {change.rank_biserial:+.2f}")
        if text := "; ".join(filter(None, details)):
            console.print(f"{change.method}: {text}", markup=False, highlight=False, soft_wrap=True)
    if len({change.starts for change in changes if change.starts[0] not in ("", NO_WEIGHTS)}) > 1:
        console.print(_MIXED, highlight=False, soft_wrap=True)
    console.print(
        "Paired by image within domains: sign-flip test of the macro mean; intervals by bootstrap.",
        highlight=False,
        soft_wrap=True,
    )


def _cells(change: Change) -> list[str]:
    verdict = f"LOSS: {change.verdict}" if change.lost else change.verdict
    verdict += " (unequal starts)" if change.unequal_starts else ""
    if change.difference is None or change.before is None or change.after is None:
        return [change.method, "", "", "", "", "", verdict]
    low, high = change.difference.low, change.difference.high
    interval = "" if low is None or high is None else f" [{low:+.3f}, {high:+.3f}]"
    difference = f"{change.difference.value:+.3f}{interval}"
    start = " → ".join(dict.fromkeys(change.starts))
    return [
        change.method,
        start,
        f"{change.before:.3f}",
        f"{change.after:.3f}",
        difference,
        f"{change.p_value:.3g}",
        verdict,
    ]
