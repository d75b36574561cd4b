"""Samples and loaders that need no files, for tests of batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from harness.data.batches.array_cache import ArrayCache
from harness.data.batches.loader import EpochLoader
from harness.data.batches.pixels import Pixels
from harness.data.folder.sample import Sample

MODALITIES = ["dermoscopy", "ultrasound", "xray"]


def invented(counts: dict[str, int], domains: int = 3) -> tuple[ArrayCache, dict[str, Sample]]:
    """Samples that need no files: (rows of) the cache's arrays hold each sample's number."""
    samples = [
        Sample(modality, f"d{n % domains}", f"i{n:03}", Path(), Path(), 32, 32, 0.5, "", "")
        for modality, count in counts.items()
        for n in range(count)
    ]
    samples.sort(key=lambda sample: sample.key)
    numbers = np.arange(len(samples), dtype=np.uint8)
    images = np.broadcast_to(numbers[:, None, None, None], (len(samples), 32, 32, 3))
    masks = np.broadcast_to(numbers[:, None, None] % 2, (len(samples), 32, 32))
    cache = ArrayCache(images, masks, {sample.key: row for row, sample in enumerate(samples)}, Path())
    return cache, {sample.key: sample for sample in samples}


def make_loader(counts: dict[str, int], batch_size: int, **options: object) -> tuple[EpochLoader, dict[str, Sample]]:
    cache, samples = invented(counts)
    return EpochLoader(Pixels(cache, samples), list(samples), MODALITIES, samples, batch_size, **options), samples  # type: ignore[arg-type]
