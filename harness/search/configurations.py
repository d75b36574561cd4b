"""Configurations: what a search changes of a method, as ordinary trials and as a method's YAML."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from typing import Any

from harness.config import TrainingConfig, training_for_method
from harness.errors import UserError, did_you_mean
from harness.files import sha256_json
from harness.search.space import Parameter
from harness.trial_spec import TrialSpec, files_in

Values = dict[str, Any]
"""Key -> value of every parameter of the space."""

# They decide how long and by what a configuration is judged, or which bits come out, not how good it is.
_NOT_SEARCHED = {
    "epochs": "configurations are compared at equal budgets",
    "selection": "it decides what the validation Dice is taken from",
    "cpu_threads": "it changes no number that a search could tell apart",
}


def key_of(values: Mapping[str, Any]) -> str:
    """A short name of a configuration, equal for equal values."""
    return sha256_json(dict(values))[:12]


def tuned_name(method: str) -> str:
    """The method that the searched configurations are trials of; `+` and `@` of crossed methods can't be in a YAML's name."""
    return f"{method.replace('+', '_').replace('@', '_')}_tuned"


def default_values(trial: TrialSpec, space: Sequence[Parameter]) -> Values:
    """What the method has without a search.

    Raises:
        UserError: a parameter that is no setting of this method.
    """
    found = {}
    for parameter in space:
        branch = _branch(trial, trial.method.model, parameter.key)
        found[parameter.key] = branch[_last(parameter.key)]
    return found


def configured(trial: TrialSpec, space: Sequence[Parameter], values: Mapping[str, Any]) -> TrialSpec:
    """The trial with these values. The default's is the method's own trial, others are `<method>_tuned`'s.

    Raises:
        UserError: a value of a wrong type or out of its range.
    """
    if dict(values) == default_values(trial, space):
        return trial
    model, training = copy.deepcopy(trial.method.model), dict[str, Any]()
    for key, value in values.items():
        if _is_training(key):
            training[_last(key)] = value
        else:
            _branch(trial, model, key)[_last(key)] = value
    name = trial.method.name
    method = replace(trial.method, name=tuned_name(name), model=model, files=files_in(model))
    return replace(trial, method=method, training=training_for_method(trial.trained, name, training))


def check_space(trial: TrialSpec, space: Sequence[Parameter]) -> None:
    """Tries the values of each parameter (of ranges: the ends) on the default configuration, and builds the models.

    Raises:
        UserError: a key that is no setting of the method, a value that it can't have.
    """
    from harness.methods.building import build_method

    default = default_values(trial, space)
    for parameter in space:
        for value in parameter.samples():
            try:
                method = configured(trial, space, {**default, parameter.key: value}).method
                if not _is_training(parameter.key):
                    build_method(method.name, method.model, trial.modalities, prompt=method.prompt)
            except UserError as error:
                raise UserError(f"sweep parameter {parameter.key}: {parameter.kind} has {value!r}. {error}") from error


def method_yaml(
    method: Mapping[str, Any],
    trial: TrialSpec,
    space: Sequence[Parameter],
    values: Mapping[str, Any],
    comments: Sequence[str],
) -> str:
    """The configuration as `method/<method>_tuned.yaml`, for `--config-dir`.

    Args:
        method: the method's own parts, for its `training:`.
        trial: one of the method's own trials.
        comments: lines that say where it comes from.
    """
    import yaml

    spec = configured(trial, space, values).method
    changes = {_last(key): value for key, value in values.items() if _is_training(key)}
    content = {
        "card": {**spec.card, "title": f"{spec.title}, tuned"},
        "version": spec.version,
        "model": spec.model,
        "training": {**(method.get("training") or {}), **changes},
    }
    head = [f"# @package methods.{tuned_name(trial.method.name)}", *(f"# {line}" for line in comments)]
    return "\n".join(head) + "\n" + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)


def _is_training(key: str) -> bool:
    return key.split(".")[-2:-1] == ["training"]


def _last(key: str) -> str:
    return key.rpartition(".")[2]


def _branch(trial: TrialSpec, model: dict[str, Any], key: str) -> dict[str, Any]:
    """The part of a trial's settings that holds a parameter's value; of `model`, its method's, the very dictionary.

    `training.x`, `methods.<name>.training.x`, `methods.<name>.model.x` and `algorithms.<name>.model.x`.
    """
    name, _, algorithm = trial.method.name.partition("@")[0].partition("+")
    training = asdict(trial.trained)
    branches = {"training": training, f"methods.{name}.training": training}
    branches[f"methods.{name}.model"] = model["method"] if algorithm else model
    if algorithm:
        branches[f"algorithms.{algorithm}.model"] = model
    prefix, last = key.rpartition(".")[0], _last(key)
    known = [f"{start}.{item}" for start, branch in branches.items() for item in _settings(branch)]
    if prefix not in branches or last not in _settings(branches[prefix]):
        reason = _NOT_SEARCHED.get(last)
        if reason is not None and prefix in branches:
            raise UserError(f"sweep parameter {key} can't be searched: {reason}.")
        raise UserError(
            f"sweep parameter '{key}' is no setting of method {trial.method.name}.{did_you_mean(key, known)}"
            f" A setting that its YAML does not have is added by a word such as +methods.{name}.model.width=8."
        )
    return branches[prefix]


def _settings(branch: Mapping[str, Any]) -> list[str]:
    """The names in a branch that hold a single value."""
    hidden = {"_target_", "_partial_", "method", *_NOT_SEARCHED}
    names = [name for name in branch if name not in hidden]
    if set(branch) == {item.name for item in fields(TrainingConfig)}:
        return names
    return [name for name in names if not isinstance(branch[name], dict | list)]
