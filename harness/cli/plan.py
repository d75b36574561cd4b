"""`plan`: every trial of a run and what it will take, before anything is spent."""

from __future__ import annotations

import argparse

from harness.cli.common import add_config_arguments, config_folder_argument


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("plan", help="show every trial of a run and an estimate, and run nothing")
    add_config_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table

    from harness.config import load_config
    from harness.estimate import Estimator
    from harness.store import Store
    from harness.suite import build_suite

    config = load_config(args.overrides, config_folder_argument(args))
    suite = build_suite(config)
    store = Store(config.store.root)
    console = Console()
    table = Table(title=f"{config.name}: {len(suite.trials)} trials on {suite.dataset.root}")
    for column in ("method", "split", "seed", "train", "validation", "test", "held out", "state", "id"):
        table.add_column(column, justify="right" if column in ("seed", "train", "validation", "test") else "left")
    missing = []
    for trial in suite.trials:
        done = store.result(trial.id) is not None
        if not done:
            missing.append(trial)
        split = trial.spec["split"]
        counts = [str(len(split[role])) for role in ("train", "validation", "test")]
        held_out = ", ".join(name.split("/", 1)[1] for name in split["held_out"])
        state = "done" if done else store.status(trial.id)["state"]
        table.add_row(trial.method, split["name"], str(trial.spec["seed"]), *counts, held_out, state, trial.id[:12])
    console.print(table)
    estimator = Estimator(store)
    estimates = [estimator.seconds(trial) for trial in missing]
    known = [seconds for seconds in estimates if seconds is not None]
    console.print(f"{len(missing)} of {len(suite.trials)} trials are still to run.")
    if missing and len(known) == len(missing):
        console.print(f"Estimate from finished trials in this store: {sum(known) / 60:.0f} minutes, one at a time.")
    elif missing:
        console.print(
            f"No estimate for {len(missing) - len(known)} of them: no trial of their method has finished in {store.root} yet."
        )
    return 0
