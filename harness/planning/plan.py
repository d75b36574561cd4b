"""From a checked configuration to the list of trials."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.config import ProtocolConfig, RunConfig, training_for_method
from harness.data.batches.array_cache import VERSION as ARRAYS_VERSION
from harness.data.dataset import Dataset
from harness.errors import UserError
from harness.hardware import native_amp
from harness.methods.crossing import crossed
from harness.metrics import METRIC_VERSION
from harness.protocols.leaks import check_split
from harness.protocols.rules import make_splits
from harness.protocols.split import Split
from harness.trial_spec import TRAINING_VERSION, DataSpec, MethodSpec, TrialSpec, Versions, files_in


@dataclass(frozen=True)
class Suite:
    """What a run asks for."""

    config: RunConfig
    dataset: Dataset
    splits: list[Split]
    trials: list[TrialSpec]


def cache_folder(config: RunConfig) -> Path:
    """Where decoded arrays and phantoms are kept."""
    return Path(config.data.cache or Path(config.store.root) / "cache").expanduser().resolve()


def open_dataset(config: RunConfig) -> Dataset:
    """The images of the run: `data.root`, or phantoms drawn into the cache.

    Raises:
        UserError: the folder is missing, empty or faulty.
    """
    if config.data.root is not None:
        root = Path(config.data.root).expanduser().resolve()
    else:
        root = _phantom_root(config)
    return Dataset.open(root).select(config.data.modalities, config.data.max_per_domain)


def _phantom_root(config: RunConfig) -> Path:
    from harness.data.phantoms import GENERATOR_VERSION, write_phantoms

    phantoms = config.data.phantoms
    name = f"phantoms-v{GENERATOR_VERSION}-{phantoms.images_per_domain}x{phantoms.image_size}-seed{phantoms.seed}"
    root = cache_folder(config) / name
    if not (root / "manifest.csv").exists():
        write_phantoms(
            root,
            images_per_domain=phantoms.images_per_domain,
            image_size=phantoms.image_size,
            seed=phantoms.seed,
        )
    return root


def build_suite(config: RunConfig) -> Suite:
    """Reads the data, makes the splits, checks them for leaks, and crosses them with methods and seeds.

    Raises:
        UserError: faulty data, a leak, a protocol that does not fit the data, a wrong method configuration.
    """
    methods = crossed(config.methods, config.algorithms)
    dataset = open_dataset(config)
    samples = dataset.by_key()
    splits: list[Split] = []
    trials: list[TrialSpec] = []
    for protocol in _protocols(config.protocol):
        apart = config.protocol.scope == "both" and protocol.scope == "per_modality"
        for split in make_splits(dataset, protocol):
            check_split(split, samples)
            splits.append(split)
            trials += [
                _make_trial(config, protocol, dataset, split, name, method, seed)
                for name, method in (_one_per_modality(methods) if apart else methods).items()
                for seed in config.seeds
            ]
    if not splits:
        raise UserError(f"protocol={config.protocol.name} gives no split for {dataset.root}.")
    return Suite(config, dataset, splits, trials)


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


def check_methods(trials: list[TrialSpec]) -> None:
    """Builds each method once and throws it away.

    Raises:
        UserError: methods that can't be built, or a rule that needs validation images where a split has none.
    """
    from harness.methods.building import build_method

    faults = []
    for trial in {trial.method.name: trial for trial in reversed(trials)}.values():
        try:
            spec = trial.method
            method = build_method(spec.name, spec.model, trial.modalities, prompt=spec.prompt)
            _check_adaptation(spec.name, method, spec.card)
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


def _check_adaptation(name: str, method: Any, card: dict[str, Any]) -> None:
    """Whoever learns from test images says so, and whoever says so does it."""
    says, does = bool(card.get("sees_test_images", False)), hasattr(method, "predict_adapting")
    if says != does:
        raise UserError(
            f"Method '{name}': {type(method).__name__} {'has' if does else 'lacks'} predict_adapting, but its card says"
            f" sees_test_images: {str(says).lower()}. Expected both or neither: a reader of the results must be told."
        )


def _make_trial(
    config: RunConfig,
    protocol: ProtocolConfig,
    dataset: Dataset,
    split: Split,
    name: str,
    method: dict[str, Any],
    seed: int,
) -> TrialSpec:
    """All trials of a split share one `Split`: 10,000 of them name 10,000 images each."""
    training = training_for_method(config.training, name, method.get("training") or {})
    if training.amp == "auto":
        training = replace(training, amp=native_amp(config.executor.device))
    return TrialSpec(
        method=MethodSpec(
            name, method.get("version", 1), method["model"], files_in(method["model"]), card=method["card"]
        ),
        data=DataSpec(str(dataset.root), "phantoms" if config.data.root is None else dataset.root.name),
        split=split,
        protocol=protocol,
        training=training,
        evaluation=config.metrics,
        seed=seed,
        versions=Versions(TRAINING_VERSION, ARRAYS_VERSION, METRIC_VERSION),
    )
