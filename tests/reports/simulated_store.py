"""A simulated store: 4 methods x 3 folds, 2 modalities x 3 domains x 8 images, one trial failed, one never begun."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from support.specs import trial_spec
from support.stores import finished_trial

from harness.data.corruptions.form import CorruptionSpec
from harness.store.records import TrialEntry
from harness.store.store import Store
from harness.trial_spec import TrialIds, TrialSpec

MODALITIES = ("dermoscopy", "fundus")
DOMAINS = ("atlas", "clinic", "screening")
IMAGES = 8
SKILL = {"delightsam": 0.80, "unet": 0.72, "boxed": 0.9, "otsu": 0.35}
CARDS: dict[str, dict[str, Any]] = {
    "delightsam": {"title": "De-LightSAM", "prompt": "none", "start": "scratch", "pretrained_on": []},
    "unet": {"title": "U-Net (ResNet-18)", "prompt": "none", "start": "scratch", "pretrained_on": ["Screening"]},
    "boxed": {"title": "Box-prompted SAM", "prompt": "oracle box", "start": "scratch", "pretrained_on": []},
    "otsu": {"title": "Otsu threshold", "prompt": "none", "pretrained_on": [], "trivial_baseline": True},
}


@dataclass(frozen=True)
class Simulated:
    root: Path
    suite: Path
    ids: dict[tuple[str, str, int], TrialIds]


def keys(domain: str) -> list[str]:
    return [f"{modality}/{domain}/{index:03d}" for modality in MODALITIES for index in range(IMAGES)]


def split(fold: int, domains: tuple[str, ...]) -> dict[str, Any]:
    seen = [key for place, name in enumerate(domains) if place != fold for key in keys(name)]
    return {
        "name": f"fold{fold}",
        "held_out": [f"{modality}/{domains[fold]}" for modality in MODALITIES],
        "fingerprint": f"{fold:064x}",
        "train": [key for key in seen if key[-1] not in "012"],
        "validation": [key for key in seen if key[-1] in "012"],
        "test": keys(domains[fold]),
    }


def disk(size: int, x: float, y: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size]
    return (rows - y) ** 2 + (columns - x) ** 2 < radius**2


def write_pictures(root: Path, domains: tuple[str, ...]) -> None:
    generator = np.random.default_rng(0)
    for key in (key for domain in domains for key in keys(domain)):
        modality, domain, name = key.split("/")
        folder = root / modality / domain
        for part in ("images", "masks"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        mask = disk(64, 32, 30, 14)
        tint = np.array([205, 150, 120] if modality == "dermoscopy" else [190, 90, 40])
        pixels = np.where(mask[..., None], tint * 0.55, tint) + generator.normal(0, 8, (64, 64, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / "images" / f"{name}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{name}.png")


def rows(method: str, part: dict[str, Any], seed: int, fold: int) -> pd.DataFrame:
    generator = np.random.default_rng([seed, fold, len(method)])
    table = []
    for role in ("test", "validation"):
        for key in part[role]:
            modality, domain, name = key.split("/")
            level = (
                SKILL[method]
                + (0.1 if role == "validation" and method != "otsu" else 0)
                - 0.12 * (modality == "fundus")
            )
            dice = float(np.clip(level + generator.normal(0, 0.07), 0, 1))
            empty = "prediction" if method == "otsu" and role == "test" and name == "000" else "none"
            if empty != "none":
                dice = 0.0
            hd95 = 40 * (1 - dice)
            table.append(
                {
                    "key": key, "modality": modality, "domain": domain, "id": name, "subject": None,
                    "role": role, "width": 64, "height": 64, "dice": dice, "iou": dice / (2 - dice), "precision": dice,
                    "recall": dice, "hd95": hd95, "hd95_max": hd95, "hd": hd95 * 1.2, "assd": hd95 / 3, "nsd": dice,
                    "boundary_iou": dice / 2, "cldice": dice,
                    "reference_pixels": 615, "predicted_pixels": 600, "empty": empty,
                }
            )  # fmt: skip
    return pd.DataFrame(table)


def _leave(store: Store, spec: TrialSpec, fault: str) -> None:
    """A trial without a result."""
    if fault == "missing":
        return
    store.start_trial(spec)
    if fault == "failed":
        store.write_status(spec.id, "failed", reason="The loss became NaN in epoch 2 of 2.")
    else:
        store.write_status(spec.id, "running", epoch=1, epochs=2)


def write_store(
    root: Path,
    *,
    faults: dict[tuple[str, int], str] | None = None,
    cards: dict[str, dict[str, Any]] | None = None,
    seeds: tuple[int, ...] = (0,),
    domains: tuple[str, ...] = DOMAINS,
    folds: int | None = None,
    predictions: bool = True,
    corruptions: dict[str, Any] | None = None,
    change: Callable[[str, pd.DataFrame], pd.DataFrame] = lambda method, frame: frame,
) -> Simulated:
    """Writes the store by its own writing functions. `faults`: (method, fold) -> "failed", "missing" or "running"; `folds`: only the first."""
    faults = {("unet", 2): "failed", ("otsu", 1): "missing"} if faults is None else faults
    cards = CARDS if cards is None else cards
    pictures = root / "data"
    write_pictures(pictures, domains)
    store = Store(root / "runs")
    store.prepare()
    entries, ids = [], {}
    for fold in range(folds or len(domains)):
        part = split(fold, domains)
        for method, card in cards.items():
            for seed in seeds:
                spec = trial_spec(
                    method={"name": method, "model": {"_target_": f"x.{method}"}, "card": card},
                    training={"selection": "training_domain_validation", "image_size": 64, "epochs": 2},
                    split=part,
                    data={"root": str(pictures), "name": "simulated"},
                    seed=seed,
                )
                if corruptions is not None:
                    spec = replace(spec, corruptions=CorruptionSpec(**corruptions))
                ids[method, part["name"], seed] = spec.ids
                entries.append(TrialEntry.of(spec))
                fault = faults.get((method, fold))
                if fault is not None:
                    _leave(store, spec, fault)
                    continue
                masks = {
                    ("test", key): disk(64, 32 + index % 9, 30, 8 + 7 * SKILL.get(method, 0.5))
                    for index, key in enumerate(part["test"])
                }
                skilled = method if method in SKILL else "unet"
                finished_trial(
                    store,
                    spec,
                    change(method, rows(skilled, part, seed, fold)),
                    masks=masks if predictions else None,
                    curves=pd.DataFrame(
                        {"epoch": [1, 2], "stage": "train", "train_loss": [0.8, 0.5], "validation_dice": [0.4, 0.6 + fold / 20],
                         "learning_rate": 1e-3, "seconds": [2.0, 2.0]}
                    ) if skilled != "otsu" else pd.DataFrame(columns=["epoch", "stage", "train_loss"]),
                    provenance={
                        "bench": "0.1.0", "code": {"commit": "c0ffee", "uncommitted_changes": False}, "python": "3.11.7",
                        "libraries": {"torch": "2.14"}, "machine": {"host": "node7", "device": "cpu", "device_name": "Test CPU"},
                        "command": ["python", "-m", "harness", "run", "suite=simulated"],
                    },
                    seconds=12.5,
                    epochs=2,
                    chosen_epoch=2,
                )  # fmt: skip
    for index, method in enumerate(cards):
        total = 0 if method == "otsu" else 10_000_000 * (index + 1)
        store.write_efficiency(
            f"{method}-cpu",
            {
                "method": method, "image_size": 64, "parameters_total": total, "parameters_active": total // 2,
                "parameters_trainable": total, "gmacs": None if method == "otsu" else 1.7 * (index + 1),
                "throughput_images_per_second": 40.0 / (index + 1), "throughput_batch": 8, "device": "Test CPU", "threads": 2,
                "dtype": "float32", "latency_ms_p50": 25.0, "latency_ms_p95": 31.0, "peak_memory_mib": 300, "torch": "2.14",
                "forms": [
                    {"form": "plain", "dtype": "float32", "latency_ms_p50": 25.0, "latency_ms_p95": 31.0,
                     "throughput_images_per_second": 40.0 / (index + 1)},
                    {"form": "accelerated", "dtype": "float32", "latency_ms_p50": 9.5, "latency_ms_p95": 12.0,
                     "throughput_images_per_second": 88.0},
                ][: 2 if method == "delightsam" else 1],
                "latency_ms_by_size": {"32": 6.0, "64": 25.0, "128": 110.0}, "size_exponent": 2.1,
                "throughput_by_batch": {"1": 30.0 / (index + 1), "8": 40.0 / (index + 1)}, "rounds": 2,
                "latency_drift": 0.25 if method == "unet" else 0.03,
            },
        )  # fmt: skip
    config = (
        "name: simulated\nseeds: [0]\nmethods: {}\ntraining: {image_size: 64, selection: training_domain_validation}\n"
    )
    config += f"protocol: {{max_folds: {folds or 'null'}}}\n"
    return Simulated(store.root, store.start_suite("simulated", config, entries), ids)
