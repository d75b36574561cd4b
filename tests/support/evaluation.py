"""Predicting and measuring in one go, without a store between."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from harness.config.schema import MetricsConfig
from harness.data.dataset import Sample
from harness.evaluation.measure import measure_image
from harness.inference.predict import predict_images


def measured_images(
    method: nn.Module, keys: Sequence[str], *, samples: dict[str, Sample], metrics: MetricsConfig, **options: Any
) -> list[dict[str, Any]]:
    """The row of each image; `options` as for `predict_images`."""
    return [
        measure_image(samples[found.key], found.mask, "test", metrics)
        for found in predict_images(method, keys, samples=samples, **options)
    ]
