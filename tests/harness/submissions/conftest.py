"""An honest submission, packed once for all tests that tamper with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.submissions import packed, write_lab


@pytest.fixture(scope="session")
def data(shared_dataset: Path) -> Path:
    """The verifier's own copy of the data."""
    return shared_dataset


@pytest.fixture(scope="session")
def honest(data: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Two methods over three folds, with masks."""
    store = write_lab(
        tmp_path_factory.mktemp("lab"), data, {"unet": 2, "otsu": 5}, cards={"otsu": {"trivial_baseline": True}}
    )
    return packed(store, name="Our lab", contact="us@example.org", licence="CC-BY-4.0").content
