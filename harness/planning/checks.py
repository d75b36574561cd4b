"""Checks of a plan's methods before anything runs."""

from __future__ import annotations

from harness.errors import UserError
from harness.methods.trainer import check_usable
from harness.trial_spec import TrialSpec


def _check_trainer(trial: TrialSpec) -> None:
    """Of a method whose training is a command.

    Raises:
        UserError: its package or program is missing, or the run asks for what only methods inside the bench can do.
    """
    trainer, name = trial.method.outside, trial.method.name
    if trial.selection == "oracle":
        raise UserError(
            f"Method '{name}' is trained by a program of its own, which gets no test masks: training.selection=oracle is"
            " not for it."
        )
    if trial.corruptions is not None:
        raise UserError(
            f"Method '{name}' is trained and run by a program of its own: protocol=corruptions, which corrupts images batch"
            " by batch, is not for it. Corrupt a copy of the data (`data corrupt`) and run another protocol on that."
        )
    check_usable(name, trainer)


def check_methods(trials: list[TrialSpec]) -> None:
    """Builds each method once and throws it away.

    Raises:
        UserError: methods that can't be built, or a rule that needs validation images where a split has none.
    """
    from harness.methods.building import build_method, check_adaptation, check_changes_no_training

    faults = []
    for trial in {trial.method.name: trial for trial in reversed(trials)}.values():
        try:
            spec = trial.method
            if spec.trainer is not None:
                _check_trainer(trial)
                continue
            method = build_method(spec.name, spec.model, trial.modalities, prompt=spec.prompt)
            check_adaptation(spec.name, method, spec.card)
            if spec.alone is not None:
                check_changes_no_training(spec.name, method)
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
