"""A metric of one's own, as a user would write it: a module that registers it when it is imported."""

from __future__ import annotations

from harness.metrics import Metric, register
from harness.metrics.mask_pair import MaskPair
from harness.metrics.registry import Settings


def volume_similarity(pair: MaskPair, settings: Settings) -> float:
    both = pair.counts.predicted + pair.counts.reference
    return 1 - abs(pair.counts.predicted - pair.counts.reference) / both


METRIC = Metric(
    name="volume_similarity",
    title="Volume similarity",
    unit="",
    higher_is_better=True,
    digits=2,
    definition="1 - ||P| - |G|| / (|P| + |G|).",
    reference="Taha and Hanbury, BMC Medical Imaging 15, 2015.",
    compute=volume_similarity,
)
register(METRIC)
