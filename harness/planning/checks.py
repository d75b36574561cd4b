"""Checks of a plan's methods before anything runs."""

from __future__ import annotations

from harness.errors import UserError
from harness.trial_spec import TrialSpec


def check_methods(trials: list[TrialSpec]) -> None:
    """Builds each method once and throws it away.

    Raises:
        UserError: methods that can't be built, or a rule that needs validation images where a split has none.
    """
    from harness.methods.building import build_method, check_adaptation

    faults = []
    for trial in {trial.method.name: trial for trial in reversed(trials)}.values():
        try:
            spec = trial.method
            method = build_method(spec.name, spec.model, trial.modalities, prompt=spec.prompt)
            check_adaptation(spec.name, method, spec.card)
        except UserError as error:
            faults.append(str(error))
    for trial in trials:
        if not trial.split.validation and trial.selection != "last":
            faults.append(
                f"Split {trial.split.name} has no validation images: its training domains hold too few images"
                " or subjects. Give more (data.max_per_domain), or use training.selection=last."
            )
            break
    if faults:
        raise UserError("\n".join(faults))
