"""Running, planning and measuring from Python, by the words of the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.api.results import Results, load_results
from harness.cli.common import terminal
from harness.cli.evaluate import measure_external
from harness.cli.run import command_of, run_config, run_suite
from harness.config.extensions import load_extensions
from harness.errors import UserError
from harness.store.store import Store

if TYPE_CHECKING:
    import pandas as pd

    from harness.planning.plan import Plan


@dataclass(frozen=True)
class PlannedRun:
    """What `run` with the same words would do.

    Attributes:
        plan: the configuration, the dataset, the splits and the specs of all trials.
    """

    plan: Plan = field(repr=False)
    store: Path

    @property
    def splits(self) -> pd.DataFrame:
        """One row for each split: name, train, validation, test (numbers of images), held_out, fingerprint."""
        import pandas as pd

        rows = [
            {
                "name": split.name,
                "train": len(split.train),
                "validation": len(split.validation),
                "test": len(split.test),
                "held_out": ", ".join(split.held_out),
                "fingerprint": split.fingerprint,
            }
            for split in self.plan.splits
        ]
        return pd.DataFrame(rows)

    @property
    def trials(self) -> pd.DataFrame:
        """One row for each trial: method, fold, seed, done, estimate (seconds, NaN where none has finished yet), trial."""
        import pandas as pd

        from harness.planning.estimate import Estimator

        store = Store(self.store)
        estimator = Estimator(store, self.plan.trials)
        rows = [
            {
                "method": trial.method.name,
                "fold": trial.split.name,
                "seed": trial.seed,
                "done": store.result(trial.ids) is not None,
                "estimate": estimator.seconds(trial),
                "trial": trial.id,
            }
            for trial in self.plan.trials
        ]
        return pd.DataFrame(rows).astype({"estimate": float})


def plan(*words: str, config_dir: str | Path | None = None) -> PlannedRun:
    """Every split and trial that `run` with the same words would run. Runs nothing.

    >>> planned = plan("method=[otsu,mean_mask]", "protocol.max_folds=2", *small)
    >>> planned.trials[["method", "fold"]].values.tolist()
    [['otsu', 'fold0'], ['mean_mask', 'fold0'], ['otsu', 'fold1'], ['mean_mask', 'fold1']]

    Args:
        words: as after `python -m harness plan`.
        config_dir: a folder of your own YAML files.

    Raises:
        UserError: a mistake in the words, faulty data, or a protocol that does not fit them.
    """
    from harness.planning.checks import check_methods
    from harness.planning.plan import build_plan

    load_extensions()
    config = run_config(_checked(words), _folder(config_dir))
    found = build_plan(config)
    check_methods(found.trials)
    return PlannedRun(found, Store(config.store.root).root)


def run(*words: str, config_dir: str | Path | None = None, quiet: bool = False) -> Results:
    """Runs what the store lacks, measures costs, writes the report, and gives the results. Goes on where it stopped.

    A trial that fails or is stopped is a row of `trials` without a result, no exception: see `complete`.

    >>> results = run("method=otsu", "protocol.max_folds=1", "efficiency_seconds=0.1", *small, quiet=True)
    >>> results.complete, results.report.name
    (True, 'leaderboard.html')

    Args:
        words: as after `python -m harness run`.
        config_dir: a folder of your own YAML files.
        quiet: shows no progress.

    Raises:
        UserError: a mistake in the words, faulty data, or a store that can't be written.
    """
    load_extensions()
    given, folder = _checked(words), _folder(config_dir)
    config = run_config(given, folder)
    store = Store(config.store.root)
    store.prepare()
    with store.exclusive():
        finished = run_suite(config, store, command_of(given, folder), _console(quiet), None)
    return load_results(store.root, suite=finished.folder.parent.name, time=finished.folder.name)


def evaluate(
    predictions: str | Path, name: str, *words: str, config_dir: str | Path | None = None, quiet: bool = False
) -> Results:
    """Measures the masks of another tool and lets them join the newest run with the same splits.

    A domain with missing masks has no result: its trials are rows of `trials` without one.

    Args:
        predictions: their folder, laid out as `python -m harness evaluate --help` says.
        name: how tables call the tool.
        words: as after `python -m harness evaluate`; data.root=... is needed.
        config_dir: a folder of your own YAML files.
        quiet: shows no progress.

    Raises:
        UserError: a mistake in the words, or masks that can't be read or don't fit their images.
    """
    load_extensions()
    given = [f"predictions={predictions}", f"name={name}", *_checked(words)]
    measured = measure_external(given, _folder(config_dir), _console(quiet), None)
    return load_results(measured.store.root, suite=measured.folder.parent.name, time=measured.folder.name)


def _checked(words: Sequence[object]) -> list[str]:
    """The words of a command, each a text: `plan(["method=otsu"])` gives a list in their place."""
    for word in words:
        if not isinstance(word, str):
            raise UserError(
                f"Expected words such as 'method=otsu', each a text of its own, found {word!r:.100}."
                " Of a list of words write *words."
            )
    return [str(word) for word in words]


def _folder(given: str | Path | None) -> Path | None:
    from harness.config.yaml_tree import check_own_tree

    folder = None if given is None else Path(given)
    if folder is not None:
        check_own_tree(folder)
    return folder


def _console(quiet: bool) -> Any:
    console = terminal(stderr=True)
    console.quiet = quiet
    return console
