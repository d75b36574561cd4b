"""`Executor`: runs trials somewhere, and knows nothing of metrics or plans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from harness.trial import TrialContext

if TYPE_CHECKING:
    from harness.execution.progress import ProgressDisplay
    from harness.trial_spec import TrialSpec


@dataclass(frozen=True)
class Outcome:
    """How a trial ended: `state` is done, failed or interrupted (by SIGTERM), `reason` the cause of what is not done."""

    trial: TrialSpec
    state: str
    reason: str | None


class Executor(Protocol):
    """Runs trials; results go to the store, never through here.

    Raises:
        UserError: data or store at fault, so that going on makes no sense.
    """

    def run(self, trials: Sequence[TrialSpec], context: TrialContext, progress: ProgressDisplay) -> list[Outcome]: ...
