"""The manifest's own faults, and the verdict that spares a second check."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.data import dataset
from harness.data.dataset import Dataset
from harness.data.validation import integrity, verified
from harness.files import sha256_file
from tests.harness.data.editing import Row, edit_manifest, error_of, replace


class TestManifest:
    def test_missing_columns(self, own_manifest: Path) -> None:
        edit_manifest(
            own_manifest, lambda rows: [{k: v for k, v in r.items() if k not in ("domain", "id")} for r in rows]
        )
        message = error_of(own_manifest)
        assert f"{own_manifest / 'manifest.csv'}: expected at least the columns modality, domain, id" in message
        assert "; domain, id missing" in message

    def test_semicolons(self, own_manifest: Path) -> None:
        path = own_manifest / "manifest.csv"
        expected = Dataset.open(own_manifest).samples
        path.write_text(path.read_text().replace(",", ";"))
        assert Dataset.open(own_manifest).samples == expected

    @pytest.mark.parametrize(
        ("column", "value", "expected"),
        [
            ("width", "wide", "expected a whole number of at least 1 as width, found 'wide'"),
            ("height", "0", "expected a whole number of at least 1 as height, found '0'"),
            ("width", "50.5", "as width, found '50.5'"),
            ("foreground_fraction", "1.2", "expected a number from 0 to 1 as foreground_fraction, found '1.2'"),
            ("foreground_fraction", "nan", "as foreground_fraction, found 'nan'"),
            ("sha256_mask", "abc", "expected 64 hexadecimal digits as sha256_mask, found 'abc'"),
            ("id", "a/b", "expected a name without slashes as id, found 'a/b'"),
            ("domain", "..", "expected a name without slashes as domain, found '..'"),
            ("modality", "", "expected a name without slashes as modality, found ''"),
            ("image", "../outside.png", "expected a path inside the dataset's folder as image, found '../outside.png'"),
            ("mask", "dermoscopy/../../outside.png", "expected a path inside the dataset's folder as mask"),
            ("image", "/etc/passwd", "expected a path inside the dataset's folder as image, found '/etc/passwd'"),
            ("mask", "C:\\data\\mask.png", "expected a path inside the dataset's folder as mask"),
        ],
    )
    def test_bad_values(self, own_manifest: Path, column: str, value: str, expected: str) -> None:
        edit_manifest(own_manifest, lambda rows: rows[4].update({column: value}))
        message = error_of(own_manifest)
        assert "manifest.csv line 6: " in message
        assert expected in message

    def test_duplicate_keys(self, own_manifest: Path) -> None:
        edit_manifest(own_manifest, lambda rows: [*rows, rows[2]])
        message = error_of(own_manifest)
        assert (
            "manifest.csv line 26: expected every pair once, found dermoscopy/clinic_a/case_2 here and in line 4"
            in message
        )

    def test_a_short_row(self, own_manifest: Path) -> None:
        path = own_manifest / "manifest.csv"
        path.write_text(path.read_text() + "dermoscopy,clinic_a,case_9\n")
        assert "manifest.csv line 26: expected as many values as there are columns" in error_of(own_manifest)

    def test_no_rows(self, own_manifest: Path) -> None:
        path = own_manifest / "manifest.csv"
        path.write_text(path.read_text().splitlines()[0] + "\n")
        assert "manifest.csv: expected one row a pair, found none." in error_of(own_manifest)

    @pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00m\x00o", b"PK\x03\x04"])
    def test_no_csv(self, own_manifest: Path, content: bytes) -> None:
        (own_manifest / "manifest.csv").write_bytes(content)
        assert f"{own_manifest / 'manifest.csv'}: expected" in error_of(own_manifest)

    def test_a_changed_file(self, small_dataset: Path) -> None:
        image = small_dataset / "dermoscopy/clinic_a/images/case_0.png"
        pixels = np.array(Image.open(image))
        pixels[0, 0] ^= 1
        replace(image, pixels)
        message = error_of(small_dataset)
        assert "dermoscopy/clinic_a/images/case_0.png: expected SHA-256 " in message
        assert f"found {sha256_file(image)[:12]}..." in message
        assert "move manifest.csv away" in message

    @pytest.mark.parametrize(("column", "value"), [("width", "500"), ("foreground_fraction", "0.9")])
    def test_the_manifest_says_otherwise(self, own_manifest: Path, column: str, value: str) -> None:
        edit_manifest(own_manifest, lambda rows: rows[0].update({column: value}))
        message = error_of(own_manifest)
        assert "dermoscopy/clinic_a/" in message and "as in manifest.csv, found" in message

    def test_pictures_without_a_row_are_reported(self, own_manifest: Path, caplog: pytest.LogCaptureFixture) -> None:
        edit_manifest(own_manifest, lambda rows: rows[1:])
        assert len(Dataset.open(own_manifest).samples) == 23
        assert (
            "2 picture(s) without a row in manifest.csv are not used (dermoscopy/clinic_a/images/case_0.png"
            in caplog.text
        )


def short_manifest(root: Path, columns: tuple[str, ...] = ("modality", "domain", "id", "subject")) -> bytes:
    """A manifest as a person writes it: some of the columns, images 0 and 1 of one patient. Returns its bytes."""

    def change(rows: list[Row]) -> list[Row]:
        return [{name: f"patient {number // 2}" if name == "subject" else row[name] for name in columns} for number, row in enumerate(rows)]  # fmt: skip

    edit_manifest(root, change)
    return (root / "manifest.csv").read_bytes()


class TestShortManifest:
    """Only modality, domain and id are needed; the rest is found and measured, and the user's file stays as it is."""

    @pytest.mark.parametrize("verify", [True, False])
    @pytest.mark.parametrize("columns", [("id", "domain", "modality", "subject"), ("modality", "domain", "id")])
    def test_the_rest_is_found(self, own_manifest: Path, columns: tuple[str, ...], verify: bool) -> None:
        whole = Dataset.open(own_manifest).samples
        content = short_manifest(own_manifest, columns)
        for _ in range(2):  # measured, then from what was kept
            samples = Dataset.open(own_manifest, verify=verify).samples
            for sample, expected in zip(samples, whole, strict=True):
                assert vars(sample) == vars(expected) | {
                    "subject": sample.subject,
                    "foreground_fraction": pytest.approx(expected.foreground_fraction, abs=1e-6),
                }
            assert samples[2].subject == samples[3].subject == ("patient 1" if "subject" in columns else None)
            assert (own_manifest / "manifest.csv").read_bytes() == content

    def test_measured_once(self, own_manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        short_manifest(own_manifest)
        first = Dataset.open(own_manifest)
        monkeypatch.setattr("harness.data.dataset.examine_pairs", lambda *_: pytest.fail("decoded a second time"))
        assert Dataset.open(own_manifest).fingerprint() == first.fingerprint()

    def test_read_only(self, own_manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        short_manifest(own_manifest)
        own_manifest.chmod(0o555)
        first = Dataset.open(own_manifest)
        monkeypatch.setattr("harness.data.dataset.examine_pairs", lambda *_: pytest.fail("decoded a second time"))
        assert Dataset.open(own_manifest).fingerprint() == first.fingerprint()
        assert first.samples[0].subject == "patient 0"

    def test_verify_measures_for_opening(self, own_manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        short_manifest(own_manifest)
        assert integrity.verify(own_manifest).ok
        monkeypatch.setattr("harness.data.dataset.examine_pairs", lambda *_: pytest.fail("checked again"))
        assert Dataset.open(own_manifest).samples[0].subject == "patient 0"

    def test_a_changed_file_is_measured_again(self, small_dataset: Path) -> None:
        short_manifest(small_dataset)
        before = Dataset.open(small_dataset).samples[0]
        pixels = np.array(Image.open(before.image))
        pixels[0, 0] ^= 1
        replace(before.image, pixels)
        after = Dataset.open(small_dataset).samples[0]
        assert after.sha256_image == sha256_file(before.image) != before.sha256_image

    def test_what_is_stated_is_compared(self, own_manifest: Path) -> None:
        short_manifest(own_manifest, ("modality", "domain", "id", "sha256_image"))
        edit_manifest(own_manifest, lambda rows: rows[0].update(sha256_image="0" * 64))
        assert "images/case_0.png: expected SHA-256 000000000000..." in error_of(own_manifest)

    def test_empty_cells(self, own_manifest: Path) -> None:
        whole = Dataset.open(own_manifest)
        edit_manifest(own_manifest, lambda rows: rows[3].update(mask="", width="", sha256_mask=""))
        assert Dataset.open(own_manifest).fingerprint() == whole.fingerprint()

    def test_other_suffixes_and_places(self, small_dataset: Path) -> None:
        """The image is looked for by its name; one that is named may lie anywhere in the folder."""
        folder = small_dataset / "dermoscopy/clinic_a"
        Image.open(folder / "images/case_0.png").save(folder / "images/case_0.tif")
        (folder / "images/case_0.png").unlink()
        (folder / "masks/case_1.png").rename(small_dataset / "one.png")
        short_manifest(small_dataset, ("modality", "domain", "id", "mask"))
        edit_manifest(small_dataset, lambda rows: [{**rows[0], "mask": ""}, {**rows[1], "mask": "one.png"}, *rows[2:]])
        first, second = Dataset.open(small_dataset).samples[:2]
        assert (first.image.name, first.mask.name) == ("case_0.tif", "case_0.png")
        assert second.mask == small_dataset / "one.png"

    def test_files_that_are_not_found(self, own_manifest: Path) -> None:
        short_manifest(own_manifest)
        edit_manifest(
            own_manifest, lambda rows: [{**rows[0], "id": "case_9"}, {**rows[1], "id": "case_1.png"}, *rows[2:]]
        )
        message = error_of(own_manifest)
        assert "dermoscopy/clinic_a/images/case_9: expected this file with one of the suffixes" in message
        assert "expected an id without a file's suffix in manifest.csv, found 'case_1.png'" in message

    def test_two_files_of_one_name(self, small_dataset: Path) -> None:
        folder = small_dataset / "dermoscopy/clinic_a/images"
        Image.open(folder / "case_0.png").save(folder / "case_0.bmp")
        short_manifest(small_dataset)
        assert "expected one file a name, found case_0.bmp and case_0.png" in error_of(small_dataset)


class TestVerdict:
    @pytest.fixture
    def checks(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """Grows with every check of all files."""
        done: list[int] = []
        original = dataset.examine_pairs
        monkeypatch.setattr("harness.data.dataset.examine_pairs", lambda *args: done.append(1) or original(*args))
        return done

    def test_checked_once(self, own_manifest: Path, checks: list[int]) -> None:
        for _ in range(3):
            Dataset.open(own_manifest)
        assert len(checks) == 1
        assert (own_manifest / ".verified.json").is_file()

    def test_not_checked_when_not_asked(self, own_manifest: Path, checks: list[int]) -> None:
        Dataset.open(own_manifest, verify=False)
        assert not checks and not (own_manifest / ".verified.json").exists()

    @pytest.mark.parametrize("change", ["time", "manifest", "new file", "version", "damage"])
    def test_checked_again_after_a_change(
        self, small_dataset: Path, checks: list[int], change: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Dataset.open(small_dataset)
        image = small_dataset / "dermoscopy/clinic_a/images/case_0.png"
        if change == "time":
            os.utime(image, ns=(1, 1))
        elif change == "manifest":
            edit_manifest(small_dataset, lambda rows: [{**row, "subject": "p"} for row in rows])
        elif change == "new file":
            shutil.copy(image, image.with_name("extra.png"))
        elif change == "version":
            monkeypatch.setattr(verified, "VERSION", verified.VERSION + 1)
        else:
            (small_dataset / ".verified.json").write_text('{"state": ')
        Dataset.open(small_dataset)
        assert len(checks) == 2

    def test_a_bad_verdict_is_not_kept(self, small_dataset: Path, checks: list[int]) -> None:
        (small_dataset / "dermoscopy/clinic_a/images/case_0.png").write_bytes(b"")
        for _ in range(2):
            assert "images/case_0.png" in error_of(small_dataset)
        assert len(checks) == 2

    def test_read_only_dataset(self, own_manifest: Path, checks: list[int], tmp_path: Path) -> None:
        """Kept in the user's cache folder; nothing is written to the dataset, not even by root."""
        own_manifest.chmod(0o555)
        Dataset.open(own_manifest)
        Dataset.open(own_manifest)
        assert len(checks) == 1
        assert not (own_manifest / ".verified.json").exists()
        assert verified.user_cache_path(own_manifest).is_relative_to(tmp_path / "xdg_cache" / "delightsam-bench")

    def test_no_place_for_the_verdict(
        self, own_manifest: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        own_manifest.chmod(0o555)
        (own_manifest.parent / "file").write_text("")
        monkeypatch.setenv("XDG_CACHE_HOME", str(own_manifest.parent / "file"))
        assert len(Dataset.open(own_manifest).samples) == 24
        assert "can't be kept, so it is checked again next time" in caplog.text
