"""Which run or trial of a store is meant."""

from __future__ import annotations

from pathlib import Path

from harness.errors import UserError, did_you_mean
from harness.store.store import Store
from harness.trial_spec import TrialIds


def find_trial(store: Store, prefix: str) -> str:
    """The id that begins with `prefix`.

    Raises:
        UserError: none does, or several do.
    """
    ids = store.trial_ids()
    found = [trial_id for trial_id in ids if trial_id.startswith(prefix)]
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(trial_id[:12] for trial_id in found[:4])
        raise UserError(f"'{prefix}' begins {len(found)} trials of {store.root}: {listed} ... Give more of the id.")
    raise UserError(
        f"Expected a weights file (.safetensors) or the id of a trial in {store.root}, found '{prefix}', which is neither"
        f" ({len(ids)} trials there). `python -m harness plan` shows ids; --method NAME takes the latest run's best one."
    )


def best_trial(store: Store, method: str | None) -> tuple[str, str]:
    """The trial of the latest run that has finished trials of `method`: the one with the best validation Dice.

    Returns:
        Its id, and why it was taken.

    Raises:
        UserError: no run has a finished trial of it; names the methods that have.
    """
    available: set[str] = set()
    for suite in reversed(store.suites()):
        done = [entry for entry in suite.trials if store.result(entry.ids) is not None]
        available |= {entry.method for entry in done}
        chosen = [entry.ids for entry in done if entry.method == method]
        if chosen:
            scores = {ids: _validation_dice(store, ids) for ids in chosen}
            best = max(chosen, key=lambda ids: scores[ids]).training
            why = f"the best of {len(chosen)} by validation Dice" if len(chosen) > 1 else "the only one finished"
            return best, f"{why} of {method} in {suite.name} {suite.time}"
    where = f"in {store.root}"
    if not available:
        raise UserError(f"There is no finished trial {where}. Run a suite first, or name its store: --store DIR.")
    if method is None:
        raise UserError(
            f"Give a trial's id, a weights file, or --method. Finished {where}: {', '.join(sorted(available))}."
        )
    raise UserError(f"There is no finished trial of '{method}' {where}.{did_you_mean(method, available)}")


def _validation_dice(store: Store, ids: TrialIds) -> float:
    """Mean over a domain's images, then over domains; -1 without validation images. Never looks at test images."""
    samples = store.load(ids).samples
    assert samples is not None
    validation = samples[samples["role"] == "validation"]
    if validation.empty:
        return -1.0
    return float(validation.groupby(["modality", "domain"])["dice"].mean().mean())


def find_run(store: Store, suite: str | None = None) -> Path:
    """The folder of the newest run (of the suite).

    Raises:
        UserError: there is none; says where it looked and what is there.
    """
    runs = run_folders(store)
    if not store.root.exists():
        raise UserError(
            f"There is no store at {store.root}. Name the one that the run writes: store.root=/path/to/runs (a relative"
            " path starts at the folder that the run was started in)."
        )
    if not runs:
        raise UserError(
            f"The store {store.root} has no run yet: expected {store.root / 'suites'}/<suite>/<time>. A run that has just"
            " been started first checks its data. Another store: store.root=/path/to/runs"
        )
    if suite is None:
        return runs[-1]
    chosen = [folder for folder in runs if folder.parent.name == suite]
    if not chosen:
        names = {folder.parent.name for folder in runs}
        raise UserError(f"The store {store.root} has no run of a suite '{suite}'.{did_you_mean(suite, names)}")
    return chosen[-1]


def run_folders(store: Store) -> list[Path]:
    """The folders of all runs, oldest first."""
    found = [path.parent for path in (store.root / "suites").glob("*/*/trials.json")]
    return sorted(found, key=lambda folder: (folder.name, folder.parent.name))
