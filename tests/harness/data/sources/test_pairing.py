"""What recipes rely on: names of folders and archives, tables of subjects, outlines by image, masks of other kinds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.data.sources.archives import read_sources
from harness.data.sources.masks import read_part
from harness.data.sources.outlines import read_outlines
from harness.data.sources.pairing import pair_members
from harness.data.sources.recipe import Layout, Recipe, Subjects, recipe
from harness.errors import UserError
from tests.support.imitations.download import Download
from tests.support.imitations.encode import ddti_xml, filled, ppm_gz, table

BASE = replace(recipe("montgomery"), name="toy", domain="toy", subjects=None)


def toy(layout: Layout, **more: object) -> Recipe:
    return replace(BASE, layouts=(layout,), **more)


def packed(folder: Path, archive: str, *names: str) -> Path:
    download = Download()
    download.junk(archive, *names)
    return download.pack(folder)[0]


class TestTheNameOfTheSource:
    KNOWN = toy(Layout("Polyps/images/{id}.png", ("Polyps/masks/{id}.png",)))

    @pytest.mark.parametrize("archive", ["Polyps", "polyps.zip", "Polyps.tar", "Polyps.tar.gz"])
    def test_counts_as_a_folder(self, tmp_path: Path, archive: str) -> None:
        source = packed(tmp_path, archive, "images/1.png", "masks/1.png")
        assert [pair.id for pair in pair_members(self.KNOWN, read_sources([source], tmp_path / "s")).pairs] == ["1"]

    def test_of_the_current_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(packed(tmp_path, "Polyps", "images/1.png", "masks/1.png"))
        assert len(pair_members(self.KNOWN, read_sources([Path()], tmp_path / "s")).pairs) == 1

    def test_another_name_does_not_fit(self, tmp_path: Path) -> None:
        source = packed(tmp_path, "Other polyps.zip", "images/1.png", "masks/1.png")
        assert pair_members(self.KNOWN, read_sources([source], tmp_path / "s")).pairs == []

    def test_archives_for_images_and_masks(self, tmp_path: Path) -> None:
        known = toy(Layout("Training_Data/{id}.jpg", ("Training_Truth/{id}_mask.png",)))
        sources = [
            packed(tmp_path, "Training_Data.zip", "1.jpg", "2.jpg"),
            packed(tmp_path, "Training_Truth.zip", "1_mask.png"),
        ]
        pairing = pair_members(known, read_sources(sources, tmp_path / "s"))
        assert [pair.id for pair in pairing.pairs] == ["1"]
        assert [(problem.kind, problem.file) for problem in pairing.skipped] == [("image without mask", "2.jpg")]


class TestSubjectsOfATable:
    KNOWN = toy(
        Layout("images/{id}.png", ("masks/{id}.png",)),
        subjects=Subjects("patients.{ending:csv|tab}", "Image_ID", "patient"),
    )

    def subjects(self, folder: Path, content: bytes, name: str = "patients.csv") -> dict[str, str | None]:
        source = packed(folder, "data", "images/a b.png", "masks/a b.png", "images/c.png", "masks/c.png")
        (source / name).write_bytes(content)
        return {pair.id: pair.subject for pair in pair_members(self.KNOWN, read_sources([source], folder)).pairs}

    @pytest.mark.parametrize("separator", [",", ";", "\t"])
    @pytest.mark.parametrize("name", ["patients.csv", "patients.tab"])
    def test_any_separator(self, tmp_path: Path, separator: str, name: str) -> None:
        rows = [("age", "image_id", "Patient"), ("80", "a b", "P1"), ("50", "c", "P2"), ("1", "d", "P3")]
        assert self.subjects(tmp_path, table(rows, separator), name) == {"a_b": "P1", "c": "P2"}

    def test_a_row_without_a_subject(self, tmp_path: Path) -> None:
        rows = [("image_id", "patient"), ("a b", ""), ("c",)]
        assert self.subjects(tmp_path, table(rows)) == {"a_b": None, "c": None}

    def test_without_the_column(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"patients\.csv: expected a table with the columns image_id and patient"):
            self.subjects(tmp_path, table([("image_id", "age"), ("c", "50")]))


def test_a_split_of_the_path(tmp_path: Path) -> None:
    known = toy(Layout("{part:train|test}/{id}.jpg", ("{part:train|test}/{id}.png",), split="{part}"))
    source = packed(tmp_path, "data", "train/1.jpg", "train/1.png", "test/2.jpg", "test/2.png")
    pairs = pair_members(known, read_sources([source], tmp_path)).pairs
    assert {pair.id: pair.split for pair in pairs} == {"1": "train", "2": "test"}


class TestOutlinesOfDdti:
    BOXES = ((1, 1, 5, 6), (7, 2, 12, 9))

    def file(self, folder: Path, content: bytes) -> Path:
        path = folder / "mask.xml"
        path.write_bytes(content)
        return path

    def test_only_those_of_the_image(self, tmp_path: Path) -> None:
        first, second = self.BOXES
        path = self.file(tmp_path, ddti_xml(7, [(2, [second]), (1, [first]), (12, [(0, 0, 19, 15)])]))
        for name, box in (("7_1.jpg", first), ("7_2.jpg", second)):
            np.testing.assert_array_equal(read_outlines(path, "ddti", (16, 20), name), filled([box], 16, 20))

    def test_two_marks_of_an_image(self, tmp_path: Path) -> None:
        path = self.file(tmp_path, ddti_xml(7, [(1, [box]) for box in self.BOXES]))
        np.testing.assert_array_equal(read_outlines(path, "ddti", (16, 20), "7_1.jpg"), filled(self.BOXES, 16, 20))

    @pytest.mark.parametrize("marks", [[], [(1, [BOXES[0]])], [(2, [])]])
    def test_an_image_without_an_outline_is_no_empty_mask(self, tmp_path: Path, marks: list) -> None:
        with pytest.raises(UserError, match=r"mask\.xml: expected an outline on 7_2\.jpg, found none"):
            read_outlines(self.file(tmp_path, ddti_xml(7, marks)), "ddti", (16, 20), "7_2.jpg")

    def test_damaged(self, tmp_path: Path) -> None:
        content = ddti_xml(7, [(1, self.BOXES)]).replace(b'"points"', b'"dots"')
        with pytest.raises(UserError, match="expected outlines in the format ddti"):
            read_outlines(self.file(tmp_path, content), "ddti", (16, 20), "7_1.jpg")


class TestMasks:
    def test_portable_pictures(self, tmp_path: Path) -> None:
        mask = Download().mask()
        for name, kind in (("mask.ppm", "RGB"), ("mask.pgm", "L")):
            Image.fromarray(mask).convert(kind).save(tmp_path / name)
            np.testing.assert_array_equal(read_part(tmp_path / name, None), mask)

    @pytest.mark.parametrize("content", [b"", b"P6 8 8 255\nshort", b"P6 999999 999999 255\n"])
    def test_a_damaged_portable_picture(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "mask.ppm").write_bytes(content)
        with pytest.raises(UserError, match=r"mask\.ppm: expected"):
            read_part(tmp_path / "mask.ppm", None)

    def test_a_portable_picture_of_greys_is_no_mask(self, tmp_path: Path) -> None:
        Image.fromarray(Download().picture()).save(tmp_path / "mask.ppm")
        with pytest.raises(UserError, match="expected a binary mask"):
            read_part(tmp_path / "mask.ppm", None)

    def test_a_threshold_above_all_values(self, tmp_path: Path) -> None:
        mask = Download().mask()
        Image.fromarray(mask.astype(np.uint8)).save(tmp_path / "mask.png")
        with pytest.raises(UserError, match="expected grey values above 127, found 0 and 1 only"):
            read_part(tmp_path / "mask.png", "> 127")
        np.testing.assert_array_equal(read_part(tmp_path / "mask.png", "> 0"), mask)

    def test_an_empty_mask_stays_empty(self, tmp_path: Path) -> None:
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "mask.png")
        assert not read_part(tmp_path / "mask.png", "> 127").any()


def test_a_damaged_gzip_is_named(tmp_path: Path) -> None:
    from harness.data.sources.prepare import converted

    source = tmp_path / "stare"
    source.mkdir()
    (source / "im0001.ppm.gz").write_bytes(ppm_gz(Download().picture())[:-20])
    (source / "im0001.ah.ppm.gz").write_bytes(ppm_gz(Download().picture()))
    pair = pair_members(recipe("stare"), read_sources([source], tmp_path)).pairs[0]
    with pytest.raises(UserError, match="expected a gzip file, found a damaged one"):
        converted(pair, tmp_path)
