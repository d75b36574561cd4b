"""A large simulated store without pictures: what a report must still be made of in bounded time and memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from support.specs import trial_spec
from support.stores import finished_trial

from harness.store.records import TrialEntry
from harness.store.store import Store

MODALITIES = ("dermoscopy", "fundus", "ultrasound", "xray", "colonoscopy")
FOLDS = 10


def keys_of(fold: int, images: int) -> list[str]:
    """The images of one domain of every modality, `images` in all."""
    each = images // len(MODALITIES)
    return [f"{name}/hospital_{fold}/image_{number:05d}" for name in MODALITIES for number in range(each)]


def make_split(fold: int, tests: int, validation: int) -> dict[str, Any]:
    seen = [key for other in range(FOLDS) if other != fold for key in keys_of(other, tests)]
    chosen = seen[:: len(seen) // validation][:validation]
    return {
        "name": f"fold{fold}",
        "held_out": [f"{name}/hospital_{fold}" for name in MODALITIES],
        "fingerprint": f"{fold:064x}",
        "train": sorted(set(seen) - set(chosen)),
        "validation": chosen,
        "test": keys_of(fold, tests),
    }


def write_big_store(root: Path, *, methods: int = 20, seeds: int = 5, images: int = 1000) -> tuple[Path, Path]:
    """`methods` x 10 folds x `seeds` trials of `images` rows each; returns the store's root and the run's folder."""
    store = Store(root)
    store.prepare()
    splits = [make_split(fold, images * 7 // 10, images * 3 // 10) for fold in range(FOLDS)]
    entries = []
    for number in range(methods):
        name = f"method_{number:02d}"
        for split in splits:
            entries += [_write_trial(store, name, number, split, seed) for seed in range(seeds)]
        _write_costs(store, name, number)
    config = "name: simulated\nmethods: {}\ntraining: {image_size: 64}\nprotocol: {name: leave_one_domain_out}\n"
    return store.root, store.start_suite("simulated", config, entries)


def _write_trial(store: Store, name: str, number: int, split: dict[str, Any], seed: int) -> TrialEntry:
    spec = trial_spec(
        method={"name": name, "model": {"_target_": f"x.{name}"}, "card": {"title": f"Method {number}"}},
        training={"selection": "training_domain_validation", "image_size": 64, "epochs": 200},
        split=split,
        data={"root": str(store.root / "nowhere"), "name": "simulated"},
        seed=seed,
    )
    generator = np.random.default_rng([number, seed, int(split["fingerprint"], 16)])
    keys = [*split["test"], *split["validation"]]
    parts = [key.split("/") for key in keys]
    roles = ["test"] * len(split["test"]) + ["validation"] * len(split["validation"])
    dice = np.clip(0.9 - 0.02 * number + generator.normal(0, 0.12, len(keys)), 0, 1)
    samples = pd.DataFrame(
        {
            "key": keys, "modality": [part[0] for part in parts], "domain": [part[1] for part in parts],
            "id": [part[2] for part in parts], "subject": None, "role": roles, "width": 512, "height": 512, "dice": dice,
            "iou": dice / (2 - dice), "precision": dice, "recall": dice, "hd95": 90 * (1 - dice), "hd95_max": 95 * (1 - dice),
            "hd": 120 * (1 - dice), "assd": 30 * (1 - dice), "nsd": dice, "boundary_iou": dice / 2, "cldice": dice, "reference_pixels": 9000, "predicted_pixels": 8000,
            "empty": np.where(dice == 0, "prediction", "none"),
        }
    )  # fmt: skip
    epochs = np.arange(1, 21) * 10
    finished_trial(
        store,
        spec,
        samples,
        curves=pd.DataFrame({"epoch": epochs, "stage": "train", "train_loss": 1 / epochs, "validation_dice": 0.8}),
        provenance={"bench": "0", "machine": {"host": "n"}, "command": ["python", "-m", "harness", "run"]},
        epochs=200,
        chosen_epoch=200,
    )
    return TrialEntry.of(spec)


def _write_costs(store: Store, name: str, number: int) -> None:
    count = 1_000_000 * (number + 1)
    row = {
        "method": name,
        "image_size": 64,
        "device": "Test CPU",
        "threads": 2,
        "dtype": "float32",
        "gmacs": 1.0 + number,
    }
    row |= {"parameters_total": count, "parameters_active": count, "parameters_trainable": count}
    row |= {
        "throughput_images_per_second": 100.0 / (number + 1),
        "throughput_batch": 8,
        "latency_ms_p50": 10.0 + number,
    }
    store.write_efficiency(f"{name}-cpu", row)
