"""`sweep`: searches hyperparameters of one method, blind to the test domain, and says honestly what that is worth."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.common import add_config_arguments, config_folder_argument, terminal
from harness.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from harness.search.ray_search import ConfigurationResult, Search
    from harness.search.sweep import Outcome, SweepPlan

_DESCRIPTION = """\
Searches hyperparameters of one method by validation Dice on training domains, averaged over the folds of the suite's
protocol; sweep=NAME is the search space, `list sweeps` shows them. Nested searches measure what the search is worth:
each fold's parameters are chosen without the domain that the fold tests on.
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "sweep", help="search hyperparameters of a method, blind to the test domain", description=_DESCRIPTION
    )
    add_config_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:

    from harness.config.loading import load_config
    from harness.config.yaml_tree import option_names
    from harness.planning.plan import build_plan
    from harness.search.sweep import SearchFailed, plan_sweep, run_sweep
    from harness.store.store import Store
    from reports.search.page import build_search_report

    console = terminal(stderr=True)
    folder = config_folder_argument(args)
    config = load_config(args.overrides, folder)
    if not config.sweep.parameters:
        raise UserError(
            f"Which search? Add sweep=NAME, for example sweep=learning_rate.{did_you_mean('', option_names('sweep', folder))}"
        )
    store = Store(config.store.root)
    store.prepare()
    with store.exclusive():
        plan = plan_sweep(config, build_plan(config))
        _tell_plan(plan, console)
        try:
            outcome = run_sweep(plan, store, _command(args), _printer(console))
        except SearchFailed as error:
            print(f"The search found nothing. {error}", file=sys.stderr)
            return 1
    page = build_search_report(plan.folder)
    _conclude(outcome, plan, terminal())
    console.print(f"Report: {page}", soft_wrap=True, highlight=False, markup=False)
    return 0 if outcome.best is not None else 1


def _command(args: argparse.Namespace) -> list[str]:
    folder = ["--config-dir", str(args.config_dir)] if args.config_dir else []
    return ["python", "-m", "harness", "sweep", *folder, *args.overrides]


def _tell_plan(plan: SweepPlan, console: Any) -> None:
    sweep, folds = plan.config.sweep, plan.folds()
    if plan.config.data.root is None:
        console.print("No data.root given: the bench draws phantoms. data.root=/your/data uses real images.")
    trials = "all" if sweep.budget.trials is None else sweep.budget.trials
    console.print(
        f"{sweep.name}: {plan.trials[0].method.name}, {len(plan.space)} parameters, {trials} configurations"
        f" ({sweep.sampler}, {sweep.scheduler}), {len(folds)} folds of {plan.epochs} epochs.",
        soft_wrap=True, highlight=False, markup=False,
    )  # fmt: skip
    if sweep.scheduler == "asha" or sweep.sampler == "optuna":
        console.print(
            "Searches decide by who reports first where several configurations run at a time; executor=serial repeats to"
            " the bit.",
            soft_wrap=True, highlight=False, markup=False,
        )  # fmt: skip


def _printer(console: Any) -> Any:
    """A listener that prints a line when a search begins and when a configuration ends."""
    from harness.search.ray_search import SearchProgress

    class Printer(SearchProgress):
        def begin(self, search: str, total: int | None) -> None:
            self.ended, self.total = 0, total
            self._line(f"search on {search}: {total} configurations")

        def end(self, attempt: ConfigurationResult, epochs: int) -> None:
            self.ended += 1
            dice = attempt.history[-1][1] if attempt.history else float("nan")
            time = attempt.history[-1][0] if attempt.history else 0
            name = "default" if attempt.number == 0 else shown(attempt.values)
            reason = f" ({attempt.reason})" if attempt.reason else ""
            place = f"{self.ended}/{self.total}"
            self._line(f"  {place:>6}  {attempt.state:<10} {dice:.3f} after {time}/{epochs} epochs  {name}{reason}")

        def _line(self, text: str) -> None:
            console.print(text, soft_wrap=True, highlight=False, markup=False)

    return Printer()


def shown(values: dict[str, Any]) -> str:
    """`learning_rate=0.00123 schedule=cosine`."""
    return " ".join(
        f"{key.rpartition('.')[2]}={value:.3g}" if isinstance(value, float) else f"{key.rpartition('.')[2]}={value}"
        for key, value in values.items()
    )


def _conclude(outcome: Outcome, plan: SweepPlan, console: Any) -> None:
    def line(text: str) -> None:
        console.print(text, soft_wrap=True, highlight=False, markup=False)

    searches = [fold.search for fold in outcome.folds]
    if outcome.overall is not None and outcome.overall not in searches:
        searches.append(outcome.overall)
    for search in searches:
        _tell_states(search, line)
    best, default = outcome.best_attempt, outcome.default_objective
    if best is None or best.objective is None:
        line(
            "The budget ended before any configuration was done on all folds. The same command with a larger one goes on."
        )
        return
    summary = "unknown, the budget ended before" if default is None else f"{default:.4f}"
    line(f"Validation Dice over {len(outcome.folds)} folds: best {best.objective:.4f}, default {summary}")
    if outcome.beats_default:
        line(f"Best {'member, at its end' if best.schedule else 'configuration'}: {shown(best.values)}")
    elif outcome.beats_default is False:
        line("The search did not beat the default: keep it.")
    for fold in outcome.folds:
        if fold.test_dice is None:
            line(f"  {fold.name}: no choice, the budget ended before")
            continue
        choice = "default" if fold.choice == 0 else shown(fold.search.best.values) if fold.search.best else ""
        line(f"  {fold.name}: test Dice {fold.test_dice:.4f}, default {fold.default_test_dice:.4f}  chosen: {choice}")
    if outcome.score is not None:
        (value, low, high), (plain, _, _) = outcome.score.difference, outcome.score.default
        interval = "" if low is None or high is None else f" [{low:+.4f}, {high:+.4f}]"
        line(
            f"Unseen Dice with parameters chosen without the test domain: {outcome.score.tuned[0]:.4f}, default {plain:.4f},"
            f" difference {value:+.4f}{interval}"
        )
    if outcome.tuned:
        line(f"Written: {outcome.tuned}")
    if outcome.tuned and best.schedule is None:
        line(_how_to_use(outcome, plan))


def _how_to_use(outcome: Outcome, plan: SweepPlan) -> str:
    words, name = list(outcome.command[4:]), Path(str(outcome.tuned)).stem
    if words[:1] == ["--config-dir"]:
        return f"To use it, copy it to {words[1]}/method/ and choose method={name}."
    kept = [word for word in words if word.lstrip("+").partition("=")[0].split(".")[0] not in ("sweep", "method")]
    folder = plan.folder / "configs"
    choice = f"method={outcome.method.partition('+')[0]},{name}"
    return f"To use it: {shlex.join(['python', '-m', 'harness', 'run', '--config-dir', str(folder), choice, *kept])}"


def _tell_states(search: Search, line: Any) -> None:
    counts = Counter(attempt.state for attempt in search.attempts)
    summary = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    ended = f"; {search.ended}" if search.ended else ""
    line(f"Search on {search.title}: {summary} in {search.seconds:.0f} s{ended}")
