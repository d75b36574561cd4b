"""Two labs, the folder of what they sent, and the site of it; each made once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.hostile import ATTACKS
from support.submissions import packed, write_lab

from reports.submissions.entries import read_entries
from reports.submissions.site import Site, build_site

_DAY = 86_400


@pytest.fixture(scope="session")
def data(shared_dataset: Path) -> Path:
    return shared_dataset


@pytest.fixture(scope="session")
def labs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What each lab sent, masks included: `second` is better than `first`."""
    root = tmp_path_factory.mktemp("labs")
    first = write_lab(root / "first", data, {"unet": 4, "otsu": 8}, cards={"otsu": {"trivial_baseline": True}})
    second = write_lab(root / "second", data, {"unet": 2, "boxed": 1}, cards={"boxed": {"prompt": "oracle box"}})
    return {
        "first": packed(first, name="First lab", licence="CC0").content,
        "second": packed(second, name="Second lab").content,
        "without": packed(second, with_masks=False).content,
    }


@pytest.fixture(scope="session")
def folder(labs: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file a day: two honest ones, one without masks, and attacks that end in three ways."""
    root = tmp_path_factory.mktemp("submissions")
    attacks = {
        name: ATTACKS[name].make(labs["second"]) for name in ("scripts in names", "traversal", "forged Dice with masks")
    }
    for day, (name, content) in enumerate({**labs, **attacks}.items()):
        path = root / f"{name.replace(' ', '_')}.zip"
        path.write_bytes(content)
        os.utime(path, (day * _DAY, day * _DAY))
    (root / "README.md").write_text("Not a submission.")
    return root


@pytest.fixture(scope="session")
def site(folder: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Site:
    return build_site(read_entries(folder, data), tmp_path_factory.mktemp("site"))
