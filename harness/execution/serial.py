"""One trial after another, in this process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from harness.config import ExecutorConfig
from harness.errors import StopExpired, UserError
from harness.execution.executor import Outcome
from harness.execution.graceful_stop import GracefulStop
from harness.execution.progress import ProgressDisplay
from harness.trial import TrialContext, run_trial
from harness.trial_spec import TrialSpec


class SerialExecutor:
    """Needs no Ray; the device is the first GPU, or the CPU where there is none."""

    def __init__(self, config: ExecutorConfig) -> None:
        self.device = local_device(config.device)
        self.drain_seconds = config.drain_seconds

    def run(self, trials: Sequence[TrialSpec], context: TrialContext, progress: ProgressDisplay) -> list[Outcome]:
        context, stop = replace(context, device=self.device), GracefulStop(self.drain_seconds)
        outcomes: list[Outcome] = []
        try:
            with stop.on_sigterm(interrupt=True):
                for trial in trials:
                    if stop.asked.is_set():
                        break
                    outcomes.append(_run(trial, context, progress, stop))
        except StopExpired:
            pass
        rest = trials[len(outcomes) :]
        return outcomes + [Outcome(trial, "interrupted", "stopped before its end") for trial in rest]


def _run(trial: TrialSpec, context: TrialContext, progress: ProgressDisplay, stop: GracefulStop) -> Outcome:
    progress.start(trial.id, trial.label)
    status = run_trial(
        trial,
        context,
        lambda epoch: progress.update(trial.id, epoch),
        stop.asked.is_set,
    )
    progress.end(trial.id, status["state"], status["reason"])
    return Outcome(trial, status["state"], status["reason"])


def local_device(wanted: str) -> str:
    """`auto` -> cuda where there is one, else cpu.

    Raises:
        UserError: cuda was asked for and is not there.
    """
    import torch

    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise UserError("executor.device=cuda, but torch finds no GPU here. Use executor.device=auto or cpu.")
    return "cuda" if available and wanted != "cpu" else "cpu"
