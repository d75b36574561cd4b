"""What a submission is made of: its members, their columns, and how large each may be.

A submission is a zip of these members and no others. It holds neither images nor reference masks.

| member | what it holds |
|---|---|
| submission.json | who, methods' cards, settings, splits, provenance, SHA-256 of the other members: see submission.schema.json |
| splits.parquet | the images of each split by role |
| images.parquet | a row for each trial and image |
| predictions.parquet | predicted masks as PNG; may be left out |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import pandas as pd

from harness.errors import UserError
from harness.trial_spec import TrialSpec

SCHEMA_VERSION = 1
"""Rises when a member changes its meaning; a reader refuses other versions."""
MANIFEST, SPLITS, IMAGES, PREDICTIONS = "submission.json", "splits.parquet", "images.parquet", "predictions.parquet"
MEMBERS = (MANIFEST, SPLITS, IMAGES, PREDICTIONS)
"""In the order in which they stand in the file."""

MIB = 1 << 20
LARGEST_FILE = 512 * MIB
"""Of a submission as it lies on the disk."""
LARGEST = MappingProxyType({MANIFEST: 16 * MIB, SPLITS: 64 * MIB, IMAGES: 256 * MIB, PREDICTIONS: 512 * MIB})
"""Of each member once it is unpacked."""
MOST_ROWS = 250_000
"""Of each table."""
MOST_IMAGES, MOST_DOMAINS = 50_000, 300
"""Of a submission: intervals take memory for each of them."""
MOST_PROTOCOLS = 20
"""Of a submission: the splits of each are made anew."""
LONGEST_TEXT = 2_000
"""Characters of any text in submission.json."""
LONGEST_LINE = 300
"""Characters of a name, a licence and the like, as the schema says it."""
LONGEST_NAME = 700
"""Bytes of a key, a subject or another text in a table."""
LARGEST_MASK = 4 * MIB
"""Of one predicted mask as a PNG."""
DEEPEST = 12
"""Lists and mappings inside each other in submission.json."""

METRICS = ("dice", "hd95", "nsd", "hd95_max", "precision", "recall", "boundary_iou", "cldice")
"""The metrics that a submission has columns for: those that reports show."""
EMPTY = ("none", "both", "prediction", "reference")
ROLES = ("test", "validation")

# Column -> kind: int, float, text or bytes; "?" where it may be missing.
SPLIT_COLUMNS = MappingProxyType({"split": "int", "role": "text", "key": "text"})
IMAGE_COLUMNS = MappingProxyType(
    {
        "trial": "int", "role": "text", "key": "text", "subject": "text?", "width": "int", "height": "int",
        **dict.fromkeys(METRICS, "float?"),
        "reference_pixels": "int", "predicted_pixels": "int", "empty": "text", "guessed_modality": "text?",
    }
)  # fmt: skip
PREDICTION_COLUMNS = MappingProxyType({"trial": "int", "role": "text", "key": "text", "mask": "bytes"})
COLUMNS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {SPLITS: SPLIT_COLUMNS, IMAGES: IMAGE_COLUMNS, PREDICTIONS: PREDICTION_COLUMNS}
)


class Refused(UserError):
    """A submission that can't be used: says what was expected and what was found."""


@dataclass(frozen=True)
class SubmittedTrial:
    """One trial of a submission.

    Attributes:
        method: place in `Submission.methods`.
        metrics: metric -> the version that its column was computed by.
        summary: epochs, chosen_epoch, images_seen, seconds; those that are known.
    """

    method: int
    spec: TrialSpec
    metrics: dict[str, int]
    summary: dict[str, float]
    provenance: dict[str, object]


@dataclass(frozen=True)
class Submission:
    """A submission whose file was found sound. What it claims may be untrue all the same: see `verifying`.

    Attributes:
        digest: SHA-256 of the file.
        bytes: its size.
        manifest: the content of submission.json.
        trials: what ran, as specs; paths and hosts are not in them.
        images: `IMAGE_COLUMNS`, one row for each trial and image.
        predictions: `PREDICTION_COLUMNS`, or None where they were left out.
    """

    digest: str
    bytes: int
    manifest: dict[str, object]
    trials: list[SubmittedTrial]
    images: pd.DataFrame
    predictions: pd.DataFrame | None
