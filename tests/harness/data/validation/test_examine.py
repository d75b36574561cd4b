"""What is doubtful in files is said by name: depth without a white level, turned pictures, masks read by a rule, odd names."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from harness.data.dataset import Dataset
from harness.data.fingerprint import fingerprint_domains
from harness.data.validation.integrity import verify
from harness.errors import UserError
from tests.support.containers import palette

MASK = np.zeros((12, 20), bool)
MASK[3:8, 4:15] = True


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two domains of one modality, three pairs each, no manifest."""
    generator = np.random.default_rng(0)
    for domain in ("a", "b"):
        for part in ("images", "masks"):
            (tmp_path / "data/xray" / domain / part).mkdir(parents=True)
        for number in range(3):
            picture = generator.integers(0, 256, (*MASK.shape, 3), dtype=np.uint8)
            Image.fromarray(picture).save(tmp_path / f"data/xray/{domain}/images/{number}.png")
            Image.fromarray(MASK).save(tmp_path / f"data/xray/{domain}/masks/{number}.png")
    return tmp_path / "data"


def image(root: Path, domain: str, number: int, values: np.ndarray, suffix: str = "png") -> None:
    (root / f"xray/{domain}/images/{number}.png").unlink()
    path = root / f"xray/{domain}/images/{number}.{suffix}"
    if suffix == "tif":
        tifffile.imwrite(path, values)
    else:
        Image.fromarray(values).save(path)


def said(root: Path) -> dict[str, list[str]]:
    """kind -> files, of problems and warnings."""
    report = verify(root)
    found: dict[str, list[str]] = {}
    for problem in (*report.problems, *report.warnings):
        found.setdefault(problem.kind, []).append(problem.file)
    return found


class TestWhiteLevel:
    @pytest.mark.parametrize(
        ("highest", "dtype", "level"),
        [
            (200, "uint16", 255), (1000, "uint16", 1023), (4000, "uint16", 4095), (16_000, "uint16", 16_383),
            (60_000, "uint16", 65_535), (0.9, "float32", 1), (4000, "int32", 4095), (0, "uint16", 255),
        ],
    )  # fmt: skip
    def test_is_that_of_the_whole_domain(self, root: Path, highest: float, dtype: str, level: float) -> None:
        """One nearly black image beside a bright one is nearly black."""
        for number, share in enumerate((1.0, 0.01, 0.5)):
            image(root, "b", number, np.full(MASK.shape, highest * share).astype(dtype), "tif")
        dataset = Dataset.open(root)
        levels = {sample.domain: sample.white_level for sample in dataset.samples}
        assert levels == {"a": None, "b": level}
        (_, domain) = fingerprint_domains(dataset)
        stored = np.array([1.0, 0.01, 0.5]) * highest
        expected = np.mean(stored.astype(dtype))
        assert domain.mean[0] == pytest.approx(expected / level, abs=0.005)
        assert domain.white_level == level and fingerprint_domains(dataset)[0].white_level is None
        assert Dataset.open(root).samples == dataset.samples, "the manifest that was written says the same"

    def test_is_said_unless_it_is_that_of_16_bits(self, root: Path) -> None:
        image(root, "a", 0, np.full(MASK.shape, 60_000, np.uint16))
        image(root, "b", 0, np.full(MASK.shape, 4000, np.uint16))
        assert said(root)["white level"] == ["xray/b"]

    def test_stated_in_a_manifest_counts_and_is_part_of_the_content(self, root: Path) -> None:
        image(root, "b", 0, np.full(MASK.shape, 4000, np.uint16))
        found = Dataset.open(root)
        text = (root / "manifest.csv").read_text()
        (root / "manifest.csv").write_text(text.replace(",4095", ",65535"))
        stated = Dataset.open(root)
        assert {sample.white_level for sample in stated.samples} == {None, 65_535}
        assert stated.fingerprint() != found.fingerprint()
        (root / "manifest.csv").write_text(text.replace(",4095", ",3000"))
        with pytest.raises(UserError, match=r"b/images/0.png: expected values from 0 to 3000, its white_level"):
            Dataset.open(root)

    def test_a_manifest_without_the_column_gets_the_same(self, root: Path) -> None:
        image(root, "b", 0, np.full(MASK.shape, 4000, np.uint16))
        found = Dataset.open(root)
        lines = [line.rsplit(",", 1)[0] for line in (root / "manifest.csv").read_text().splitlines()]
        (root / "manifest.csv").write_text("\n".join(lines))
        for _ in range(2):  # measured, then from the verdict
            assert Dataset.open(root).samples == found.samples

    @pytest.mark.parametrize(
        "values",
        [np.full(MASK.shape, 1.5, np.float32), np.full(MASK.shape, -3, np.int16), np.full(MASK.shape, 70_000, np.int32),
         np.full(MASK.shape, np.nan, np.float32), np.full(MASK.shape, np.inf, np.float64)],
    )  # fmt: skip
    def test_what_fits_none_is_refused_by_name(self, root: Path, values: np.ndarray) -> None:
        image(root, "b", 0, values, "tif")
        with pytest.raises(UserError, match=r"xray/b/images/0\.tif: expected"):
            Dataset.open(root)


class TestOrientation:
    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("square", [True, False])
    def test_of_an_image_whose_mask_has_none(self, root: Path, orientation: int, square: bool) -> None:
        """The sizes tell, or nobody can."""
        sides = (12, 12) if square else (20, 12)
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.new("RGB", sides, (9, 9, 99)).save(root / "xray/b/images/0.png", exif=exif)
        shown = sides[::-1] if orientation >= 5 else sides
        Image.new("L", shown).save(root / "xray/b/masks/0.png")
        found = said(root)
        unclear = orientation > 1 and (square or orientation < 5)
        assert ("orientation unclear" in found) == unclear and "sizes differ" not in found

    def test_the_same_tag_in_both_is_clear(self, root: Path) -> None:
        exif = Image.Exif()
        exif[0x0112] = 3
        Image.new("RGB", (20, 12), (9, 9, 99)).save(root / "xray/b/images/0.png", exif=exif)
        Image.fromarray(MASK.astype(np.uint8) * 255).save(root / "xray/b/masks/0.png", exif=exif)
        assert "orientation unclear" not in said(root)


class TestMasks:
    def test_read_by_a_rule_or_odd_they_are_said_and_drawn(self, root: Path, tmp_path: Path) -> None:
        masks = root / "xray/a/masks"
        palette(MASK, [(0, 0, 0), (255, 0, 0)]).save(masks / "0.png")
        (masks / "1.png").unlink()
        Image.fromarray(MASK.astype(np.uint8) * 255).save(masks / "1.jpg", quality=90)
        Image.fromarray(~MASK).save(masks / "2.png")
        masks = root / "xray/b/masks"
        Image.fromarray(np.ones(MASK.shape, bool)).save(masks / "0.png")
        Image.fromarray(MASK.astype(np.uint8) * 7).save(masks / "1.png")
        report = verify(root, pictures=tmp_path / "pictures")
        assert [problem.file for problem in report.problems] == ["xray/b/masks/1.png"]
        kinds = {problem.file: problem.kind for problem in report.warnings}
        assert kinds == {
            "xray/a/masks/0.png": "how a mask is read",
            "xray/a/masks/1.jpg": "how a mask is read",
            "xray/a/masks/2.png": "inverted mask",
            "xray/b/masks/0.png": "full mask",
        }
        assert report.pictures.keys() == {*kinds, "xray/b/masks/1.png"}
        panels = np.asarray(Image.open(report.pictures["xray/a/masks/1.jpg"]))
        read = panels[: MASK.shape[0], 520 : 520 + MASK.shape[1]]
        np.testing.assert_array_equal(read[..., 0] > 0, MASK)
        assert str(tmp_path / "pictures") in report.text()

    def test_a_home_that_cannot_be_written_to_costs_the_pictures_alone(
        self, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        Image.fromarray(~MASK).save(root / "xray/a/masks/2.png")
        report = verify(root)
        assert report.ok and report.pictures == {} and report.warnings

    def test_warnings_come_again_with_a_kept_verdict(
        self, root: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Image.fromarray(~MASK).save(root / "xray/a/masks/2.png")
        for _ in range(2):
            caplog.clear()
            monkeypatch.setattr("harness.data.dataset._said", set())
            Dataset.open(root)
            assert "xray/a/masks/2.png: looks inverted" in caplog.text
        caplog.clear()
        Dataset.open(root)
        assert "looks inverted" not in caplog.text, "once in a process"


class TestNames:
    @pytest.mark.parametrize(
        ("name", "why"),
        [
            (" 7", "blank"), ("7 ", "blank"), ("7\t8", "control"), ("7\n8", "control"), ("7\\8", "backslash"), ("7\x1b[31m", "control"),
            ("\u00a07", "blank"), ("7\u2028", "blank"), ("7\u20288", "control"), ("x" * 201, "201 bytes"), (os.fsdecode(b"\xff7"), "no UTF-8"),
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("level", ["id", "domain", "modality"])
    def test_that_would_not_come_back_are_refused_at_first_sight(
        self, root: Path, name: str, why: str, level: str
    ) -> None:
        old = {"id": root / "xray/a/images/0.png", "domain": root / "xray/a", "modality": root / "xray"}[level]
        old.rename(old.with_name(name + old.suffix))
        if level == "id":
            (root / "xray/a/masks/0.png").rename(root / f"xray/a/masks/{name}.png")
        for _ in range(2):
            with pytest.raises(UserError, match="expected a name that paths and tables keep as it is") as caught:
                Dataset.open(root)
            assert why in str(caught.value)

    @pytest.mark.parametrize(
        "name", ["7,8", '"7"', "7#8%d", "[7]", "${7}", "é", "7 8", "7'8", "-7", "007", "7.0", "null", "*", "~7"]
    )
    def test_others_are_kept_as_they_are(self, root: Path, name: str) -> None:
        for part in ("images", "masks"):
            (root / f"xray/a/{part}/0.png").rename(root / f"xray/a/{part}/{name}.png")
        first, second = Dataset.open(root), Dataset.open(root)
        assert f"xray/a/{name}" in first.by_key() and first.samples == second.samples
        assert first.fingerprint() == second.fingerprint()

    def test_that_differ_in_case_alone_are_pointed_out(self, root: Path) -> None:
        for part in ("images", "masks"):
            for old, new in (("0", "A"), ("1", "a")):
                (root / f"xray/a/{part}/{old}.png").rename(root / f"xray/a/{part}/{new}.png")
        assert said(root)["names alike"] == ["xray/a/images/a.png"]


class TestLinks:
    @pytest.mark.parametrize(
        "place", ["xray/a/images/5.png", "xray/a/masks/5.png", "xray/a/images/0.png", "xray/c", "fundus"]
    )
    @pytest.mark.parametrize("target", ["gone", "itself"])
    def test_to_nothing_or_in_a_circle_are_named(self, root: Path, place: str, target: str) -> None:
        link = root / place
        link.unlink(missing_ok=True)
        link.symlink_to(link if target == "itself" else root / "gone")
        assert said(root)["dead link"] == [place]
        with pytest.raises(UserError, match=place):
            Dataset.open(root)

    def test_that_die_after_the_manifest_was_written(self, root: Path) -> None:
        Dataset.open(root)
        (root / "xray/a/masks/1.png").unlink()
        (root / "xray/a/masks/1.png").symlink_to("gone.png")
        with pytest.raises(UserError, match=r"xray/a/masks/1\.png: expected what the link leads to"):
            Dataset.open(root)

    def test_folders_and_files_that_are_not_read_are_said(self, root: Path) -> None:
        (root / "xray/a/images/more").mkdir()
        (root / "xray/a/masks/7.dcm").write_text("")
        found = said(root)
        assert found["unread folder"] == ["xray/a/images/more"] and found["unread file"] == ["xray/a/masks/7.dcm"]

    def test_to_a_domain_elsewhere_are_followed(self, root: Path, tmp_path: Path) -> None:
        (root / "xray/b").rename(tmp_path / "elsewhere")
        (root / "xray/b").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
        assert len(Dataset.open(root).samples) == 6
