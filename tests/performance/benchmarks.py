"""What the bench's speed is watched by: `make perf` times it, `make perf-compare` times it in two revisions.

A benchmark is a function that makes what it needs in a folder and returns what is timed: a call of a tenth of a second to a
few seconds. Its imports are its own, so that one that fails leaves the others be.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

Run = Callable[[], object]
Prepare = Callable[[Path], Run]
BENCHMARKS: dict[str, Prepare] = {}
SIDE = 64


def benchmark(prepare: Prepare) -> Prepare:
    BENCHMARKS[prepare.__name__] = prepare
    return prepare


@benchmark
def import_harness_and_help(folder: Path) -> Run:
    return lambda: subprocess.run([sys.executable, "-m", "harness", "--help"], check=True, stdout=subprocess.DEVNULL)


@benchmark
def metrics_of_lesions(folder: Path) -> Run:
    from harness.metrics import evaluate_pair
    from tests.performance.masks import lesion_pair

    pairs = [lesion_pair(1024, seed) for seed in range(3)]
    return lambda: [evaluate_pair(*pair) for pair in pairs]


@benchmark
def metrics_of_vessels(folder: Path) -> Run:
    from harness.metrics import evaluate_pair
    from tests.performance.masks import vessel_pair

    pairs = [vessel_pair(1024, seed) for seed in range(2)]
    return lambda: [evaluate_pair(*pair) for pair in pairs]


@benchmark
def decoding(folder: Path) -> Run:
    import shutil

    from harness.data.batches.array_cache import ArrayCache

    samples = phantoms(folder, 4, 512).samples

    def decode() -> None:
        shutil.rmtree(folder / "cache", ignore_errors=True)
        ArrayCache.open(samples, 256, folder / "cache")

    return decode


@benchmark
def opening_a_dataset(folder: Path) -> Run:
    from harness.data.dataset import Dataset

    phantoms(folder, 30, 64)
    return lambda: Dataset.open(folder / "data").by_key()


@benchmark
def planning(folder: Path) -> Run:
    from harness.config.loading import load_config
    from harness.planning.plan import build_plan

    phantoms(folder, 20, 64)
    words = ["suite=domain_generalization", f"data.root={folder / 'data'}", f"store.root={folder}"]
    return lambda: build_plan(load_config(words))


@benchmark
def augmentation(folder: Path) -> Run:
    import torch

    from harness.data.batches.augmentation import Augmentation
    from harness.data.batches.loader import Batch

    generator = torch.Generator().manual_seed(0)
    images = torch.rand(16, 3, 256, 256, generator=generator)
    numbers = torch.zeros(16, dtype=torch.int64)
    batch, augment = Batch(images, (images[:, :1] > 0.5).float(), numbers, numbers, [""] * 16), Augmentation()
    return lambda: [augment(batch) for _ in range(4)]


@benchmark
def training_epoch(folder: Path) -> Run:
    """Of a network of 27 weights: what the loop itself costs."""
    from tests.baselines.algorithms.toy import PlainMethod

    return fitting(folder, PlainMethod, images=24, epochs=2)


@benchmark
def training_delightsam(folder: Path) -> Run:
    from delightsam.training.method import DeLightSAMMethod

    return fitting(folder, DeLightSAMMethod, images=8, epochs=1)


@benchmark
def predicting(folder: Path) -> Run:
    """De-LightSAM as trials test it, images at their native size."""
    import torch

    from delightsam.training.method import DeLightSAMMethod
    from harness.data.batches.array_cache import ArrayCache
    from harness.inference.predict import predict_images

    dataset = phantoms(folder, 4, 256)
    keys = sorted(dataset.by_key())
    options: dict[str, Any] = {
        "cache": ArrayCache.open(dataset.samples, 128, folder / "cache"), "samples": dataset.by_key(),
        "modalities": ["dermoscopy"], "batch_size": 4, "device": torch.device("cpu"), "amp": "off",
    }  # fmt: skip
    method = DeLightSAMMethod(["dermoscopy"])
    return lambda: list(predict_images(method, keys, **options))


@benchmark
def forward_of_delightsam(folder: Path) -> Run:
    """The plain model, one image of 256 px."""
    import torch

    from delightsam.training.method import DeLightSAMMethod

    method = DeLightSAMMethod(["dermoscopy"]).eval()
    image, modality = torch.rand(1, 3, 256, 256), torch.zeros(1, dtype=torch.int64)

    def forward() -> None:
        with torch.inference_mode():
            method.predict(image, modality)

    return forward


@benchmark
def reading_a_store(folder: Path) -> Run:
    from harness.store.store import Store
    from reports.records.runs import read_runs
    from tests.reports.big_store import write_big_store

    root, _ = write_big_store(folder / "store", methods=3, seeds=1, images=100)
    store = Store(root)
    return lambda: read_runs([(store, suite) for suite in store.suites()])


@benchmark
def report(folder: Path) -> Run:
    """All outputs but the figures, whose time is Matplotlib's."""
    import reports.figures.all_figures as drawing
    from reports.build import build_report
    from tests.reports.big_store import write_big_store

    drawing.draw_figures = lambda *_, **__: []
    root, run = write_big_store(folder / "store", methods=2, seeds=1, images=400)
    return lambda: build_report(root, run, folder / "out")


@benchmark
def paired_statistics(folder: Path) -> Run:
    import numpy as np

    from harness.statistics.paired import paired_tests

    values = np.random.default_rng(0).normal(0.8, 0.1, (300, 6))
    return lambda: paired_tests(values, [f"d{n % 3}" for n in range(300)], [f"s{n}" for n in range(300)])


def phantoms(folder: Path, images_per_domain: int, size: int) -> Any:
    from harness.data.dataset import Dataset
    from harness.data.phantoms import write_phantoms

    write_phantoms(folder / "data", images_per_domain=images_per_domain, image_size=size, modalities=["dermoscopy"])
    return Dataset.open(folder / "data")


def fitting(folder: Path, build: Callable[[list[str]], Any], *, images: int, epochs: int) -> Run:
    from itertools import count

    import torch

    from harness.config import TrainingConfig
    from harness.data.batches.array_cache import ArrayCache
    from harness.training.callbacks import usual_callbacks
    from harness.training.fit import TrainingData, fit

    dataset = phantoms(folder, 12, SIDE)
    cache = ArrayCache.open(dataset.samples, SIDE, folder / "cache")
    keys = sorted(dataset.by_key())
    data = TrainingData(cache, dataset.by_key(), ["dermoscopy"], keys[:images], keys[-images // 2 :])
    config, runs = TrainingConfig(image_size=SIDE, epochs=epochs, batch_size=4, amp="off"), count()

    def train() -> None:
        place = folder / f"fit{next(runs)}"
        fit(
            build(["dermoscopy"]),
            data,
            config,
            seed=0,
            device=torch.device("cpu"),
            folder=place,
            callbacks=usual_callbacks(place),
        )

    return train
