"""Checks of a configuration that types alone can't make: choices, ranges and what does not fit together."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_type_hints

from harness.config.schema import PROTOCOLS, SELECTION_RULES, TRACKERS, RunConfig, TrainingConfig
from harness.errors import UserError, did_you_mean

CHOICES: dict[str, tuple[str, ...]] = {
    "protocol.name": PROTOCOLS,
    "protocol.scope": ("universal", "per_modality", "both"),
    "protocol.missing": ("error", "skip"),
    "training.optimizer": ("adamw", "adam", "sgd"),
    "training.schedule": ("one_cycle", "cosine", "exponential", "constant"),
    "training.amp": ("off", "bfloat16", "float16", "auto"),
    "training.augmentation": ("none", "flips", "standard"),
    "training.sampling": ("proportional", "equal"),
    "training.batching": ("mixed", "single_modality", "domain_balanced"),
    "training.geometry": ("stretch", "letterbox", "tiles"),
    "training.selection": SELECTION_RULES,
    "metrics.empty": ("diagonal", "nan"),
    "executor.name": ("serial", "ray"),
    "executor.device": ("auto", "cpu", "cuda"),
    "reuse": ("missing", "never", "only"),
    "sweep.sampler": ("grid", "random", "optuna"),
    "sweep.scheduler": ("none", "asha", "pbt"),
}


# Inclusive lower and upper ends.
RANGES: dict[str, tuple[float, float]] = {
    "data.max_per_domain": (1, math.inf),
    "data.phantoms.images_per_domain": (2, 100_000),
    "data.phantoms.image_size": (64, 4096),
    "data.phantoms.seed": (0, math.inf),
    "protocol.max_folds": (1, math.inf),
    "protocol.validation_fraction": (0.01, 0.9),
    "protocol.test_fraction": (0.01, 0.9),
    "training.image_size": (32, 8192),
    "training.epochs": (1, math.inf),
    "training.batch_size": (1, math.inf),
    "training.accumulation": (1, math.inf),
    "training.learning_rate": (1e-12, 100.0),
    "training.weight_decay": (0.0, 10.0),
    "training.decay": (0.01, 1.0),
    "training.clip_norm": (1e-6, math.inf),
    "training.patience": (1, math.inf),
    "training.cpu_threads": (1, 1024),
    "metrics.nsd_tolerance": (0.0, math.inf),
    "store.checkpoint_seconds": (0.0, math.inf),
    "executor.gpus_per_trial": (0.0, 1.0),
    "executor.retries": (0, 1000),
    "executor.drain_seconds": (0.0, 86400.0),
    "efficiency_image_size": (32, 8192),
    "efficiency_seconds": (0.1, 3600.0),
    "sweep.budget.trials": (2, math.inf),
    "sweep.budget.hours": (1e-4, math.inf),
    "sweep.budget.gpu_hours": (1e-4, math.inf),
    "sweep.asha.grace_epochs": (1, math.inf),
    "sweep.asha.reduction_factor": (1.1, math.inf),
    "sweep.pbt.interval_epochs": (1, math.inf),
    "sweep.pbt.quantile": (0.01, 0.5),
    "sweep.seed": (0, math.inf),
}


_TYPES = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    list[int]: "a list of whole numbers",
    list[str]: "a list of names",
}


_EXAMPLES = {
    "seeds": "seeds=[0,1,2]",
    "data.modalities": "data.modalities=[dermoscopy,xray]",
    "trackers": "trackers=[tensorboard]",
    "protocol.corruptions": "protocol.corruptions=[noise,blur]",
    "protocol.severities": "protocol.severities=[1,3,5]",
}


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


def wrong_type(key: str, value: object) -> str:
    """A message about a value of the wrong type: `training.epochs=ten: expected a whole number, found 'ten'.`"""
    *groups, last = key.split(".")
    schema = _lookup(RunConfig(), ".".join(groups)) if groups else RunConfig()
    hint = get_type_hints(type(schema))[last]
    optional = type(None) in get_args(hint)
    kind = next(option for option in get_args(hint) if option is not type(None)) if optional else hint
    if is_dataclass(kind):
        first = fields(kind)[0].name
        return f"{key}={value}: expected one of its keys, for example {key}.{first}=..., found '{value}'."
    if key in ("methods", "algorithms"):
        group = key.removesuffix("s")
        one = "an algorithm" if group == "algorithm" else f"a {group}"
        return f"{key}={value}: expected one of its keys, found '{value}'. To choose {one}: {group}={value}."
    expected = _TYPES.get(kind, "another type")
    example = f", for example {_EXAMPLES[key]}" if key in _EXAMPLES else ""
    null = " or null" if optional else ""
    return f"{key}={value}: expected {expected}{null}{example}, found '{value}'."


def check_config(config: RunConfig) -> None:
    """Checks values that types alone can't: choices, ranges and what does not fit together.

    Raises:
        UserError: names the key, what is allowed and what was found.
    """
    _check_values(config)
    if not re.fullmatch(r"\w[\w.-]*", config.name):
        raise UserError(f"name={config.name!r} names a folder: expected letters, digits, '_', '-' and '.' only.")
    if config.protocol.pairs is not None and not isinstance(config.protocol.pairs, dict):
        raise UserError(
            f"protocol.pairs={config.protocol.pairs}: expected {{modality: {{seen: [domain, ...], unseen: [domain, ...]}}}}."
        )
    _check_corruptions(config)
    if not config.seeds or len(set(config.seeds)) != len(config.seeds):
        raise UserError(f"seeds={config.seeds}: expected at least one seed and none twice, for example seeds=[0,1,2].")
    if min(config.seeds) < 0:
        raise UserError(f"seeds={config.seeds}: expected whole numbers from 0 up.")
    for name in config.trackers:
        if name not in TRACKERS:
            raise UserError(f"trackers: '{name}' is unknown: expected {', '.join(TRACKERS)}.{_near(name, TRACKERS)}")
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
        UserError: a key the schema does not have, or a value of the wrong type.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if not isinstance(changes, dict):
        raise UserError(f"methods.{method_name}.training={changes}: expected lines of key: value.")
    schema, names = OmegaConf.structured(training), [item.name for item in fields(TrainingConfig)]
    for key, value in changes.items():
        if key not in names:
            raise UserError(f"methods.{method_name}.training.{key} is no training setting.{did_you_mean(key, names)}")
        try:
            OmegaConf.update(schema, key, value)
        except OmegaConfBaseException as error:
            raise UserError(f"methods.{method_name}.{wrong_type(f'training.{key}', value)}") from error
    merged = OmegaConf.to_object(schema)
    assert isinstance(merged, TrainingConfig)
    try:
        _check_values(RunConfig(training=merged))
    except UserError as error:
        raise UserError(f"methods.{method_name}.{error}") from error
    return merged


def _check_values(config: RunConfig) -> None:
    for key, choices in CHOICES.items():
        value = _lookup(config, key)
        if value not in choices:
            raise UserError(f"{key}={value} is unknown: expected one of {', '.join(choices)}.{_near(value, choices)}")
    for key, (low, high) in RANGES.items():
        value = _lookup(config, key)
        # Infinity is in no range, and NaN compares with nothing.
        if value is not None and not (low <= value <= high and value < math.inf):
            raise UserError(f"{key}={value} is out of range: expected {_range_text(low, high)}.")
    if config.training.image_size % 32:
        below = max(32, config.training.image_size // 32 * 32)
        raise UserError(
            f"training.image_size={config.training.image_size} is no multiple of 32, which every network here needs."
            f" Use {below} or {below + 32}."
        )


def _range_text(low: float, high: float) -> str:
    return f"{low:g} or more" if high == math.inf else f"{low:g} to {high:g}"


def _lookup(config: Any, key: str) -> Any:
    for part in key.split("."):
        config = getattr(config, part)
    return config


def _near(value: Any, choices: Sequence[str]) -> str:
    hint = did_you_mean(str(value), choices)
    return hint if "mean" in hint else ""
