"""The measurable look of a dataset, domain by domain: what a shift between domains consists of."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from harness.data.dataset import Dataset
from harness.data.folder.sample import Progress, Sample
from harness.data.reading import read_image
from harness.data.validation.examine import in_threads


@dataclass(frozen=True)
class DomainFingerprint:
    """Figures of one domain.

    Widths and heights are (minimum, median, maximum) in pixels; `foreground` holds the quartiles of the masks' area as
    a fraction of the image; `mean` and `std` are those of all pixels, (red, green, blue), in [0, 1]; each image
    counts alike whatever its size. `subjects` is None when the manifest does not tell them. `white_level` is the largest of
    those images whose format does not tell what is white, None where all tell.
    """

    modality: str
    domain: str
    images: int
    subjects: int | None
    width: tuple[float, float, float]
    height: tuple[float, float, float]
    foreground: tuple[float, float, float]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    white_level: float | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def fingerprint_domains(dataset: Dataset, progress: Progress | None = None) -> list[DomainFingerprint]:
    """Decodes every image once; one entry a domain, in the order of the dataset's modalities and domains."""
    moments = dict(zip([s.key for s in dataset.samples], in_threads(_moments, dataset.samples, progress), strict=True))
    result = []
    for modality in dataset.modalities():
        for domain in dataset.domains(modality):
            samples = [s for s in dataset.samples if (s.modality, s.domain) == (modality, domain)]
            first, second = np.mean([moments[sample.key] for sample in samples], axis=0)
            subjects = {sample.subject for sample in samples}
            quartiles = np.quantile([sample.foreground_fraction for sample in samples], [0.25, 0.5, 0.75])
            result.append(
                DomainFingerprint(
                    modality=modality,
                    domain=domain,
                    images=len(samples),
                    subjects=None if None in subjects else len(subjects),
                    width=_spread([sample.width for sample in samples]),
                    height=_spread([sample.height for sample in samples]),
                    foreground=_triple(quartiles),
                    mean=_triple(first),
                    std=_triple(np.sqrt(np.maximum(second - first**2, 0))),
                    white_level=max((sample.white_level for sample in samples if sample.white_level), default=None),
                )
            )
    return result


def _moments(sample: Sample) -> np.ndarray[Any, np.dtype[np.float64]]:
    """(2, 3): mean and mean square of each channel, in [0, 1]."""
    pixels = read_image(sample.image, sample.white_level).reshape(-1, 3)
    counts = np.stack([np.bincount(pixels[:, channel], minlength=256) for channel in range(3)]) / len(pixels)
    levels = np.arange(256) / 255
    return np.stack([counts @ levels, counts @ levels**2])


def _spread(values: list[int]) -> tuple[float, float, float]:
    return float(min(values)), float(statistics.median(values)), float(max(values))


def _triple(values: np.ndarray[Any, np.dtype[np.float64]]) -> tuple[float, float, float]:
    one, two, three = (round(float(value), 6) for value in values)
    return one, two, three
