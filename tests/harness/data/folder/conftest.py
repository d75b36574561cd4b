"""What tests of layouts and manifests share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def own_manifest(shared_dataset: Path, tmp_path: Path) -> Path:
    """The small dataset with a manifest to be changed; its images are links to those that all tests share."""
    root = tmp_path / "small_dataset"
    root.mkdir()
    shutil.copy(shared_dataset / "manifest.csv", root)
    for folder in shared_dataset.iterdir():
        if folder.is_dir():
            (root / folder.name).symlink_to(folder)
    return root
