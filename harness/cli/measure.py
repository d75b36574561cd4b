"""`measure`: computes the metrics that finished trials lack, from their masks."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.common import add_config_arguments, config_folder_argument, terminal
from harness.errors import UserError, counted, did_you_mean, some
from harness.files import read_json

if TYPE_CHECKING:
    from harness.config import RunConfig
    from harness.execution.measuring import Measured
    from harness.store.records import SuiteRecord, TrialEntry
    from harness.store.store import Store
    from harness.trial_spec import TrialSpec

_COMMAND = ("python", "-m", "harness")
_SHOWN = 5
_DESCRIPTION = """\
Measures the finished trials of a suite by the words of its run: computes what is missing (a new metric, other rules such as
metrics.nsd_tolerance=3) or was computed by an older version. Trains nothing and deletes nothing. Masks that were not kept are
predicted again from the weights. Exit code 1: some trials could not be measured; each is named with the reason.

  trial=ID          one trial, by the first letters of its id, in place of a suite
  --only A,B        these metrics alone, and Dice
  --store DIR       a store; again: several stores, one after the other
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "measure",
        help="compute metrics that finished trials lack; trains nothing",
        description=_DESCRIPTION,
    )
    add_config_arguments(parser)
    parser.epilog = f"example:\n  {parser.prog} suite=domain_generalization metrics.nsd_tolerance=3\n"
    parser.add_argument("--only", metavar="A,B", help=argparse.SUPPRESS)
    parser.add_argument("--store", type=Path, action="append", metavar="DIR", help=argparse.SUPPRESS)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:

    from harness.config.loading import load_config
    from harness.execution.measuring import NOT_TRAINED
    from harness.store.store import Store

    wanted = _wanted(args.only)
    trial, words = _trial_word(args.overrides)
    if args.store and any(word.startswith("store.root=") for word in words):
        raise UserError("The store is given twice: use either store.root=DIR or --store DIR.")
    config = load_config(words, config_folder_argument(args))
    console = terminal(stderr=True)
    results = []
    for root in args.store or [Path(config.store.root)]:
        store = Store(root)
        if not (store.root / "store.json").exists():
            raise UserError(f"There is no store at {store.root}. Name the one that the run wrote: store.root=DIR")
        store.prepare()
        config.store.root = str(store.root)
        with store.exclusive():
            rules = any(word.startswith("metrics.") for word in words)
            specs = _specs_of(store, trial, config if rules else None) if trial else _specs_of_suite(store, config)
            found = _measure(specs, config, store, wanted, console)
            results += found
            # Of words that fit no run there is nothing to report.
            if not trial and any(each.state != "impossible" for each in found):
                _keep_run(store, config, specs, args.overrides)
    code = _conclude(results)
    if not trial and results and all(each.reason == NOT_TRAINED for each in results):
        _tell_command(store, config)
    return code


def _tell_command(store: Store, config: RunConfig) -> None:
    """Where nothing of the suite is there: the words that its newest run had, which may be others."""
    for record in reversed(store.suites()):
        asked = read_json(record.folder / "trials.json") if record.name == config.name else {}
        if words := asked.get("command"):
            print(
                f"Give `measure` the words of the run, above all method= and data.root=. The newest run of {config.name} was, in"
                f" {asked.get('directory')}:\n  {shlex.join(words)}",
                file=sys.stderr,
            )
            return


def _wanted(only: str | None) -> list[str]:
    """Names of the metrics to look after, in the order of the registry."""
    from harness.metrics import REGISTRY

    names = list(REGISTRY) if only is None else ["dice", *filter(None, map(str.strip, only.split(",")))]
    for name in names:
        if name not in REGISTRY:
            raise UserError(f"--only {only}: there is no metric '{name}'.{did_you_mean(name, REGISTRY)}")
    return [name for name in REGISTRY if name in names]


def _trial_word(words: list[str]) -> tuple[str, list[str]]:
    """The ID of `trial=ID`, or "", and the other words."""
    trial = next((word.partition("=")[2] for word in words if word.startswith("trial=")), "")
    others = [word for word in words if not word.startswith("trial=")]
    if trial and any(word.partition("=")[0].split(".")[0] not in ("store", "metrics", "executor") for word in others):
        raise UserError(
            "trial=ID measures one trial: beside it only store.root=, metrics.KEY= and executor.KEY= say anything."
        )
    if not trial and len(others) < len(words):
        raise UserError(
            "trial= is empty: expected the first letters of a trial's id. `python -m harness plan` shows ids."
        )
    return trial, others


def _specs_of(store: Store, prefix: str, config: RunConfig | None) -> list[TrialSpec]:
    """All that was asked of one trial; by the rules of `config`, if any."""
    from harness.store.queries import find_trial

    specs = [store.spec(ids) for ids in store.ids_of(find_trial(store, prefix))]
    if config is not None:
        specs = [replace(spec, evaluation=config.metrics) for spec in specs]
    return specs


def _specs_of_suite(store: Store, config: RunConfig) -> list[TrialSpec]:
    """The trials of the suite, and by the same rules the external ones of its newest run; of a tuned run those that it lists."""
    from harness.planning.plan import build_plan

    newest = _newest_run(store, config)
    if any(entry.search for entry in newest.trials):
        return [_tuned_spec(store, entry, config) for entry in newest.trials if not _is_missing(entry)]
    planned = build_plan(config).trials
    external = []
    for entry in newest.trials:
        if (store.trial_folder(entry.ids.training) / "spec.json").exists():
            spec = store.spec(entry.ids)
            if spec.is_external:
                external.append(replace(spec, evaluation=config.metrics))
    return [*planned, *external]


def _tuned_spec(store: Store, entry: TrialEntry, config: RunConfig) -> TrialSpec:
    """Of a trial with the hyperparameters that a nested search chose, which no plan knows."""
    if not (store.measurement_folder(entry.ids) / "spec.json").exists():
        raise UserError(
            f"{entry.method} {entry.fold} seed {entry.seed} has never begun. Give the `sweep` command again first: it goes on."
        )
    spec = store.spec(entry.ids)
    return replace(spec, method=replace(spec.method, name=entry.method), evaluation=config.metrics)


def _is_missing(entry: TrialEntry) -> bool:
    return entry.search is not None and bool(entry.search.missing)


def _newest_run(store: Store, config: RunConfig) -> SuiteRecord:
    records = store.suites()
    runs = [record for record in records if record.name == config.name]
    if not runs:
        tuned = f"{config.name}_tuned"
        hint = f" Its tuned run is measured by name={tuned}." if any(each.name == tuned for each in records) else ""
        raise UserError(f"{store.root} has no run of {config.name}.{hint or ' Run it first, with the same words.'}")
    return runs[-1]


def _keep_run(store: Store, config: RunConfig, specs: list[TrialSpec], words: list[str]) -> None:
    """Starts a run of what was measured, so that `report` finds it; none where the newest run asked for the same."""
    from harness.cli.run import as_yaml
    from harness.store.records import TrialEntry

    newest = _newest_run(store, config)
    choices = {(entry.method, entry.fold): entry.search for entry in newest.trials}
    entries = [TrialEntry.of(spec) for spec in specs]
    entries = [replace(entry, search=choices.get((entry.method, entry.fold))) for entry in entries]
    entries += filter(_is_missing, newest.trials)
    if not {entry.ids for entry in entries} <= {entry.ids for entry in newest.trials}:
        # Of external methods only the run knows the card.
        methods = {**(newest.config.get("methods") or {}), **config.methods}
        store.start_suite(
            config.name, as_yaml(replace(config, methods=methods)), entries, [*_COMMAND, "measure", *words]
        )


def _measure(
    specs: Sequence[TrialSpec], config: RunConfig, store: Store, wanted: list[str], console: Any
) -> list[Measured]:
    from rich.progress import Progress

    from harness.execution.measuring import measure_missing, measuring_pool
    from harness.execution.serial import local_device
    from harness.planning.datasets import cache_folder
    from harness.trial import TrialContext

    context = TrialContext(
        store_root=str(store.root),
        cache_folder=str(cache_folder(config)),
        device=local_device(config.executor.device),
        predictions=config.store.predictions,
    )
    specs = list({spec.ids: spec for spec in specs}.values())
    datasets: dict[str, Any] = {}
    results = []
    with measuring_pool(wanted) as map_, Progress(console=console, transient=True) as display:
        task = display.add_task("Measuring", total=len(specs))
        for spec in specs:
            display.update(task, description=spec.label)
            results.append(measure_missing(spec, context, wanted, map_, datasets))
            display.advance(task)
    return results


def _conclude(results: list[Measured]) -> int:
    """Says what was measured on standard output, and what could not be on standard error; gives the exit code."""
    counts = Counter(each.state for each in results)
    metrics = list(dict.fromkeys(name for each in results for name in each.metrics))
    what = f" ({', '.join(metrics)})" if metrics else ""
    print(f"{counted(counts['measured'], 'trial')} measured{what}, {counts['up to date']} up to date.")
    if again := sum(each.predicted for each in results):
        print(f"{again} of them kept no masks and were predicted again from their weights.")
    impossible = [each for each in results if each.state == "impossible"]
    if not impossible:
        return 0
    print(f"{len(impossible)} could not be measured:", file=sys.stderr)
    reasons: dict[str, list[str]] = {}
    for each in impossible:
        reasons.setdefault(each.reason, []).append(each.trial.label)
    for reason, labels in reasons.items():
        print(f"  {some(labels, _SHOWN)}: {reason}", file=sys.stderr)
    return 1
