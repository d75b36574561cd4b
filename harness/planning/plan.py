"""From a checked configuration to the list of trials."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.config import ProtocolConfig, RunConfig, training_for_method
from harness.config.schema import InferenceConfig, TrainingConfig
from harness.data.batches.array_cache import VERSION as ARRAYS_VERSION
from harness.data.batches.geometry import TILES
from harness.data.dataset import Dataset
from harness.data.folder.sample import MODALITIES
from harness.errors import UserError, did_you_mean
from harness.hardware import native_amp
from harness.methods.crossing import crossed
from harness.methods.trainer import trainer_of
from harness.planning.corruptions import check_corruptions, corruptions_for
from harness.planning.datasets import open_dataset
from harness.protocols.leaks import check_split
from harness.protocols.rules import make_splits
from harness.protocols.split import Split
from harness.trial_spec import INFERENCE_VERSION, TRAINING_VERSION, DataSpec, MethodSpec, TrialSpec, Versions, files_in

_REPAYING_STEPS = 500
"""`training.compile: auto` records steps on a GPU where a training has so many: each kind of batch costs a few of them."""


@dataclass(frozen=True)
class Plan:
    """What a run asks for."""

    config: RunConfig
    dataset: Dataset
    splits: list[Split]
    trials: list[TrialSpec]


def build_plan(config: RunConfig) -> Plan:
    """Reads the data, makes the splits, checks them for leaks, and crosses them with methods and seeds.

    Raises:
        UserError: faulty data, a leak, a protocol that does not fit the data, a wrong method configuration.
    """
    methods = crossed(config.methods, config.algorithms)
    dataset = open_dataset(config)
    check_corruptions(config.protocol, dataset.modalities())
    samples = dataset.by_key()
    splits: list[Split] = []
    trials: list[TrialSpec] = []
    for protocol in _protocols(config.protocol):
        apart = config.protocol.scope == "both" and protocol.scope == "per_modality"
        asked = _one_per_modality(methods) if apart else methods
        # Once for all splits and seeds: files of weights are read whole for their hashes.
        specs = {name: _method_spec(name, method) for name, method in asked.items()}
        for split in make_splits(dataset, protocol):
            check_split(split, samples)
            splits.append(split)
            trials += [
                _make_trial(config, protocol, dataset, split, specs[name], method.get("training") or {}, seed)
                for name, method in asked.items()
                for seed in config.seeds
            ]
    if not splits:
        raise UserError(f"protocol={config.protocol.name} gives no split for {dataset.root}.")
    return Plan(config, dataset, splits, trials)


def _protocols(protocol: ProtocolConfig) -> list[ProtocolConfig]:
    """`scope: both` asks for one model of all modalities and, beside it, for one model for each."""
    scopes = ("universal", "per_modality") if protocol.scope == "both" else (protocol.scope,)
    return [replace(protocol, scope=scope) for scope in scopes]


def _one_per_modality(methods: dict[str, Any]) -> dict[str, Any]:
    """The same methods under names of their own: rows of a report that stand beside the universal ones."""
    return {
        f"{name}@per_modality": {
            **method,
            "card": {**method["card"], "title": f"{method['card']['title']}, one per modality"},
        }
        for name, method in methods.items()
    }


def _method_spec(name: str, method: dict[str, Any]) -> MethodSpec:
    model = method.get("model") or {}
    trainer = trainer_of(method["trainer"]) if method.get("trainer") else None
    version, alone = method.get("version", 1), method.get("version_alone")
    return MethodSpec(name, version, model, files_in(model), method["card"], trainer, alone)


def _tiled(training: TrainingConfig, known: Sequence[str], split: Split) -> list[str]:
    """Of the modalities in `training.tiled` those that the trial has; a canonical one that the data lack is no mistake."""
    for name in training.tiled:
        if name not in known and name not in MODALITIES:
            raise UserError(f"training.tiled: the data have no modality '{name}'.{did_you_mean(name, known)}")
    own = {key.split("/", 1)[0] for key in split.keys}
    return [] if training.geometry == TILES else sorted(own & {*training.tiled})


def _repaid(training: TrainingConfig, images: int, device: str) -> str:
    """What `training.compile: auto` means for a training with so many images: see `_REPAYING_STEPS`."""
    if device == "cpu" or training.epochs * math.ceil(images / training.batch_size) < _REPAYING_STEPS:
        return "off"
    import torch

    return "on" if torch.cuda.is_available() else "off"


def _make_trial(
    config: RunConfig,
    protocol: ProtocolConfig,
    dataset: Dataset,
    split: Split,
    method: MethodSpec,
    own_training: dict[str, Any],
    seed: int,
) -> TrialSpec:
    """All trials of a split share one `Split`: 10,000 of them name 10,000 images each."""
    training = training_for_method(config.training, method.name, own_training)
    if training.amp == "auto":
        training = replace(training, amp=native_amp(config.executor.device))
    if training.compile == "auto":
        training = replace(training, compile=_repaid(training, len(split.train), config.executor.device))
    training = replace(training, tiled=_tiled(training, dataset.modalities(), split))
    return TrialSpec(
        method=method,
        data=DataSpec(str(dataset.root), "phantoms" if config.data.root is None else dataset.root.name),
        split=split,
        protocol=protocol,
        training=training,
        inference=InferenceConfig.of(training),
        evaluation=config.metrics,
        seed=seed,
        versions=Versions(TRAINING_VERSION, ARRAYS_VERSION, INFERENCE_VERSION),
        corruptions=corruptions_for(protocol, split),
    )
