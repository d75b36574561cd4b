"""`run`: the main job. Runs what the store lacks of a suite, measures costs, writes the report."""

from __future__ import annotations

import argparse
import contextlib
import re
import shlex
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import __version__
from harness.cli.common import add_config_arguments, config_folder_argument, terminal
from harness.cli.logs import EVENTS, log_to_file, tell
from harness.errors import UserError, counted

if TYPE_CHECKING:
    from harness.config import RunConfig
    from harness.execution.executor import Outcome
    from harness.execution.trackers.follower import Follower
    from harness.planning.plan import Plan
    from harness.store.records import TrialEntry
    from harness.store.store import Store
    from harness.trial_spec import TrialIds, TrialSpec

# As a shell says it of a process that SIGTERM ended: 128 + 15.
TERMINATED = 143


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "run",
        help="run a suite and write its report; goes on where it stopped",
        description="Runs what the store lacks of a suite, measures costs, prints the leaderboard and writes the report.",
    )
    add_config_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from harness.store.store import Store

    folder = config_folder_argument(args)
    config = run_config(args.overrides, folder)
    store, command = Store(config.store.root), command_of(args.overrides, folder)
    store.prepare()
    with store.exclusive():
        finished = run_suite(config, store, command, terminal(stderr=True), terminal())
        return conclude(finished, store, command)


def run_config(overrides: list[str], extra: Path | None) -> RunConfig:
    """The configuration that the words name; `extra` is a folder of the user's own YAML files."""
    from harness.config.loading import load_config

    config = load_config(overrides, extra)
    # A suite may state its search; `run` leaves it alone.
    if any(re.match(r"\+*sweep[.=]", word) for word in overrides):
        raise UserError(
            "sweep=... is a search: use `python -m harness sweep` with the same words. `run` searches nothing."
        )
    return config


def command_of(overrides: list[str], extra: Path | None) -> list[str]:
    """The words that run this again."""
    folder = ["--config-dir", str(extra)] if extra else []
    return ["python", "-m", "harness", "run", *folder, *overrides]


@dataclass(frozen=True)
class FinishedRun:
    """What became of a run.

    Attributes:
        folder: in the store.
        plan: what it asked for.
        outcomes: of the trials that it ran.
        warnings: sentences about results that look wrong.
        stopped: SIGTERM ended it in order: whoever takes the machine away will not wait for a report, so there is none.
    """

    folder: Path
    plan: Plan
    outcomes: list[Outcome]
    warnings: list[str]
    stopped: bool


def run_suite(config: RunConfig, store: Store, command: list[str], console: Any, table: Any | None) -> FinishedRun:
    """Runs what the store lacks, measures costs and writes the report; the store is prepared and held.

    Args:
        console: where progress is shown.
        table: where the leaderboard is printed, if anywhere.
    """
    from harness.planning.plan import build_plan
    from harness.store.records import TrialEntry

    if config.data.root is None:
        console.print("No data.root given: the bench draws phantoms. data.root=/your/data uses real images.")
    plan = build_plan(config)
    return run_plan(plan, [TrialEntry.of(trial) for trial in plan.trials], store, command, console, table)


def run_plan(
    plan: Plan, entries: list[TrialEntry], store: Store, command: list[str], console: Any, table: Any | None
) -> FinishedRun:
    """As `run_suite`, of a plan; the report is of `entries`, which may list trials that the plan has no spec of."""
    from harness.planning.checks import check_methods

    config = plan.config
    # Asked once: at thousands of trials the checksums take their time.
    done = set() if config.reuse == "never" else {t.ids for t in plan.trials if store.result(t.ids) is not None}
    trials = [] if config.costs_only or config.reuse == "only" else _trials_to_run(plan, done)
    # Before anything is kept or discarded: a mistake in a method stops the run now, not when its first trial's turn comes.
    check_methods(trials)
    followers = _followers(config, store, plan)
    folder = store.start_suite(config.name, as_yaml(config), entries, command)
    with log_to_file(folder / "run.log"):
        EVENTS.info("delightsam-bench %s: %s", __version__, shlex.join(command))
        tell(console, f"{config.name}: {_announcement(plan, store, done)}")
        _tell_of_threads(trials, config, console)
        if config.reuse == "never":
            _discard(trials, store)
        outcomes = []
        try:
            outcomes = _execute(trials, config, store, command, console, followers)
        except UserError:
            # Data or store stop the run: what is finished still gets its report, where it can be written.
            if any(store.result(trial.ids) is not None for trial in plan.trials):
                with contextlib.suppress(UserError, OSError):
                    write_report(store, folder, console, table)
            raise
        stopped = any(outcome.state == "interrupted" for outcome in outcomes)
        ended = FinishedRun(folder, plan, outcomes, [] if stopped else _warnings(plan, store), stopped)
        for warning in ended.warnings:
            EVENTS.warning(warning)
        if not ended.stopped:
            if config.reuse != "only":
                _measure_costs(plan, store, console)
            write_report(store, folder, console, table, costs_only=config.costs_only)
        EVENTS.info("Stopped by SIGTERM." if ended.stopped else "Ended.")
    return ended


def _warnings(plan: Plan, store: Store) -> list[str]:
    return [
        f"{trial.label}: {warning}."
        for trial in plan.trials
        for warning in (store.result(trial.ids) or {}).get("warnings", [])
    ]


def _announcement(plan: Plan, store: Store, done: Collection[TrialIds]) -> str:
    if plan.config.costs_only:
        methods = len({trial.method.name for trial in plan.trials})
        return f"costs of {counted(methods, 'method')}; costs_only=true runs no trials"
    return f"{counted(len(plan.trials), 'trial')}, {sum(trial.ids in done for trial in plan.trials)} of them already in {store.root}"


def _tell_of_threads(trials: list[TrialSpec], config: RunConfig, console: Any) -> None:
    from harness.hardware import usable_cores

    threads = max((trial.trained.cpu_threads for trial in trials), default=1)
    if config.executor.address is None and threads > usable_cores():
        tell(
            console,
            f"Note: training.cpu_threads={threads}, and this machine has {usable_cores()} cores to give: threads will wait for"
            " each other. Fewer are faster here, but make other trials: their number is part of the numbers.",
        )


def _trials_to_run(plan: Plan, done: Collection[TrialIds]) -> list[TrialSpec]:
    """Each trial once: the same may stand under two names, such as one model of all modalities and one for the only one.

    Last come those that need no training once the method by itself is trained.
    """
    found: dict[TrialIds, TrialSpec] = {}
    for trial in plan.trials:
        if trial.ids not in done:
            found.setdefault(trial.ids, trial)
    trained_here = {trial.id for trial in found.values()}
    return sorted(found.values(), key=lambda trial: trial.alone_id in trained_here)


def _discard(trials: list[TrialSpec], store: Store) -> None:
    """`reuse=never`: forgets what the store has of these trials."""
    for trial in trials:
        with store.trial_lock(trial.id):
            store.discard_trial(trial.ids)


def _followers(config: RunConfig, store: Store, plan: Plan) -> list[Follower]:
    """The trackers that were asked for; their libraries are imported here, before anything runs."""
    if not config.trackers or config.costs_only or config.reuse == "only":
        return []
    from harness.execution.trackers import make_followers

    return make_followers(config.trackers, config.name, store, plan.trials)


def _execute(
    trials: list[TrialSpec],
    config: RunConfig,
    store: Store,
    command: list[str],
    console: Any,
    followers: Sequence[Follower] = (),
) -> list[Outcome]:
    from harness.execution import make_executor
    from harness.execution.progress import ProgressDisplay
    from harness.planning.datasets import cache_folder
    from harness.trial import TrialContext

    context = TrialContext(
        store_root=str(store.root),
        cache_folder=str(cache_folder(config)),
        predictions=config.store.predictions,
        keep_weights=config.store.keep_weights,
        checkpoint_seconds=config.store.checkpoint_seconds,
        take_over=config.reuse != "never" and config.store.keep_weights,
        command=tuple(command),
    )
    with contextlib.ExitStack() as stack:
        for follower in followers:
            stack.enter_context(follower)  # even with nothing to run it makes up for what a killed driver left
        if not trials:
            return []
        executor = make_executor(config.executor)
        progress = stack.enter_context(ProgressDisplay(len(trials), console, followers))
        return executor.run(trials, context, progress)


def _measure_costs(plan: Plan, store: Store, console: Any) -> None:
    """Parameters, MACs and speed of each method once, after the trials, when the machine is idle."""
    from harness.efficiency.costs import measure_missing_costs

    for line in measure_missing_costs(plan, store):
        tell(console, line)


def write_report(
    store: Store, folder: Path, console: Any, table: Any | None = None, *, costs_only: bool = False
) -> None:
    """Writes the report of the run in `folder`; its table is the command's result, so it goes to standard output."""
    from reports.build import build_report

    paths = build_report(store.root, folder, folder / "report")
    if table is not None:
        (paths.print_costs if costs_only else paths.print_table)(table)
    tell(console, paths.words)


def conclude(finished: FinishedRun, store: Store, command: list[str]) -> int:
    """Says on standard error what did not go well, and how to go on; gives the exit code."""
    if finished.stopped:
        print(
            "\nStopped by SIGTERM. What is finished is kept, running trials kept their state. To go on:",
            file=sys.stderr,
        )
        print(f"  {shlex.join(command)}", file=sys.stderr)
        return TERMINATED
    for warning in finished.warnings:
        print(f"Warning: {warning}", file=sys.stderr)
    failed = [outcome for outcome in finished.outcomes if outcome.state != "done"]
    if not failed:
        return 0
    print(f"{len(failed)} {'trial' if len(failed) == 1 else 'trials'} failed:", file=sys.stderr)
    for outcome in failed:
        print(f"  {outcome.trial.label}: {outcome.reason}", file=sys.stderr)
        details = store.trial_folder(outcome.trial.id) / "error.txt"
        if details.exists():
            print(f"    traceback: {details}", file=sys.stderr)
    print(f"The others are kept. To try again: {shlex.join(command)}", file=sys.stderr)
    return 1


def as_yaml(config: RunConfig) -> str:
    from dataclasses import asdict

    import yaml

    return yaml.safe_dump(asdict(config), sort_keys=False, allow_unicode=True)
