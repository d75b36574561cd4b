"""Checks of a configuration: each value by its annotation in the schema, then what does not fit together."""

from __future__ import annotations

from dataclasses import asdict, fields, is_dataclass
from typing import Any

from harness.config.schema import RunConfig, TrainingConfig
from harness.config.validation import validated
from harness.errors import UserError


def all_keys(schema: Any = None, prefix: str = "") -> list[str]:
    """Every key of the schema: `["name", "data", "data.root", ...]`."""
    schema = RunConfig() if schema is None else schema
    keys: list[str] = []
    for item in fields(schema):
        value = getattr(schema, item.name)
        keys.append(prefix + item.name)
        if is_dataclass(value):
            keys += all_keys(value, f"{prefix}{item.name}.")
    return keys


def check_config(config: RunConfig) -> None:
    """Checks the values of a configuration, and what does not fit together.

    Raises:
        UserError: names the key, what is allowed and what was found.
    """
    validated(RunConfig, asdict(config))
    _check_image_size(config.training, "training")
    if config.protocol.pairs is not None and not isinstance(config.protocol.pairs, dict):
        raise UserError(
            f"protocol.pairs={config.protocol.pairs}: expected {{modality: {{seen: [domain, ...], unseen: [domain, ...]}}}}."
        )
    _check_corruptions(config)
    if not config.seeds or len(set(config.seeds)) != len(config.seeds):
        raise UserError(f"seeds={config.seeds}: expected at least one seed and none twice, for example seeds=[0,1,2].")
    if not config.methods:
        raise UserError(
            "No method was chosen: add for example 'method=[unet,otsu]'; `python -m harness list methods` shows all."
        )


def _check_corruptions(config: RunConfig) -> None:
    """Names are checked where the data are known: see harness/planning/corruptions.py."""
    names, severities = config.protocol.corruptions, config.protocol.severities
    if names is not None and config.protocol.name != "corruptions":
        raise UserError(
            f"protocol.corruptions={names} is read by protocol=corruptions alone, found protocol={config.protocol.name}."
        )
    if not severities or len(set(severities)) != len(severities) or not set(severities) <= {1, 2, 3, 4, 5}:
        raise UserError(
            f"protocol.severities={severities}: expected some of 1 to 5, none twice, for example protocol.severities=[1,3,5]."
        )


def training_for_method(training: TrainingConfig, method_name: str, changes: dict[str, Any]) -> TrainingConfig:
    """The preset with a method's own `training:` changes, checked against the same schema.

    Raises:
        UserError: a key the schema does not have, or a value that it does not take.
    """
    where = f"methods.{method_name}.training"
    merged = validated(TrainingConfig, {**asdict(training), **changes} if isinstance(changes, dict) else changes, where)
    _check_image_size(merged, where)
    return merged


def _check_image_size(training: TrainingConfig, where: str) -> None:
    if training.image_size % 32:
        below = max(32, training.image_size // 32 * 32)
        raise UserError(
            f"{where}.image_size={training.image_size} is no multiple of 32, which every network here needs."
            f" Use {below} or {below + 32}."
        )
