"""`sweep`: searches hyperparameters, blind to the test domain, and says honestly what that is worth.

Of one method: a page about the search. Of several: each is searched by itself, and a run of all with what was chosen.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.common import add_config_arguments, config_folder_argument, terminal
from harness.errors import UserError, counted, did_you_mean

if TYPE_CHECKING:
    from harness.config import RunConfig
    from harness.planning.plan import Plan
    from harness.search.ray_search import ConfigurationResult, Search
    from harness.search.sweep import Outcome, SweepPlan
    from harness.search.tuned_run import Choices, TunedRunPlan
    from harness.store.store import Store

_DESCRIPTION = """\
Searches hyperparameters of one method by validation Dice on training domains, averaged over the folds of the suite's
protocol; sweep=NAME is the search space, `list sweeps` shows them. Nested searches measure what the search is worth:
each fold's parameters are chosen without the domain that the fold tests on.

With several methods each is searched by itself, with the first of the seeds. Then all are run with every seed and with what
each fold's own search chose, and stand in one report, as after `run`. Methods that learn nothing by epochs take part as they are.
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "sweep", help="search hyperparameters of methods, blind to the test domain", description=_DESCRIPTION
    )
    add_config_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:

    from harness.config.loading import load_config
    from harness.config.yaml_tree import option_names
    from harness.planning.plan import build_plan
    from harness.search.sweep import SearchFailed, plan_sweep, run_sweep
    from harness.store.store import Store
    from reports.page.search.page import build_search_report

    console = terminal(stderr=True)
    folder = config_folder_argument(args)
    config = load_config(args.overrides, folder)
    if not config.sweep.parameters:
        if any(word.startswith("sweep=") for word in args.overrides):
            raise UserError(
                f"sweep={config.sweep.name}: its file has no parameters to search. Expected for example\nparameters:\n"
                "  training.learning_rate: {log_uniform: [1.0e-4, 1.0e-2]}"
            )
        raise UserError(
            f"Which search? Add sweep=NAME, for example sweep=learning_rate.{did_you_mean('', option_names('sweep', folder))}"
        )
    store = Store(config.store.root)
    store.prepare()
    with store.exclusive():
        asked = build_plan(config)
        if len({trial.method.name for trial in asked.trials}) > 1:
            return _run_tuned(asked, store, _command(args), console)
        plan = plan_sweep(config, asked)
        _tell_data(config, console)
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


def _run_tuned(asked: Plan, store: Store, command: list[str], console: Any) -> int:
    """Searches each method, then runs all with what was chosen; gives the exit code."""
    from harness.cli.run import conclude, run_plan
    from harness.search.tuned_run import plan_tuned_run, search_all, tuned_trials
    from reports.page.search.page import build_search_report

    def end(plan: SweepPlan, outcome: Outcome | None) -> None:
        if outcome is not None:
            _line(console, f"  {plan.trials[0].method.name}: {build_search_report(plan.folder)}")

    tuned = plan_tuned_run(asked.config, asked)
    _tell_data(asked.config, console)
    for name, why in tuned.untuned.items():
        _line(console, f"{name} takes part as it is: it {why}.")
    choices = search_all(tuned, store, command, _printer(console), lambda plan: _tell_plan(plan, console), end)
    plan, entries = tuned_trials(tuned, choices)
    if not any(trial.method.name in choices for trial in plan.trials):
        _tell_missing(choices)
        print("No search chose anything, so nothing is run.", file=sys.stderr)
        return 1
    finished = run_plan(plan, entries, store, command, console, terminal())
    if not finished.stopped:
        _tell_choices(tuned, choices, terminal())
    code = conclude(finished, store, command)
    return max(code, _tell_missing(choices))


def _tell_choices(tuned: TunedRunPlan, choices: Choices, console: Any) -> None:
    """What each method's search chose for each fold, with the choice's validation Dice."""
    _line(
        console,
        f"Chosen by nested search, seed {tuned.plan.config.seeds[0]}, by validation Dice on the fold's training domains:",
    )
    for name, folds in choices.items():
        chosen = "; ".join(
            f"{fold} nothing" if choice.missing else f"{fold} {shown(choice.values)} ({choice.dice:.3f})"
            for fold, choice in folds.items()
        )
        tried = max(choice.configurations for choice in folds.values())
        _line(console, f"  {name}: {chosen}; {tried} configurations a fold")
    for name in tuned.untuned:
        _line(console, f"  {name}: not searched")


def _tell_missing(choices: Choices) -> int:
    """Names the folds without a choice on standard error; 1 where there is one, else 0."""
    missing = [
        f"  {name} {fold}: {choice.missing}"
        for name, folds in choices.items()
        for fold, choice in folds.items()
        if choice.missing
    ]
    if missing:
        print("Without a choice, and so without a result:", *missing, sep="\n", file=sys.stderr)
    return int(bool(missing))


def _line(console: Any, text: str) -> None:
    console.print(text, soft_wrap=True, highlight=False, markup=False)


def _command(args: argparse.Namespace) -> list[str]:
    folder = ["--config-dir", str(args.config_dir)] if args.config_dir else []
    return ["python", "-m", "harness", "sweep", *folder, *args.overrides]


def _tell_data(config: RunConfig, console: Any) -> None:
    if config.data.root is None:
        console.print("No data.root given: the bench draws phantoms. data.root=/your/data uses real images.")


def _tell_plan(plan: SweepPlan, console: Any) -> None:
    sweep, folds = plan.config.sweep, plan.folds()
    trials = "all" if sweep.budget.trials is None else sweep.budget.trials
    console.print(
        f"{sweep.name}: {plan.trials[0].method.name}, {counted(len(plan.space), 'parameter')}, {trials} configurations"
        f" ({sweep.sampler}, {sweep.scheduler}), {counted(len(folds), 'fold')} of {counted(plan.epochs, 'epoch')}.",
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
    line(f"Validation Dice over {counted(len(outcome.folds), 'fold')}: best {best.objective:.4f}, default {summary}")
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
