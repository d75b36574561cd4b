"""Every dataset of the catalogue, in every way it is packed: the right pairs come out, to the pixel, and nothing else."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.data.dataset import Dataset
from harness.data.sources.archives import read_sources, unpack_nested
from harness.data.sources.pairing import pair_members
from harness.data.sources.prepare import JOURNAL
from harness.data.sources.public import prepare_public
from harness.data.sources.recipe import Recipe, recipe, recipes
from tests.support.imitations import IMITATIONS, Expected, Imitation

RECIPES = list(recipes().values())
MODALITIES = {"dermoscopy", "xray", "fundus", "colonoscopy", "ultrasound", "microscopy", "fundus_disc", "fundus_cup"}
NEEDED = [
    "isic2016",
    "isic2017",
    "isic2018",
    "ph2",
    "ham10000",
    "shenzhen",
    "montgomery",
    "jsrt",
    "nih",
    "covid_qu_ex",
    "drive",
    "stare",
    "chase_db1",
    "hrf",
    "drishti_gs",
    "rim_one",
    "refuge",
    "cvc_clinicdb",
    "cvc_colondb",
    "etis",
    "cvc_300",
    "kvasir_seg",
    "polypgen",
    "busi",
    "udiat",
    "bus_bra",
    "ddti",
    "tn3k",
    "stu_hospital",
    "dsb2018",
    "monuseg",
    "tnbc",
    "cryonuseg",
    "nuinsseg",
]


@pytest.mark.parametrize("imitation", IMITATIONS, ids=str)
def test_a_download_becomes_its_pairs(imitation: Imitation, tmp_path: Path) -> None:
    download, known = imitation.download(), recipe(imitation.dataset)
    (tmp_path / "downloads").mkdir()
    sources = download.pack(tmp_path / "downloads")
    root = tmp_path / "root"

    preparation = prepare_public(known, sources, root)

    assert preparation.outcome.failed == []
    assert {problem.file for problem in preparation.skipped} == download.skipped
    rows = {(row["modality"], row["id"]): row for row in csv.DictReader((root / "manifest.csv").open(encoding="utf-8"))}
    assert set(rows) == {(pair.modality, pair.id) for pair in download.expected}
    splits = _splits(root)
    for pair in download.expected:
        _check(root, imitation.dataset, rows[pair.modality, pair.id], pair)
        assert splits[pair.modality, pair.id] == (pair.split or None)
    written = {path for path in root.glob("*/*/*/*") if path.is_file()}
    assert len(written) == 2 * len(download.expected)
    assert _layouts_used(known, sources, tmp_path) == imitation.layouts
    dataset = Dataset.open(root)
    assert len(dataset.samples) == len(download.expected)
    assert {sample.id: sample.subject or "" for sample in dataset.samples} == {
        p.id: p.subject for p in download.expected
    }


def _check(root: Path, domain: str, row: dict[str, str], pair: Expected) -> None:
    assert row["domain"] == domain
    assert row.get("subject", "") == pair.subject
    assert row.get("white_level", "").removesuffix(".0") == pair.white_level
    mask = np.asarray(Image.open(root / row["mask"]))
    assert set(np.unique(mask)) <= {0, 255}
    np.testing.assert_array_equal(mask == 255, pair.mask, err_msg=pair.id)
    assert pair.mask.any()
    if isinstance(pair.image, bytes):
        assert (root / row["image"]).read_bytes() == pair.image, pair.id
    else:
        np.testing.assert_array_equal(np.asarray(Image.open(root / row["image"])), pair.image, err_msg=pair.id)


def _splits(root: Path) -> dict[tuple[str, str], str | None]:
    """The official split of each pair, which is kept with what was prepared."""
    lines = [json.loads(line) for file in root.glob("*/*/" + JOURNAL) for line in file.read_text("utf-8").splitlines()]
    return {(line["modality"], line["id"]): line["split"] for line in lines}


def _layouts_used(known: Recipe, sources: list[Path], folder: Path) -> set[int]:
    members = read_sources(sources, folder / "unpacked")
    pairs = pair_members(known, members).pairs
    pairs = pairs or pair_members(known, unpack_nested(members, folder / "nested")).pairs
    return {known.layouts.index(pair.layout) for pair in pairs}


class TestTheCatalogue:
    def test_every_layout_is_imitated(self) -> None:
        imitated = {(one.dataset, layout) for one in IMITATIONS for layout in one.layouts}
        assert imitated == {(known.name, place) for known in RECIPES for place in range(len(known.layouts))}

    def test_what_people_ask_for_is_there(self) -> None:
        assert len(RECIPES) >= 30
        assert set(NEEDED) <= set(recipes())

    @pytest.mark.parametrize("known", RECIPES, ids=lambda known: known.name)
    def test_an_entry_is_complete(self, known: Recipe) -> None:
        assert known.traps
        assert re.match(r"https?://\S+$", known.home)
        assert known.domain == known.name
        assert {known.modality, *known.modalities} <= MODALITIES
        for layout in known.layouts:
            assert layout.split in ("", "train", "validation", "test")
            names = set(layout.image_pattern.groupindex)
            assert set(re.findall(r"\{(\w+)\}", layout.id + layout.subject + layout.split)) <= names

    def test_cvc_clinicdb_has_29_sequences_without_a_gap(self) -> None:
        subjects = recipe("cvc_clinicdb").subjects
        assert subjects is not None and len(ranges := subjects.ranges) == 29
        assert [number for first, last in ranges for number in range(first, last + 1)] == list(range(1, 613))
