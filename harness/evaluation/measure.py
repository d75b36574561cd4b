"""`measure_image`: the row of `samples.parquet` for one image, whoever made the mask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.metrics import PixelCounts, evaluate_pair

if TYPE_CHECKING:
    from harness.config import MetricsConfig
    from harness.data.folder.sample import Sample
    from harness.metrics.masks import Mask


def measure_image(sample: Sample, predicted: Mask, role: str, metrics: MetricsConfig) -> dict[str, Any]:
    """Measures a predicted mask (H, W) bool, at the reference mask's own size.

    Args:
        role: `test` or `validation`.

    Returns:
        key, modality, domain, id, subject, role, width, height, the columns of `harness.metrics.evaluate_pair` (distances
        in pixels of the native mask), reference_pixels, predicted_pixels, empty.
    """
    from harness.data.folder.images import read_mask

    reference = read_mask(sample.mask)
    counts = PixelCounts.of(predicted, reference)
    return {
        "key": sample.key,
        "modality": sample.modality,
        "domain": sample.domain,
        "id": sample.id,
        "subject": sample.subject,
        "role": role,
        "width": sample.width,
        "height": sample.height,
        **evaluate_pair(predicted, reference, nsd_tolerance=metrics.nsd_tolerance, empty=metrics.empty),
        "reference_pixels": counts.reference,
        "predicted_pixels": counts.predicted,
        "empty": counts.empty,
    }
