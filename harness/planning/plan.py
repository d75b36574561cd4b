"""From a checked configuration to the list of trials: plain JSON specs, each with an id that names what it is."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from harness.config import ProtocolConfig, RunConfig, training_for_method
from harness.data.batches.array_cache import VERSION as ARRAYS_VERSION
from harness.data.dataset import MODALITIES, Dataset
from harness.errors import UserError
from harness.files import sha256_file, sha256_json
from harness.hardware import native_amp
from harness.methods.crossing import crossed
from harness.metrics import METRIC_VERSION
from harness.protocols.leaks import check_split
from harness.protocols.rules import Split, make_splits
from harness.versions import TRAINING_VERSION


@dataclass(frozen=True)
class Trial:
    """One method x split x seed. `spec` is plain JSON: it can be printed, sent away and run by `run_trial`."""

    id: str
    spec: dict[str, Any]

    @property
    def method(self) -> str:
        return str(self.spec["method"]["name"])

    @property
    def label(self) -> str:
        return f"{self.method} {self.spec['split']['name']} seed {self.spec['seed']}"


@dataclass(frozen=True)
class Suite:
    """What a run asks for."""

    config: RunConfig
    dataset: Dataset
    splits: list[Split]
    trials: list[Trial]


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
    trials: list[Trial] = []
    for protocol in _protocols(config.protocol):
        apart = config.protocol.scope == "both" and protocol.scope == "per_modality"
        for split in make_splits(dataset, protocol):
            check_split(split, samples)
            splits.append(split)
            told = _told(split, dataset)
            trials += [
                _make_trial(config, protocol, dataset, told, name, method, seed)
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


def split_fingerprint(split: Split, dataset: Dataset) -> str:
    """SHA-256 over what the split's images are (not where they lie) and which role each has."""
    samples = dataset.by_key()
    roles = (("train", split.train), ("validation", split.validation), ("test", split.test))
    content = [
        [role, key, samples[key].sha256_image, samples[key].sha256_mask, samples[key].subject]
        for role, keys in roles
        for key in sorted(keys)
    ]
    return sha256_json(content)


def trial_id(spec: dict[str, Any]) -> str:
    """SHA-256 of what determines the numbers: method, training, data, seed and the versions of loop and metrics."""
    method = spec["method"]
    return sha256_json(
        {
            "method": {
                **{key: method[key] for key in ("name", "version", "files")},
                "model": _by_content(method["model"], method["files"]),
            },
            "training": spec["training"],
            "versions": spec["versions"],
            "split": spec["split"]["fingerprint"],
            "seed": spec["seed"],
            "metrics": spec["metrics"],
        }
    )


def files_in(model: dict[str, Any]) -> dict[str, str]:
    """Key -> SHA-256 of every file that a method's `model:` names (weights): content counts, not where it lies."""
    files = {}
    for key, value in sorted(model.items()):
        if isinstance(value, dict):
            files.update({f"{key}.{inner}": digest for inner, digest in files_in(value).items()})
        elif isinstance(value, str) and key != "_target_" and Path(value).is_file():
            files[key] = sha256_file(Path(value))
    return files


def _by_content(model: dict[str, Any], files: Collection[str], prefix: str = "") -> dict[str, Any]:
    return {
        key: _by_content(value, files, f"{prefix}{key}.") if isinstance(value, dict) else value
        for key, value in model.items()
        if f"{prefix}{key}" not in files
    }


def modalities_of(spec: dict[str, Any]) -> list[str]:
    """The modalities a trial's method is built for, in canonical order, others after them by name."""
    split = spec["split"]
    found = {key.split("/", 1)[0] for role in ("train", "validation", "test") for key in split[role]}
    return [name for name in MODALITIES if name in found] + sorted(found.difference(MODALITIES))


def check_methods(trials: list[Trial]) -> None:
    """Builds each method once and throws it away.

    Raises:
        UserError: methods that can't be built, or a rule that needs validation images where a split has none.
    """
    from harness.methods.building import build_method

    faults = []
    for trial in {trial.method: trial for trial in reversed(trials)}.values():
        try:
            told = trial.spec["method"]
            method = build_method(trial.method, told["model"], modalities_of(trial.spec), prompt=told["card"]["prompt"])
            _check_adaptation(trial.method, method, told["card"])
        except UserError as error:
            faults.append(str(error))
    for trial in trials:
        if not trial.spec["split"]["validation"] and trial.spec["training"]["selection"] != "last":
            faults.append(
                f"Split {trial.spec['split']['name']} has no validation images: its training domains hold too few images"
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


def _told(split: Split, dataset: Dataset) -> dict[str, Any]:
    """A split as specs hold it. All trials of a split hold the same one: 10,000 of them name 10,000 images each."""
    return {
        "name": split.name,
        "held_out": list(split.held_out),
        "fingerprint": split_fingerprint(split, dataset),
        "train": list(split.train),
        "validation": list(split.validation),
        "test": list(split.test),
    }


def _make_trial(
    config: RunConfig,
    protocol: ProtocolConfig,
    dataset: Dataset,
    split: dict[str, Any],
    name: str,
    method: dict[str, Any],
    seed: int,
) -> Trial:
    training = training_for_method(config.training, name, method.get("training") or {})
    if training.amp == "auto":
        training = replace(training, amp=native_amp(config.executor.device))
    spec = {
        "method": {
            "name": name,
            "version": method.get("version", 1),
            "model": method["model"],
            "files": files_in(method["model"]),
            "card": method["card"],
        },
        "training": asdict(training),
        "versions": {"training": TRAINING_VERSION, "arrays": ARRAYS_VERSION},
        "protocol": asdict(protocol),
        "split": split,
        "data": {
            "root": str(dataset.root),
            "name": "phantoms" if config.data.root is None else dataset.root.name,
        },
        "seed": seed,
        "metrics": {"version": METRIC_VERSION, **asdict(config.metrics)},
    }
    return Trial(trial_id(spec), spec)
