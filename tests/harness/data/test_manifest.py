"""The manifest's own faults, and the verdict that spares a second check."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.data import integrity, verdict
from harness.data.dataset import Dataset
from harness.files import sha256_file
from tests.harness.data.editing import edit_manifest, error_of, replace


class TestManifest:
    def test_missing_columns(self, small_dataset: Path) -> None:
        edit_manifest(
            small_dataset, lambda rows: [{k: v for k, v in r.items() if k not in ("mask", "width")} for r in rows]
        )
        message = error_of(small_dataset)
        assert f"{small_dataset / 'manifest.csv'}: expected the columns modality, domain" in message
        assert "mask, width missing" in message

    @pytest.mark.parametrize(
        ("column", "value", "told"),
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
            ("mask", "", "expected a path inside the dataset's folder as mask, found ''"),
        ],
    )
    def test_bad_values(self, small_dataset: Path, column: str, value: str, told: str) -> None:
        edit_manifest(small_dataset, lambda rows: rows[4].update({column: value}))
        message = error_of(small_dataset)
        assert "manifest.csv line 6: " in message
        assert told in message

    @pytest.mark.parametrize("value", ["-1", "0", "thick"])
    def test_bad_spacing(self, small_dataset: Path, value: str) -> None:
        edit_manifest(small_dataset, lambda rows: [{**row, "spacing_mm": value} for row in rows])
        assert f"as spacing_mm, found '{value}'" in error_of(small_dataset)

    def test_duplicate_keys(self, small_dataset: Path) -> None:
        edit_manifest(small_dataset, lambda rows: [*rows, rows[2]])
        message = error_of(small_dataset)
        assert (
            "manifest.csv line 26: expected every pair once, found dermoscopy/clinic_a/case_2 here and in line 4"
            in message
        )

    def test_a_short_row(self, small_dataset: Path) -> None:
        path = small_dataset / "manifest.csv"
        path.write_text(path.read_text() + "dermoscopy,clinic_a,case_9\n")
        assert "manifest.csv line 26: expected as many values as there are columns" in error_of(small_dataset)

    def test_no_rows(self, small_dataset: Path) -> None:
        path = small_dataset / "manifest.csv"
        path.write_text(path.read_text().splitlines()[0] + "\n")
        assert "manifest.csv: expected one row a pair, found none." in error_of(small_dataset)

    @pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00m\x00o", b"PK\x03\x04"])
    def test_no_csv(self, small_dataset: Path, content: bytes) -> None:
        (small_dataset / "manifest.csv").write_bytes(content)
        assert f"{small_dataset / 'manifest.csv'}: expected" in error_of(small_dataset)

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
    def test_the_manifest_says_otherwise(self, small_dataset: Path, column: str, value: str) -> None:
        edit_manifest(small_dataset, lambda rows: rows[0].update({column: value}))
        message = error_of(small_dataset)
        assert "dermoscopy/clinic_a/" in message and "as in manifest.csv, found" in message

    def test_pictures_without_a_row_are_told(self, small_dataset: Path, caplog: pytest.LogCaptureFixture) -> None:
        edit_manifest(small_dataset, lambda rows: rows[1:])
        assert len(Dataset.open(small_dataset).samples) == 23
        assert (
            "2 picture(s) without a row in manifest.csv are not used (dermoscopy/clinic_a/images/case_0.png"
            in caplog.text
        )


class TestVerdict:
    @pytest.fixture
    def checks(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """Grows with every check of all files."""
        done: list[int] = []
        original = integrity.check_samples
        monkeypatch.setattr(integrity, "check_samples", lambda *args: done.append(1) or original(*args))
        return done

    def test_checked_once(self, small_dataset: Path, checks: list[int]) -> None:
        for _ in range(3):
            Dataset.open(small_dataset)
        assert len(checks) == 1
        assert (small_dataset / ".verified.json").is_file()

    def test_not_checked_when_not_asked(self, small_dataset: Path, checks: list[int]) -> None:
        Dataset.open(small_dataset, verify=False)
        assert not checks and not (small_dataset / ".verified.json").exists()

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
            monkeypatch.setattr(verdict, "VERSION", verdict.VERSION + 1)
        else:
            (small_dataset / ".verified.json").write_text('{"state": ')
        Dataset.open(small_dataset)
        assert len(checks) == 2

    def test_a_bad_verdict_is_not_kept(self, small_dataset: Path, checks: list[int]) -> None:
        (small_dataset / "dermoscopy/clinic_a/images/case_0.png").write_bytes(b"")
        for _ in range(2):
            assert "images/case_0.png" in error_of(small_dataset)
        assert len(checks) == 2

    def test_read_only_dataset(self, small_dataset: Path, checks: list[int], tmp_path: Path) -> None:
        """Kept in the user's cache folder; nothing is written to the dataset, not even by root."""
        small_dataset.chmod(0o555)
        Dataset.open(small_dataset)
        Dataset.open(small_dataset)
        assert len(checks) == 1
        assert not (small_dataset / ".verified.json").exists()
        assert verdict.user_cache_path(small_dataset).is_relative_to(tmp_path / "xdg_cache" / "delightsam-bench")

    def test_no_place_for_the_verdict(
        self, small_dataset: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        small_dataset.chmod(0o555)
        (small_dataset.parent / "file").write_text("")
        monkeypatch.setenv("XDG_CACHE_HOME", str(small_dataset.parent / "file"))
        assert len(Dataset.open(small_dataset).samples) == 24
        assert "can't be kept, so it is checked again next time" in caplog.text
