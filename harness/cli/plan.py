"""`plan`: every trial of a run and what it will take, before anything is spent."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from harness.cli.common import add_config_arguments, config_folder_argument, terminal
from harness.errors import counted

if TYPE_CHECKING:
    from rich.table import Table

    from harness.planning.estimate import Estimator
    from harness.planning.plan import Plan
    from harness.store.store import Store
    from harness.trial_spec import TrialSpec


TO_MEASURE = "to measure"


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "plan",
        help="show every trial of a run and an estimate, and run nothing",
        description="Shows every split and trial that `run` with the same words would run, and how long it will take.",
    )
    add_config_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:

    from harness.config.loading import load_config
    from harness.planning.checks import check_methods
    from harness.planning.estimate import Estimator
    from harness.planning.plan import build_plan
    from harness.store.store import Store

    config = load_config(args.overrides, config_folder_argument(args))
    plan = build_plan(config)
    check_methods(plan.trials)
    store = Store(config.store.root)
    estimator = Estimator(store, plan.trials)
    console = terminal()
    console.print(
        f"{config.name}: {counted(len(plan.trials), 'trial')} on {plan.dataset.root}", soft_wrap=True, highlight=False
    )
    if config.costs_only:
        methods = len({trial.method.name for trial in plan.trials})
        console.print(
            f"costs_only=true: `run` measures the costs of {counted(methods, 'method')}, and runs no trial.",
            highlight=False,
        )
        return 0
    console.print(_splits_table(plan))
    console.print(_trials_table(plan, store, estimator))
    missing = [trial for trial in plan.trials if store.result(trial.ids) is None]
    console.print(
        f"{len(missing)} of {len(plan.trials)} trials {'is' if len(missing) == 1 else 'are'} still to run.",
        highlight=False,
    )
    to_measure = [trial for trial in missing if _state(trial, store) == TO_MEASURE]
    if to_measure:
        console.print(
            f"{len(to_measure)} of them are trained: they are only measured, by other rules.", highlight=False
        )
    missing = [trial for trial in missing if trial not in to_measure]
    known = [seconds for trial in missing if (seconds := estimator.seconds(trial)) is not None]
    if known:
        console.print(
            f"Estimate for {len(known)} of them, one at a time: {counted(round(sum(known) / 60), 'minute')}.",
            highlight=False,
        )
    if len(known) < len(missing):
        unknown = sorted({trial.method.name for trial in missing if estimator.seconds(trial) is None})
        named = ", ".join(unknown) if len(unknown) <= 8 else f"{len(unknown)} methods"
        console.print(
            f"No estimate for {named}: no such trial has finished in {store.root} yet.",
            soft_wrap=True,
            highlight=False,
        )
    return 0


def _state(trial: TrialSpec, store: Store) -> str:
    """Of a trial that has no result by these words."""
    state = store.status(trial.id).state
    return TO_MEASURE if state == "done" else state


def _splits_table(plan: Plan) -> Table:
    from rich.table import Table

    table = Table("split", title="Splits (images)", title_justify="left")
    for column in ("train", "validation", "test"):
        table.add_column(column, justify="right")
    corrupted = {trial.split.name: sum(len(keys) for _, keys in trial.corrupted()) for trial in plan.trials}
    if any(corrupted.values()):
        table.add_column("corrupted", justify="right")
    table.add_column("held out")
    for split in plan.splits:
        counts = [str(len(keys)) for keys in (split.train, split.validation, split.test)]
        if any(corrupted.values()):
            counts.append(str(corrupted.get(split.name, 0)))
        table.add_row(split.name, *counts, ", ".join(split.held_out) or "no domain: tested in training domains")
    return table


def _trials_table(plan: Plan, store: Store, estimator: Estimator) -> Table:
    from rich.table import Table

    table = Table("method", "split", title="Trials", title_justify="left")
    table.add_column("seed", justify="right")
    table.add_column("state")
    table.add_column("estimate", justify="right")
    table.add_column("id")
    for trial in plan.trials:
        done = store.result(trial.ids) is not None
        state = "done" if done else _state(trial, store)
        seconds = None if done or state == TO_MEASURE else estimator.seconds(trial)
        estimate = "" if seconds is None else f"{seconds:.0f} s"
        table.add_row(trial.method.name, trial.split.name, str(trial.seed), state, estimate, trial.id[:12])
    return table
