"""Folders as people bring them: each fault is reported once, with the missing level or the wrong name."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.data.folder.layout import scan_folder
from harness.data.validation.integrity import verify
from harness.errors import UserError
from tests.harness.data.editing import error_of


@pytest.fixture
def root(small_dataset: Path) -> Path:
    (small_dataset / "manifest.csv").unlink()
    return small_dataset


def rename(folder: Path, new: Callable[[str], str]) -> None:
    for path in sorted(folder.iterdir()):
        path.rename(path.with_name(new(path.stem) + path.suffix))


class TestNames:
    @pytest.mark.parametrize(
        ("new", "words"),
        [
            (lambda stem: f"{stem}_mask", "all 4 masks end in '_mask'"),
            (lambda stem: f"{stem}_segmentation", "all 4 masks end in '_segmentation'"),
            (lambda stem: f"gt_{stem}", "all 4 masks start with 'gt_'"),
            (lambda stem: f"m-{stem}-x", "all 4 masks start with 'm-' and end in '-x'"),
        ],
    )
    def test_affixes_of_masks(self, root: Path, new: Callable[[str], str], words: str) -> None:
        folder = root / "dermoscopy/clinic_a/masks"
        rename(folder, new)
        report = verify(root)
        assert [(p.kind, p.file) for p in report.problems] == [("names of masks", "dermoscopy/clinic_a/masks")]
        assert report.problems[0].message == (
            f"{words}: rename them so that each mask has its image's name ({new('case_0')}.png -> case_0.png)."
        )
        assert report.pairs == 20

    def test_numbers_in_numbers(self, root: Path) -> None:
        """`1` is also in `11_mask`: the affix that explains most counts."""
        for part in ("images", "masks"):
            rename(root / "dermoscopy/clinic_a" / part, {"case_0": "1", "case_1": "10", "case_2": "11", "case_3": "111"}.get)  # fmt: skip
        rename(root / "dermoscopy/clinic_a/masks", lambda stem: f"{stem}_1")
        assert "all 4 masks end in '_1'" in error_of(root)

    def test_affixes_of_images(self, root: Path) -> None:
        rename(root / "dermoscopy/clinic_a/images", lambda stem: f"{stem}_img")
        message = error_of(root)
        assert "has a problem" in message
        assert "dermoscopy/clinic_a/images: all 4 images end in '_img': rename them so that each image has its mask's name" in message  # fmt: skip

    def test_what_the_affix_does_not_explain_is_reported_besides(self, root: Path) -> None:
        folder = root / "dermoscopy/clinic_a/masks"
        rename(folder, lambda stem: f"{stem}_mask")
        (folder / "case_3_mask.png").rename(folder / "other.png")
        problems = verify(root).problems
        assert [p.kind for p in problems] == ["names of masks", "image without mask", "mask without image"]
        assert problems[0].message.startswith("3 of 4 masks end in '_mask'")

    @pytest.mark.parametrize(("count", "hints"), [(1, True), (60, False)])
    def test_nearest_names_only_of_a_few(self, tmp_path: Path, count: int, hints: bool) -> None:
        """Comparing all names with all takes minutes where thousands have no partner."""
        for part in ("images", "masks"):
            (tmp_path / "xray/a" / part).mkdir(parents=True)
            for number in range(count):
                (tmp_path / f"xray/a/{part}/scan_{number}{part[0]}.png").touch()
        problems = scan_folder(tmp_path).problems
        assert len(problems) == 2 * count
        assert any("The nearest name there is" in problem.message for problem in problems) == hints

    def test_in_every_domain(self, root: Path) -> None:
        for folder in root.glob("*/*/masks"):
            rename(folder, lambda stem: f"{stem}_mask")
        text = verify(root).text()
        assert "6 x names of masks: dermoscopy/clinic_a/masks: all 4 masks end in '_mask'" in text
        assert len(text.splitlines()) == 3


class TestFolders:
    @pytest.mark.parametrize(("part", "name"), [("images", "Images"), ("images", "img"), ("masks", "labels"), ("masks", "MASKS")])  # fmt: skip
    def test_named_otherwise(self, root: Path, part: str, name: str) -> None:
        (root / "dermoscopy/clinic_a" / part).rename(root / "dermoscopy/clinic_a" / name)
        report = verify(root)
        assert [(p.kind, p.file) for p in report.problems] == [("folder name", f"dermoscopy/clinic_a/{name}")]
        assert f"expected the name '{part}' (in lower case), found '{name}'. Rename" in report.problems[0].message

    def test_both_in_every_domain(self, root: Path) -> None:
        for folder in list(root.glob("*/*/*")):
            folder.rename(folder.with_name(folder.name.capitalize()))
        text = verify(root).text()
        assert "12 x folder name: dermoscopy/clinic_a/Images: expected the name 'images'" in text
        assert len(text.splitlines()) == 3

    def test_missing(self, root: Path) -> None:
        shutil.rmtree(root / "dermoscopy/clinic_a/masks")
        report = verify(root)
        assert [(p.kind, p.file) for p in report.problems] == [("missing folder", "dermoscopy/clinic_a")]
        assert "found only images. Add masks" in report.problems[0].message

    def test_classes_within_images(self, root: Path) -> None:
        for part in ("images", "masks"):
            folder = root / "dermoscopy/clinic_a" / part
            folder.rename(folder.with_name("benign"))
            folder.mkdir()
            folder.with_name("benign").rename(folder / "benign")
        assert "dermoscopy/clinic_a: expected pictures directly in its images and masks, found only the folders images/benign, masks/benign. Move" in error_of(root)  # fmt: skip


class TestLevels:
    """No `<modality>/<domain>/images` anywhere: what is missing, and the tree for this case."""

    def refusal(self, root: Path) -> str:
        with pytest.raises(UserError) as caught:
            verify(root)
        assert str(caught.value) == error_of(root)
        return str(caught.value)

    def test_pictures_in_the_root(self, root: Path, tmp_path: Path) -> None:
        shutil.copytree(root / "dermoscopy/clinic_a/images", tmp_path / "d")
        message = self.refusal(tmp_path / "d")
        assert "pictures lie directly in it; the level of modality, domain and images or masks is missing." in message
        assert f"{tmp_path}/d/<modality>/<domain>/masks/<id>.png" in message

    @pytest.mark.parametrize("capitals", [False, True])
    def test_images_and_masks_in_the_root(self, root: Path, tmp_path: Path, capitals: bool) -> None:
        shutil.copytree(root / "dermoscopy/clinic_a", tmp_path / "d")
        if capitals:
            (tmp_path / "d/images").rename(tmp_path / "d/Images")
            (tmp_path / "d/masks").rename(tmp_path / "d/Masks")
        message = self.refusal(tmp_path / "d")
        assert "images and masks lie directly in it; the level of modality and domain is missing." in message
        assert f"{tmp_path}/d/<modality>/<domain>/images/<id>.png" in message
        assert f"python -m harness data add {tmp_path}/d --modality MODALITY --root NEW_FOLDER" in message

    def test_images_as_they_came(self, root: Path, tmp_path: Path) -> None:
        """No fault of a dataset, but no dataset yet: one command makes one."""
        for name, part in (("img", "images"), ("ground truth", "masks")):
            shutil.copytree(root / "dermoscopy/clinic_a" / part, tmp_path / "my scans/St Mary/2021" / name)
        assert f"by `python -m harness data add '{tmp_path}/my scans' --modality MODALITY" in error_of(
            tmp_path / "my scans"
        )
        shutil.copytree(root, tmp_path / "whole")
        (tmp_path / "whole/dermoscopy/clinic_a/masks/case_0.png").unlink()
        assert "data add" not in error_of(tmp_path / "whole")

    def test_no_domain(self, root: Path, tmp_path: Path) -> None:
        shutil.copytree(root / "dermoscopy/clinic_a", tmp_path / "d/dermoscopy")
        message = self.refusal(tmp_path / "d")
        assert "images lie in dermoscopy/images; the level of domain is missing." in message
        assert f"{tmp_path}/d/dermoscopy/<domain>/images/<id>.png" in message

    def test_no_domain_or_no_modality(self, root: Path, tmp_path: Path) -> None:
        shutil.copytree(root / "dermoscopy/clinic_a", tmp_path / "d/ph2")
        message = self.refusal(tmp_path / "d")
        assert "images lie in ph2/images; one level is missing." in message
        assert f"{tmp_path}/d/ph2/<domain>/images/<id>.png" in message
        assert f"{tmp_path}/d/<modality>/ph2/images/<id>.png" in message

    def test_a_part_of_a_dataset(self, root: Path) -> None:
        assert f"Give the folder that holds the modalities: {root}." in self.refusal(root / "dermoscopy")
        assert f"Give the folder that holds the modalities: {root}." in self.refusal(root / "dermoscopy/clinic_a")

    def test_folders_of_classes(self, root: Path, tmp_path: Path) -> None:
        for name in ("benign", "malignant"):
            shutil.copytree(root / "dermoscopy/clinic_a/images", tmp_path / "d" / name)
        message = self.refusal(tmp_path / "d")
        assert "pictures lie directly in benign, malignant, as in folders of classes; the level of modality and domain" in message  # fmt: skip
        assert "<modality>/<domain>/masks/<id>.png" in message and "A class is no level" in message

    def test_pictures_in_modalities_or_domains(self, root: Path, tmp_path: Path) -> None:
        shutil.copytree(root / "dermoscopy/clinic_a/images", tmp_path / "d/xray")
        assert f"{tmp_path}/d/xray/<domain>/images/<id>.png" in self.refusal(tmp_path / "d")
        shutil.copytree(root / "dermoscopy/clinic_a/images", tmp_path / "e/xray/montgomery")
        message = self.refusal(tmp_path / "e")
        assert "pictures lie directly in xray/montgomery; the level of images and masks is missing." in message
        assert f"{tmp_path}/e/xray/montgomery/masks/<id>.png" in message

    def test_too_deep(self, root: Path, tmp_path: Path) -> None:
        shutil.copytree(root, tmp_path / "d/train")
        assert f"Did you mean {tmp_path}/d/train?" in self.refusal(tmp_path / "d")
        shutil.copytree(root, tmp_path / "d/test")
        assert "there is a level too many above the modalities (test, train)." in self.refusal(tmp_path / "d")
