"""One configuration, judged: its trials run fold after fold, and the running mean of their validation Dice is reported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from harness.search.curves import Curve, EpochLog, EpochScore
from harness.store.store import Store
from harness.training.epoch_result import EpochResult
from harness.trial import TrialContext, run_trial
from harness.trial_spec import TrialSpec


class _EndedBySearch(BaseException):
    """A report ended the configuration. `run_trial` lets it pass, where it takes SystemExit for the method's own."""


def evaluate_configuration(
    trials: Sequence[TrialSpec],
    context: TrialContext,
    epochs: int,
    folder: Path,
    report: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    """Runs what the store lacks of a configuration's trials, as ordinary trials, in their order.

    What is known of a trial is reported again without training: a search that is repeated, or another one that meets the same
    trial, goes through the same reports in no time.

    Args:
        epochs: of each trial.
        folder: the sweep's own, where the scores of unfinished trials are kept.
        report: called after each epoch with {time, objective}: the epochs done over all folds, and the mean over the folds
            so far of the validation Dice that the selection rule would choose. May raise SystemExit to stop early.

    Returns:
        {state: done | failed, objective, dice: [of each trial], reason}

    Raises:
        UserError: the data or the store is at fault.
    """
    store = Store(context.store_root)
    ended: list[float] = []
    for fold, trial in enumerate(trials):
        curve, log = Curve(trial.trained.selection), EpochLog(store, trial.ids, folder)

        def tell(score: EpochScore, curve: Curve = curve, fold: int = fold) -> None:
            curve.add(score)
            report({"time": fold * epochs + score.epoch, "objective": fmean([*ended, curve.value])})

        def hear(epoch: EpochResult | None, log: EpochLog = log) -> None:
            score = log.add(epoch) if epoch is not None else None
            if score is not None:
                try:
                    tell(score)
                except SystemExit as end:
                    raise _EndedBySearch from end

        for score in list(log.scores):
            tell(score)
        status = {"state": "done"} if log.finished else _run(store, trial, context, hear)
        if status["state"] != "done":
            reason = f"{trial.split.name}: {status['reason']}"
            return {"state": "failed", "objective": float("nan"), "dice": ended, "reason": reason}
        ended.append(curve.value)
        if len(log.scores) < epochs:
            # Out of patience: at the next fold's first epoch all configurations are at the same time again.
            report({"time": (fold + 1) * epochs, "objective": fmean(ended)})
    return {"state": "done", "objective": fmean(ended), "dice": ended, "reason": None}


def _run(
    store: Store, trial: TrialSpec, context: TrialContext, hear: Callable[[EpochResult | None], None]
) -> dict[str, Any]:
    try:
        return run_trial(trial, context, hear)
    except _EndedBySearch:
        # Ray Tune ends a configuration so, at a report. Its checkpoint stays: `run`, or a later search, goes on from it.
        store.write_status(trial.id, "interrupted", reason="stopped early by a hyperparameter search")
        raise SystemExit(0) from None
