"""From a checked configuration to the list of trials: plain JSON specs, each with an id that names what it is."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.config import RunConfig, training_for_method
from harness.data.dataset import Dataset
from harness.errors import UserError
from harness.files import sha256_json
from harness.leaks import check_split
from harness.methods import check_method_config
from harness.metrics import METRIC_VERSION
from harness.protocols import Split, make_splits
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
    for name, method in config.methods.items():
        check_method_config(name, method)
    dataset = open_dataset(config)
    splits = make_splits(dataset, config.protocol)
    if not splits:
        raise UserError(f"protocol={config.protocol.name} gives no split for {dataset.root}.")
    samples = dataset.by_key()
    for split in splits:
        check_split(split, samples)
    prints = [split_fingerprint(split, dataset) for split in splits]
    trials = [
        _make_trial(config, dataset, split, fingerprint, name, method, seed)
        for split, fingerprint in zip(splits, prints, strict=True)
        for name, method in config.methods.items()
        for seed in config.seeds
    ]
    return Suite(config, dataset, splits, trials)


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
            "method": {key: method[key] for key in ("name", "version", "model")},
            "training": spec["training"],
            "training_version": spec["training_version"],
            "split": spec["split"]["fingerprint"],
            "seed": spec["seed"],
            "metrics": spec["metrics"],
        }
    )


def _make_trial(
    config: RunConfig,
    dataset: Dataset,
    split: Split,
    fingerprint: str,
    name: str,
    method: dict[str, Any],
    seed: int,
) -> Trial:
    training = training_for_method(config.training, name, method.get("training") or {})
    spec = {
        "method": {
            "name": name,
            "version": method.get("version", 1),
            "model": method["model"],
            "card": method["card"],
        },
        "training": asdict(training),
        "training_version": TRAINING_VERSION,
        "protocol": asdict(config.protocol),
        "split": {
            "name": split.name,
            "held_out": list(split.held_out),
            "fingerprint": fingerprint,
            "train": list(split.train),
            "validation": list(split.validation),
            "test": list(split.test),
        },
        "data": {
            "root": str(dataset.root),
            "name": (config.data.root and Path(config.data.root).name) or "phantoms",
        },
        "seed": seed,
        "metrics": {"version": METRIC_VERSION, **asdict(config.metrics)},
    }
    return Trial(trial_id(spec), spec)
