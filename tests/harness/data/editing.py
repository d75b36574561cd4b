"""Makes datasets faulty, for tests."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.data.dataset import Dataset
from harness.errors import UserError

Row = dict[str, str]


def edit_manifest(root: Path, change: Callable[[list[Row]], list[Row] | None]) -> None:
    """Rewrites the manifest with what `change` makes of its rows."""
    path = root / "manifest.csv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    rows = change(rows) or rows
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows(rows)


def error_of(root: Path) -> str:
    with pytest.raises(UserError) as caught:
        Dataset.open(root)
    return str(caught.value)


def replace(path: Path, pixels: np.ndarray) -> None:
    Image.fromarray(pixels).save(path)
