"""Opening a dataset: a sound one is read; an error names the file, what was expected, what was found and the remedy."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.data.dataset import MODALITIES, Dataset
from harness.errors import UserError
from harness.files import sha256_file
from tests.harness.data.editing import Row, edit_manifest, error_of, replace


class TestSound:
    def test_samples(self, small_dataset: Path) -> None:
        dataset = Dataset.open(small_dataset)
        assert len(dataset.samples) == 24
        assert [sample.key for sample in dataset.samples] == sorted(sample.key for sample in dataset.samples)
        assert dataset.modalities() == ["dermoscopy", "ultrasound"]
        assert dataset.domains("ultrasound") == ["scanner_a", "scanner_b", "scanner_c"]
        sample = dataset.by_key()["dermoscopy/clinic_b/case_2"]
        assert sample.image == small_dataset / "dermoscopy/clinic_b/images/case_2.png"
        assert sample.sha256_image == sha256_file(sample.image)
        assert sample.sha256_mask == sha256_file(sample.mask)
        with Image.open(sample.mask) as mask:
            assert (sample.width, sample.height) == mask.size
            assert sample.foreground_fraction == pytest.approx(np.mean(np.asarray(mask) > 0), abs=1e-6)
        assert sample.subject is None

    def test_scan_and_manifest_agree(self, small_dataset: Path) -> None:
        from_manifest = Dataset.open(small_dataset)
        text = (small_dataset / "manifest.csv").read_bytes()
        (small_dataset / "manifest.csv").unlink()
        scanned = Dataset.open(small_dataset)
        assert (small_dataset / "manifest.csv").read_bytes() == text
        assert scanned.fingerprint() == from_manifest.fingerprint()
        assert [s.key for s in Dataset.open(small_dataset).samples] == [s.key for s in scanned.samples]

    def test_subjects_are_read_and_other_columns_ignored(
        self, small_dataset: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        def change(rows: list[Row]) -> None:
            for number, row in enumerate(rows):
                row |= {"subject": f"p{number // 2}" if number else "", "spacing_mm": "thick"}

        edit_manifest(small_dataset, change)
        first, second, third = Dataset.open(small_dataset).samples[:3]
        assert (first.subject, second.subject, third.subject) == (None, "p0", "p1")
        assert not hasattr(first, "spacing_mm")
        assert caplog.text == ""

    def test_a_column_nearly_named_as_an_optional_one_is_reported(
        self, small_dataset: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        edit_manifest(small_dataset, lambda rows: [{**row, "subjects": "p"} for row in rows])
        assert Dataset.open(small_dataset).samples[0].subject is None
        assert "'subjects' is not used. Did you mean 'subject'?" in caplog.text

    def test_byte_order_mark_and_windows_line_ends(self, small_dataset: Path) -> None:
        path = small_dataset / "manifest.csv"
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
        assert len(Dataset.open(small_dataset).samples) == 24

    def test_files_of_the_operating_system_are_no_data(self, small_dataset: Path) -> None:
        (small_dataset / "manifest.csv").unlink()
        for name in (".DS_Store", "Thumbs.db", "._case_0.png"):
            (small_dataset / "dermoscopy/clinic_a/images" / name).write_bytes(b"x")
        assert len(Dataset.open(small_dataset).samples) == 24

    def test_links_to_data_elsewhere(self, small_dataset: Path, tmp_path: Path) -> None:
        shutil.move(small_dataset / "ultrasound", tmp_path / "elsewhere")
        (small_dataset / "ultrasound").symlink_to(tmp_path / "elsewhere")
        assert len(Dataset.open(small_dataset).samples) == 24

    def test_order_of_modalities(self, small_dataset: Path) -> None:
        (small_dataset / "manifest.csv").unlink()
        for name in ("zebra", "colonoscopy", "atlas"):
            shutil.copytree(small_dataset / "ultrasound", small_dataset / name)
        assert Dataset.open(small_dataset).modalities() == ["dermoscopy", "ultrasound", "colonoscopy", "atlas", "zebra"]

    def test_modality_numbers_are_the_published_ones(self) -> None:
        assert MODALITIES == ("dermoscopy", "xray", "ultrasound", "fundus", "microscopy", "colonoscopy")

    def test_a_mistyped_modality_is_reported(self, small_dataset: Path, caplog: pytest.LogCaptureFixture) -> None:
        (small_dataset / "manifest.csv").unlink()
        (small_dataset / "dermoscopy").rename(small_dataset / "dermscopy")
        assert Dataset.open(small_dataset).modalities() == ["ultrasound", "dermscopy"]
        assert "'dermscopy' is none of the usual modalities. Did you mean 'dermoscopy'?" in caplog.text

    def test_one_domain_is_no_fault_of_the_data(self, small_dataset: Path) -> None:
        (small_dataset / "manifest.csv").unlink()
        shutil.rmtree(small_dataset / "ultrasound/scanner_b")
        shutil.rmtree(small_dataset / "ultrasound/scanner_c")
        assert Dataset.open(small_dataset).domains("ultrasound") == ["scanner_a"]


class TestSelection:
    def test_smaller_selections_lie_in_larger_ones(self, small_dataset: Path) -> None:
        dataset = Dataset.open(small_dataset)
        kept = [set(dataset.select(max_per_domain=count).by_key()) for count in (1, 2, 3, 99)]
        assert [len(keys) for keys in kept] == [6, 12, 18, 24]
        assert kept[0] < kept[1] < kept[2] < kept[3]

    def test_modalities(self, small_dataset: Path) -> None:
        selected = Dataset.open(small_dataset).select(["ultrasound"], 2)
        assert [sample.modality for sample in selected.samples] == ["ultrasound"] * 6
        assert selected.samples == tuple(sorted(selected.samples, key=lambda sample: sample.key))

    def test_faults(self, small_dataset: Path) -> None:
        dataset = Dataset.open(small_dataset)
        with pytest.raises(UserError, match=r"no modality 'ultrasond'\. Did you mean 'ultrasound'\?"):
            dataset.select(["ultrasond"])
        with pytest.raises(UserError, match=r"no modality 'dermoscpy'\. Did you mean 'dermoscopy'\?"):
            dataset.select(modalities=["ultrasound", "dermoscpy"])
        with pytest.raises(UserError, match=r"no modality 'xray'\. Available: dermoscopy, ultrasound"):
            dataset.domains("xray")
        with pytest.raises(UserError, match=r"data\.max_per_domain to be at least 1 .* found 0"):
            dataset.select(max_per_domain=0)
        with pytest.raises(UserError, match="at least one modality, found none"):
            dataset.select([])


class TestFingerprint:
    def test_independent_of_the_place(self, small_dataset: Path, tmp_path: Path) -> None:
        before = Dataset.open(small_dataset).fingerprint()
        assert Dataset.open(shutil.copytree(small_dataset, tmp_path / "copy")).fingerprint() == before

    @pytest.mark.parametrize("change", ["pixels", "subject", "name"])
    def test_depends_on_content(self, small_dataset: Path, change: str) -> None:
        before = Dataset.open(small_dataset).fingerprint()
        folder = small_dataset / "dermoscopy/clinic_a"
        if change == "subject":
            edit_manifest(small_dataset, lambda rows: [{**row, "subject": "p1"} for row in rows])
        else:
            (small_dataset / "manifest.csv").unlink()
            if change == "pixels":
                pixels = np.array(Image.open(folder / "images/case_0.png"))
                pixels[0, 0] ^= 1
                replace(folder / "images/case_0.png", pixels)
            else:
                (folder / "images/case_0.png").rename(folder / "images/case_x.png")
                (folder / "masks/case_0.png").rename(folder / "masks/case_x.png")
        assert Dataset.open(small_dataset).fingerprint() != before


class TestNothingThere:
    def test_missing_root(self, tmp_path: Path) -> None:
        message = error_of(tmp_path / "absent")
        assert f"{tmp_path / 'absent'}: expected a folder with a dataset, found nothing." in message
        assert "data.root" not in message  # `data verify` has no such option
        assert "Give the folder that holds <modality>/<domain>/images" in message and "data phantoms --out" in message

    def test_near_name(self, small_dataset: Path) -> None:
        assert "Did you mean 'small_dataset'?" in error_of(small_dataset.parent / "smal_dataset")

    def test_root_is_a_file(self, small_dataset: Path) -> None:
        assert "expected a folder with a dataset, found a file." in error_of(small_dataset / "manifest.csv")

    def test_empty_folder(self, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        message = error_of(tmp_path / "empty")
        assert f"{tmp_path / 'empty'}: expected manifest.csv, or folders <modality>/<domain>/images" in message
        assert "found an empty folder" in message
        assert list((tmp_path / "empty").iterdir()) == []

    def test_other_folder(self, tmp_path: Path) -> None:
        (tmp_path / "other/notes").mkdir(parents=True)
        message = error_of(tmp_path / "other")
        assert "expected manifest.csv, or folders <modality>/<domain>/images" in message and "found notes." in message

    def test_the_folder_above(self, small_dataset: Path, tmp_path: Path) -> None:
        (tmp_path / "above").mkdir()
        shutil.move(small_dataset, tmp_path / "above/data")
        assert f"Did you mean {tmp_path / 'above/data'}?" in error_of(tmp_path / "above")


@pytest.mark.parametrize("with_manifest", [True, False])
class TestFaultyFiles:
    """Found with a manifest and without."""

    @pytest.fixture
    def root(self, small_dataset: Path, with_manifest: bool) -> Path:
        if not with_manifest:
            (small_dataset / "manifest.csv").unlink()
        return small_dataset

    @staticmethod
    def faithful_manifest(root: Path) -> None:
        """Makes the manifest's hashes those of the files, so that only the fault itself is left to be found."""

        def change(rows: list[Row]) -> None:
            for row in rows:
                row["sha256_image"] = sha256_file(root / row["image"])
                row["sha256_mask"] = sha256_file(root / row["mask"])

        if (root / "manifest.csv").exists():
            edit_manifest(root, change)

    def test_sizes_differ(self, root: Path) -> None:
        mask = root / "dermoscopy/clinic_a/masks/case_1.png"
        with Image.open(root / "dermoscopy/clinic_a/images/case_1.png") as image:
            width, height = image.size
        replace(mask, np.zeros((height, width + 3), np.uint8))
        self.faithful_manifest(root)
        message = error_of(root)
        assert f"{root} has a problem" in message
        assert "dermoscopy/clinic_a/masks/case_1.png: expected a mask of" in message
        assert f"{width} x {height} pixels" in message and f"found {width + 3} x {height}." in message
        assert "resize it with nearest neighbour" in message

    def test_grey_valued_mask(self, root: Path) -> None:
        mask = root / "ultrasound/scanner_b/masks/case_0.png"
        pixels = np.array(Image.open(mask))
        pixels[0, :2] = (3, 90)
        replace(mask, pixels)
        self.faithful_manifest(root)
        message = error_of(root)
        assert "ultrasound/scanner_b/masks/case_0.png: expected a binary mask" in message
        assert "found the values 0, 3, 90, 255." in message

    @pytest.mark.parametrize("suffix", [".png", ".jpg"])
    def test_truncated_image(self, root: Path, suffix: str) -> None:
        path = root / "dermoscopy/clinic_c/images/case_3.png"
        if suffix == ".jpg":
            Image.open(path).save(path.with_suffix(".jpg"), quality=92)
            path.unlink()
            path = path.with_suffix(".jpg")
            if (root / "manifest.csv").exists():
                edit_manifest(root, lambda rows: [{**r, "image": r["image"].replace("clinic_c/images/case_3.png", "clinic_c/images/case_3.jpg")} for r in rows])  # fmt: skip
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
        self.faithful_manifest(root)
        message = error_of(root)
        assert (
            f"dermoscopy/clinic_c/images/case_3{suffix}: expected an image, found a damaged or truncated file"
            in message
        )

    def test_missing_mask(self, root: Path) -> None:
        (root / "dermoscopy/clinic_a/masks/case_2.png").unlink()
        message = error_of(root)
        if (root / "manifest.csv").exists():
            assert "dermoscopy/clinic_a/masks/case_2.png: expected the file of dermoscopy/clinic_a/case_2" in message
        else:
            assert (
                "dermoscopy/clinic_a/images/case_2.png: expected its mask dermoscopy/clinic_a/masks/case_2.png"
                in message
            )
            assert "found none." in message and "Add the mask, or remove this file." in message

    def test_missing_image(self, root: Path) -> None:
        (root / "dermoscopy/clinic_a/images/case_2.png").unlink()
        message = error_of(root)
        if (root / "manifest.csv").exists():
            assert "dermoscopy/clinic_a/images/case_2.png: expected the file of dermoscopy/clinic_a/case_2" in message
        else:
            assert (
                "masks/case_2.png: expected its image dermoscopy/clinic_a/images/case_2.<ext>, found none." in message
            )

    def test_all_faults_are_reported_at_once(self, root: Path) -> None:
        for name in ("case_0", "case_1"):
            replace(root / f"dermoscopy/clinic_a/masks/{name}.png", np.full((9, 9), 7, np.uint8))
        (root / "ultrasound/scanner_a/images/case_3.png").write_bytes(b"")
        self.faithful_manifest(root)
        message = error_of(root)
        assert "has 3 problems" in message
        assert all(name in message for name in ("masks/case_0.png", "masks/case_1.png", "images/case_3.png"))


class TestScan:
    @pytest.fixture
    def root(self, small_dataset: Path) -> Path:
        (small_dataset / "manifest.csv").unlink()
        return small_dataset

    def test_a_mask_named_otherwise(self, root: Path) -> None:
        folder = root / "dermoscopy/clinic_a/masks"
        (folder / "case_0.png").rename(folder / "case_0_mask.png")
        message = error_of(root)
        assert "images/case_0.png: expected its mask" in message
        assert "masks/case_0_mask.png: expected its image" in message

    @pytest.mark.parametrize("suffix", [".dcm", ".nii.gz", ".mha", ""])
    @pytest.mark.parametrize("part", ["images", "masks"])
    def test_a_partner_of_an_unread_format(self, root: Path, part: str, suffix: str) -> None:
        folder = root / "dermoscopy/clinic_a" / part
        (folder / "case_0.png").rename(folder / f"case_0{suffix}")
        assert f"found only case_0{suffix}, which is none of .bmp," in error_of(root)

    @pytest.mark.parametrize(("suffix", "found"), [(".nii.gz", "files of .nii.gz"), (".mha", "files of .mha"), ("", "files without")])  # fmt: skip
    def test_a_domain_without_a_picture_says_what_is_there(self, root: Path, suffix: str, found: str) -> None:
        for path in [*root.glob("dermoscopy/clinic_a/*/*.png")]:
            path.rename(path.with_name(path.stem + suffix))
        message = error_of(root)
        assert f"found only 8 {found}" in message
        assert f"(for example images/case_0{suffix}). Pictures are .bmp" in message

    def test_two_images_of_one_name(self, root: Path) -> None:
        folder = root / "dermoscopy/clinic_a/images"
        Image.open(folder / "case_0.png").save(folder / "case_0.jpg")
        assert "images/case_0.jpg: expected one file a name, found case_0.jpg and case_0.png." in error_of(root)

    def test_many_problems_are_cut_but_counted(self, root: Path) -> None:
        for number in range(60):
            shutil.copy(
                root / "dermoscopy/clinic_a/images/case_0.png", root / f"dermoscopy/clinic_a/images/x{number}.png"
            )
        (root / "ultrasound/scanner_a/images/case_3.png").unlink()
        message = error_of(root)
        assert "has 61 problems" in message
        assert len(message.splitlines()) <= 22
        assert message.count("image without mask") == 1 and "60 x image without mask: " in message
        assert "ultrasound/scanner_a/masks/case_3.png" in message  # the one of another kind is not hidden by the many

    def test_no_manifest_of_a_faulty_folder(self, root: Path) -> None:
        (root / "dermoscopy/clinic_a/images/case_0.png").write_bytes(b"")
        error_of(root)
        assert not (root / "manifest.csv").exists()

    def test_read_only_folder(
        self, root: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        root.chmod(0o555)
        with caplog.at_level(logging.WARNING):
            scanned = Dataset.open(root)
        assert "is read-only: its manifest is kept outside" in caplog.text
        assert sorted(path.name for path in root.iterdir()) == ["dermoscopy", "ultrasound"]
        assert len(scanned.samples) == 24
        monkeypatch.setattr("harness.data.dataset.examine_pairs", lambda *_: pytest.fail("decoded a second time"))
        again = Dataset.open(root)
        assert again.fingerprint() == scanned.fingerprint()
        for one, other in zip(again.samples, scanned.samples, strict=True):
            assert one.foreground_fraction == pytest.approx(other.foreground_fraction, abs=1e-6)
            assert (one.width, one.height) == (other.width, other.height)


@pytest.mark.real
def test_real_images(real_data: Path) -> None:
    """Every fourth of them is decoded and checked by `test_real_images_have_no_copies`."""
    dataset = Dataset.open(real_data, verify=False)
    assert len(dataset.samples) == 1352
    assert dataset.modalities() == list(MODALITIES)
    assert all(len(dataset.domains(modality)) == 3 for modality in MODALITIES)
    assert len(dataset.select(max_per_domain=40).samples) == 18 * 40 - (40 - 36) * 2 - (40 - 28) - (40 - 20)
