"""Training and testing through the harness costs at most a twentieth more than a loop written by hand.

Both do the same work on the same cached arrays: the same network, augmentation, mixed precision, clipping, schedule, a
validation Dice after each epoch with a copy of the best weights, and all metrics at native resolution in the end. They
run by turns in one process with one thread. The medians of the processor's time are compared, which other programs on
the machine disturb less than the clock's; neither way waits for anything.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support.evaluation import measured_images

from baselines.networks.smp import SmpNetwork
from harness.config import MetricsConfig, TrainingConfig
from harness.data.batches.array_cache import ArrayCache
from harness.data.batches.augmentation import Augmentation
from harness.data.batches.loader import Batch
from harness.data.dataset import Dataset
from harness.data.phantoms import write_phantoms
from harness.data.reading import read_mask
from harness.metrics import evaluate_pair
from harness.training.callbacks import usual_callbacks
from harness.training.fit import TrainingData, fit
from harness.trial import TrialContext

BOUND = 1.05
ROUNDS = 3
CPU = torch.device("cpu")
CONFIG = TrainingConfig(image_size=128, epochs=2, batch_size=8, amp="bfloat16", augmentation="standard")


def network() -> SmpNetwork:
    torch.manual_seed(0)
    return SmpNetwork(["dermoscopy"], "unet", "resnet18")


def through_the_harness(data: TrainingData, test: list[str], folder: Path) -> list[dict[str, Any]]:
    method = network()
    often = TrialContext("", "").checkpoint_seconds  # as in a trial
    fit(
        method,
        data,
        CONFIG,
        seed=0,
        device=CPU,
        folder=folder,
        callbacks=usual_callbacks(folder, checkpoint_seconds=often),
    )
    return measured_images(
        method, test, cache=data.cache, samples=data.samples, modalities=data.modalities,
        batch_size=CONFIG.batch_size, device=CPU, amp=CONFIG.amp, metrics=MetricsConfig(),
    )  # fmt: skip


def by_hand(data: TrainingData, test: list[str], folder: Path) -> list[dict[str, Any]]:
    model, cache = network(), data.cache
    random = np.random.default_rng(0)
    augment = Augmentation(CONFIG.augmentation)
    rows = np.array([cache.index[key] for key in data.train])
    batches = len(rows) // CONFIG.batch_size
    optimizer = torch.optim.AdamW(
        model.parameters(), CONFIG.learning_rate, weight_decay=CONFIG.weight_decay, fused=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, CONFIG.learning_rate, total_steps=CONFIG.epochs * batches + 1
    )

    def images_of(some: Any) -> torch.Tensor:
        return torch.from_numpy(cache.images[some]).permute(0, 3, 1, 2).float().contiguous() / 255

    def masks_of(some: Any) -> torch.Tensor:
        return torch.from_numpy(cache.masks[some])[:, None].float()

    def predict(keys: list[str]) -> torch.Tensor:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            return model.predict(
                images_of([cache.index[key] for key in keys]), torch.zeros(len(keys), dtype=torch.int64)
            )

    def parts(keys: list[str]) -> list[list[str]]:
        return [keys[start : start + CONFIG.batch_size] for start in range(0, len(keys), CONFIG.batch_size)]

    best, kept = -1.0, None
    for _ in range(CONFIG.epochs):
        model.train()
        for some in np.split(random.permutation(rows), batches):
            with torch.no_grad():
                numbers = torch.zeros(len(some), dtype=torch.int64)
                augmented = augment(Batch(images_of(some), masks_of(some), numbers, numbers, [""] * len(some)))
                images, masks = augmented.images, augmented.masks
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                loss, _ = model.training_loss(SimpleNamespace(images=images, masks=masks), None)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        model.eval()
        dice = []
        for keys in parts(list(data.score)):
            found, true = predict(keys) > 0, masks_of([cache.index[key] for key in keys]) > 0
            dice += (2 * (found & true).sum((1, 2, 3)) / (found.sum((1, 2, 3)) + true.sum((1, 2, 3)))).tolist()
        if float(np.mean(dice)) > best:
            best, kept = float(np.mean(dice)), copy.deepcopy(model.state_dict())
    if kept is not None:
        model.load_state_dict(kept)
    model.eval()
    results = []
    for keys in parts(test):
        for key, logits in zip(keys, predict(keys).float(), strict=True):
            sample = data.samples[key]
            native = F.interpolate(logits[None], (sample.height, sample.width), mode="bilinear", align_corners=False)
            results.append(evaluate_pair(native[0, 0].numpy() > 0, read_mask(sample.mask)))
    return results


@pytest.fixture
def material(tmp_path: Path) -> tuple[TrainingData, list[str]]:
    """16 images to train on, 4 to select on, 10 of another domain to test on."""
    write_phantoms(tmp_path / "data", images_per_domain=10, image_size=192, modalities=["dermoscopy"])
    dataset = Dataset.open(tmp_path / "data")
    domains = [[s.key for s in dataset.samples if s.domain == domain] for domain in dataset.domains("dermoscopy")]
    cache = ArrayCache.open(dataset.samples, CONFIG.image_size, tmp_path / "cache")
    train, validation = [*domains[0][:8], *domains[1][:8]], [*domains[0][8:], *domains[1][8:]]
    return TrainingData(cache, dataset.by_key(), ["dermoscopy"], train, validation), domains[2]


@pytest.mark.performance
def test_the_harness_costs_at_most_a_twentieth(
    material: tuple[TrainingData, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, test = material
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    ways: dict[str, Callable[..., list[dict[str, Any]]]] = {"harness": through_the_harness, "by hand": by_hand}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    clock: dict[str, list[float]] = {name: [] for name in ways}
    try:
        for turn in range(ROUNDS + 1):
            # The first turn warms up; then each begins as often as the other.
            for name, way in list(ways.items())[:: 1 if turn % 2 else -1]:
                started, began = time.process_time(), time.perf_counter()
                rows = way(data, test, tmp_path / f"checkpoint{turn}")
                if turn:
                    seconds[name].append(time.process_time() - started)
                    clock[name].append(time.perf_counter() - began)
                assert len(rows) == len(test)
    finally:
        torch.set_num_threads(threads)
    ratio = median(seconds["harness"]) / median(seconds["by hand"])
    with capsys.disabled():
        print(
            f"\nharness {median(seconds['harness']):.2f} s, by hand {median(seconds['by hand']):.2f} s,"
            f" ratio {ratio:.3f} (bound {BOUND}); by the clock {median(clock['harness']) / median(clock['by hand']):.3f}"
        )
    assert ratio <= BOUND, seconds
