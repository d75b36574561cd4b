"""Typed configuration: what a user may set, of which type, and the one place that checks it.

The dataclasses below are the schema of the Hydra tree in the package `suites`. `load_config` composes that tree with the
words of the command line and returns a checked `RunConfig`; every mistake becomes a UserError that names the key.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from harness.errors import UserError, did_you_mean

PROTOCOLS = ("leave_one_domain_out", "seen_to_unseen", "in_domain", "single_source")
SELECTION_RULES = ("training_domain_validation", "last", "oracle")


@dataclass
class PhantomConfig:
    """The embedded data that stands in when `data.root` is not given."""

    images_per_domain: int = 12
    image_size: int = 192
    seed: int = 0


@dataclass
class DataConfig:
    """Which images. `root: null` draws phantoms."""

    root: str | None = None
    modalities: list[str] | None = None
    max_per_domain: int | None = None
    # Decoded arrays and phantoms; null: `cache` inside the store.
    cache: str | None = None
    phantoms: PhantomConfig = field(default_factory=PhantomConfig)


@dataclass
class ProtocolConfig:
    """How images become training, validation and test sets: see harness/protocols.py."""

    name: str = "leave_one_domain_out"
    scope: str = "universal"
    max_folds: int | None = None
    validation_fraction: float = 0.15
    test_fraction: float = 0.2
    split_seed: int = 0
    # None, or a dictionary; Hydra can't put one in the place of None when the type says `dict | None`.
    pairs: Any = None


@dataclass
class TrainingConfig:
    """The budget and the recipe, the same for every method unless its YAML says otherwise under `training:`."""

    image_size: int = 128
    epochs: int = 10
    batch_size: int = 8
    # Batches whose gradients are summed before a step.
    accumulation: int = 1
    optimizer: str = "adamw"
    learning_rate: float = 5e-4
    weight_decay: float = 1e-4
    schedule: str = "one_cycle"
    # Per epoch, for `schedule: exponential`.
    decay: float = 0.98
    clip_norm: float | None = 1.0
    # off | bfloat16 | float16
    amp: str = "off"
    augmentation: str = "standard"
    # proportional: each image once per epoch; equal: modalities equally often.
    sampling: str = "equal"
    # mixed | single_modality
    batching: str = "mixed"
    # Epochs without a better validation Dice before training stops; null: never.
    patience: int | None = None
    selection: str = "training_domain_validation"
    # Part of the spec because sums in another order give other bits.
    cpu_threads: int = 1


@dataclass
class MetricsConfig:
    empty: str = "diagonal"
    nsd_tolerance: float = 2.0


@dataclass
class ExecutorConfig:
    """Where trials run: see harness/execution."""

    name: str = "ray"
    # auto | cpu | cuda
    device: str = "auto"
    gpus_per_trial: float = 1.0
    # null starts a local Ray; auto or host:port joins a cluster.
    address: str | None = None


@dataclass
class StoreConfig:
    root: str = "runs"
    predictions: bool = True
    keep_weights: bool = True
    # A trial's state is kept at the end of an epoch, at most this often.
    checkpoint_seconds: float = 20.0


@dataclass
class RunConfig:
    """Everything a run is told."""

    name: str = "custom"
    data: DataConfig = field(default_factory=DataConfig)
    protocol: ProtocolConfig = field(default_factory=ProtocolConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    executor: ExecutorConfig = field(default_factory=ExecutorConfig)
    store: StoreConfig = field(default_factory=StoreConfig)
    seeds: list[int] = field(default_factory=lambda: [0])
    # missing: run what the store lacks; never: run everything again; only: run nothing, report what is there.
    reuse: str = "missing"
    # Image side at which costs are counted and timed; null: the training size.
    efficiency_image_size: int | None = None
    methods: dict[str, Any] = field(default_factory=dict)


_CHOICES: dict[str, tuple[str, ...]] = {
    "protocol.name": PROTOCOLS,
    "protocol.scope": ("universal", "per_modality"),
    "training.optimizer": ("adamw", "adam", "sgd"),
    "training.schedule": ("one_cycle", "cosine", "exponential", "constant"),
    "training.amp": ("off", "bfloat16", "float16"),
    "training.augmentation": ("none", "flips", "standard"),
    "training.sampling": ("proportional", "equal"),
    "training.batching": ("mixed", "single_modality"),
    "training.selection": SELECTION_RULES,
    "metrics.empty": ("diagonal", "nan"),
    "executor.name": ("serial", "ray"),
    "executor.device": ("auto", "cpu", "cuda"),
    "reuse": ("missing", "never", "only"),
}
# Inclusive lower and upper ends.
_RANGES: dict[str, tuple[float, float]] = {
    "data.max_per_domain": (1, 10**9),
    "data.phantoms.images_per_domain": (2, 100_000),
    "data.phantoms.image_size": (64, 4096),
    "data.phantoms.seed": (0, 2**63),
    "protocol.max_folds": (1, 10**6),
    "protocol.validation_fraction": (0.01, 0.9),
    "protocol.test_fraction": (0.01, 0.9),
    "training.image_size": (32, 8192),
    "training.epochs": (1, 10**6),
    "training.batch_size": (1, 10**5),
    "training.accumulation": (1, 10**4),
    "training.learning_rate": (1e-12, 100.0),
    "training.weight_decay": (0.0, 10.0),
    "training.decay": (0.01, 1.0),
    "training.clip_norm": (1e-6, 1e9),
    "training.patience": (1, 10**6),
    "training.cpu_threads": (1, 1024),
    "metrics.nsd_tolerance": (0.0, 1e6),
    "store.checkpoint_seconds": (0.0, 1e9),
    "executor.gpus_per_trial": (0.0, 1024.0),
    "efficiency_image_size": (32, 8192),
}


def config_folder() -> Path:
    """The folder of the shipped YAML tree."""
    return Path(str(resources.files("suites")))


def option_names(group: str, extra_folder: Path | None = None) -> list[str]:
    """Names in a group of the tree, for example `option_names("method") -> ["delightsam", "unet", ...]`."""
    folders = [config_folder()] + ([extra_folder] if extra_folder else [])
    return sorted({path.stem for folder in folders for path in (folder / group).glob("*.yaml")})


def load_config(overrides: Sequence[str], extra_folder: Path | None = None) -> RunConfig:
    """Composes the YAML tree with command-line words such as `suite=domain_generalization training.epochs=3`.

    Args:
        overrides: Hydra overrides; `suite=...` picks the base, others change it.
        extra_folder: a user's own tree of the same shape (`method/mine.yaml`), searched as well.

    Raises:
        UserError: unknown name, key or value; a value of the wrong type; a word that is no override; a damaged file.
    """
    import yaml
    from hydra import compose, initialize_config_dir
    from hydra.core.config_store import ConfigStore
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    for word in overrides:
        if "=" not in word and not word.startswith("~"):
            hint = did_you_mean(word, ["suite=", "method=", "training=", "data.root="]) if word.isidentifier() else ""
            raise UserError(f"Expected key=value, for example suite=domain_generalization; found '{word}'.{hint}")
    _check_group_names(overrides, extra_folder)
    ConfigStore.instance().store(name="run_config", node=RunConfig)
    search = [f"hydra.searchpath=[file://{extra_folder.resolve()}]"] if extra_folder else []
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(config_folder()), version_base="1.3"):
            composed = compose("config", overrides=[*overrides, *search])
        config = OmegaConf.to_object(composed)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(_explain_hydra(error)) from error
    except yaml.YAMLError as error:
        raise UserError(f"A configuration file is no valid YAML: {error}") from error
    _refuse_added_keys(composed, RunConfig())
    if not isinstance(config, RunConfig):
        raise UserError(
            "The configuration tree is damaged: suites/config.yaml no longer starts from the schema run_config."
        )
    check_config(config)
    return config


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
    if not config.seeds or len(set(config.seeds)) != len(config.seeds):
        raise UserError(f"seeds={config.seeds}: expected at least one seed and none twice, for example seeds=[0,1,2].")
    if min(config.seeds) < 0:
        raise UserError(f"seeds={config.seeds}: expected whole numbers from 0 up.")
    if not config.methods:
        raise UserError(
            "No method was chosen: add for example method=[unet,otsu]; `python -m harness list methods` shows all."
        )


def training_for_method(training: TrainingConfig, method_name: str, changes: dict[str, Any]) -> TrainingConfig:
    """The preset with a method's own `training:` changes, checked against the same schema.

    Raises:
        UserError: a key the schema does not have, or a value of the wrong type.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    names = [item.name for item in fields(TrainingConfig)]
    for key in changes:
        if key not in names:
            raise UserError(f"methods.{method_name}.training.{key} is no training setting.{did_you_mean(key, names)}")
    try:
        merged = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(training), changes))
    except OmegaConfBaseException as error:
        raise UserError(f"methods.{method_name}.training: {_explain_hydra(error)}") from error
    assert isinstance(merged, TrainingConfig)
    try:
        _check_values(RunConfig(training=merged))
    except UserError as error:
        raise UserError(f"methods.{method_name}.{error}") from error
    return merged


def _check_values(config: RunConfig) -> None:
    for key, choices in _CHOICES.items():
        value = _lookup(config, key)
        if value not in choices:
            raise UserError(f"{key}={value} is unknown: expected one of {', '.join(choices)}.{_near(value, choices)}")
    for key, (low, high) in _RANGES.items():
        value = _lookup(config, key)
        if value is not None and not low <= value <= high:
            raise UserError(f"{key}={value} is out of range: expected {low:g} to {high:g}.")
    if config.training.image_size % 32:
        below = max(32, config.training.image_size // 32 * 32)
        raise UserError(
            f"training.image_size={config.training.image_size} is no multiple of 32, which every network here needs."
            f" Use {below} or {below + 32}."
        )


def _refuse_added_keys(composed: Any, schema: Any, prefix: str = "") -> None:
    """`+key=value` adds a key even where the schema has none; nobody would read it."""
    names = [item.name for item in fields(schema)]
    for key in composed:
        if key not in names:
            hint = did_you_mean(f"{prefix}{key}", _all_keys(RunConfig()))
            raise UserError(f"Unknown key '{prefix}{key}'.{hint}")
        if is_dataclass(getattr(schema, key)):
            _refuse_added_keys(composed[key], getattr(schema, key), f"{prefix}{key}.")


def _lookup(config: Any, key: str) -> Any:
    for part in key.split("."):
        config = getattr(config, part)
    return config


def _near(value: Any, choices: Sequence[str]) -> str:
    hint = did_you_mean(str(value), choices)
    return hint if "mean" in hint else ""


_GROUPS = ("suite", "method", "data", "protocol", "training", "executor")


def _check_group_names(overrides: Sequence[str], extra_folder: Path | None) -> None:
    """Names in `suite=` and `method=` are looked up before Hydra does, for an answer a newcomer can use."""
    for group in _GROUPS:
        if extra_folder is None:
            break
        both = sorted(set(option_names(group)) & {path.stem for path in (extra_folder / group).glob("*.yaml")})
        if both:
            raise UserError(
                f"{extra_folder}/{group}/{both[0]}.yaml has the name of a shipped {group}, which would win. Give yours another."
            )
    for word in overrides:
        key, _, value = word.partition("=")
        group = key.lstrip("+")
        if group not in _GROUPS:
            continue
        if not value:
            raise UserError(f"{group}= has no name.{did_you_mean('', option_names(group, extra_folder))}")
        names = option_names(group, extra_folder)
        for name in (part.strip() for part in value.strip("[]").split(",")):
            if name and name not in names:
                raise UserError(f"Unknown {group} '{name}'.{did_you_mean(name, names)}")


def _all_keys(schema: Any, prefix: str = "") -> list[str]:
    keys: list[str] = []
    for item in fields(schema):
        value = getattr(schema, item.name)
        keys.append(prefix + item.name)
        if is_dataclass(value):
            keys += _all_keys(value, f"{prefix}{item.name}.")
    return keys


def _explain_hydra(error: Exception) -> str:
    """One or two lines for a user from a Hydra or OmegaConf error, with a guess at the key that was meant."""
    text = str(error)
    missing = re.search(r"Could not override '([^']+)'", text) or re.search(r"Key '([^']+)' not in", text)
    if missing:
        key = missing.group(1).lstrip("+")
        if key.startswith("methods."):
            return f"'{key}' is not in that method's YAML. To add it, write +{key}=..."
        return f"Unknown key '{key}'.{did_you_mean(key, _all_keys(RunConfig()))}"
    if "mismatched input" in text or "no viable alternative" in text or "token recognition error" in text:
        return f"Could not read the command line: {text.splitlines()[0]}. Quote values with special characters."
    key_line = next((line for line in text.splitlines() if "full_key" in line), "")
    where = key_line.split(":", 1)[1].strip() if key_line else ""
    first = text.splitlines()[0] if text else type(error).__name__
    cause = error.__cause__
    if first.startswith("Error merging override") and cause is not None:
        return f"{first.removeprefix('Error merging override ')}: {str(cause).splitlines()[0]}"
    return f"{where}: {first}" if where else first
