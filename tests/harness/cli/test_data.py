"""`data verify | fingerprint | phantoms | list` through the argument parser, and the figures they print."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.cli import data
from harness.data.dataset import Dataset
from harness.data.fingerprint import fingerprint_domains
from harness.data.folder.sample import MODALITIES
from harness.data.sources.recipe import recipes
from harness.errors import UserError


def run(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    data.add_parser(parser.add_subparsers())
    args = parser.parse_args(["data", *map(str, arguments)])
    return int(args.run(args))


class TestVerify:
    def test_sound(self, small_dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run("verify", small_dataset) == 0
        assert "24 pairs checked" in capsys.readouterr().out

    def test_problems(self, small_dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (small_dataset / "dermoscopy/clinic_a/images/case_0.png").write_bytes(b"")
        assert run("verify", small_dataset) == 2
        out = capsys.readouterr().out
        assert "has 1 problem(s)" in out and "dermoscopy/clinic_a/images/case_0.png: expected an image" in out

    def test_json(self, small_dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (small_dataset / "dermoscopy/clinic_a/images/case_0.png").unlink()
        assert run("verify", small_dataset, "--json") == 2
        value = json.loads(capsys.readouterr().out)
        assert not value["ok"] and value["problems"][0]["kind"] == "missing file"

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="expected a folder with a dataset, found nothing") as caught:
            run("verify", tmp_path / "absent")
        assert "Give the folder that holds" in str(caught.value) and "data.root" not in str(caught.value)


class TestFingerprint:
    def test_figures(self, small_dataset: Path) -> None:
        dataset = Dataset.open(small_dataset)
        figures = {(d.modality, d.domain): d for d in fingerprint_domains(dataset)}
        assert len(figures) == 6
        found = figures["dermoscopy", "clinic_b"]
        samples = [s for s in dataset.samples if s.domain_key == "dermoscopy/clinic_b"]
        pixels = [np.asarray(Image.open(sample.image)) / 255 for sample in samples]
        means = np.mean([p.mean((0, 1)) for p in pixels], axis=0)
        squares = np.mean([(p**2).mean((0, 1)) for p in pixels], axis=0)
        assert found.images == 4 and found.subjects is None
        assert found.mean == pytest.approx(means, abs=1e-5)
        assert found.std == pytest.approx(np.sqrt(squares - means**2), abs=1e-5)
        widths = [sample.width for sample in samples]
        assert found.width == (min(widths), np.median(widths), max(widths))
        fractions = [sample.foreground_fraction for sample in samples]
        assert found.foreground == pytest.approx(np.quantile(fractions, [0.25, 0.5, 0.75]), abs=1e-5)

    def test_table_and_json(self, small_dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
        fingerprint = Dataset.open(small_dataset).fingerprint()
        assert run("fingerprint", small_dataset) == 0
        assert fingerprint in capsys.readouterr().out
        assert run("fingerprint", small_dataset, "--json") == 0
        value = json.loads(capsys.readouterr().out)
        assert value["fingerprint"] == fingerprint and len(value["domains"]) == 6


class TestPhantoms:
    def test_written_and_sound(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        out = tmp_path / "phantoms"
        assert run("phantoms", "--out", out, "--images-per-domain", 2, "--image-size", 64, "--seed", 3) == 0
        assert str(out) in capsys.readouterr().out
        assert Dataset.open(out).modalities() == list(MODALITIES)

    def test_folder_in_use(self, small_dataset: Path) -> None:
        with pytest.raises(UserError, match="expected a new or empty folder for the phantoms, found files"):
            run("phantoms", "--out", small_dataset)

    @pytest.mark.parametrize(
        ("option", "value"),
        [("--images-per-domain", 1), ("--image-size", 63), ("--image-size", 5000), ("--seed", -1)],
    )
    def test_bad_numbers(self, tmp_path: Path, option: str, value: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """What the configuration refuses as data.phantoms.* is refused here, before anything is drawn."""
        monkeypatch.setattr("harness.data.phantoms.write_phantoms", lambda *_, **__: pytest.fail("drawn"))
        with pytest.raises(UserError, match=rf"Expected \d+ (to \d+|or more) for {option}, found {value}"):
            run("phantoms", "--out", tmp_path / "p", option, value)
        assert not (tmp_path / "p").exists()


class TestList:
    def test_catalogue(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run("list") == 0
        out = capsys.readouterr().out
        assert all(modality in out for modality in MODALITIES)
        assert all(name in out for name in recipes())

    @pytest.mark.parametrize("columns", ["80", "50"])
    def test_addresses_can_be_copied(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: str
    ) -> None:
        monkeypatch.setenv("COLUMNS", columns)
        assert run("list") == 0
        lines = capsys.readouterr().out.splitlines()
        assert all(f"  {one.name}: {one.home}" in lines for one in recipes().values())

    def test_folder(self, small_dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run("list", small_dataset) == 0
        out = capsys.readouterr().out
        assert "scanner_c" in out and "unknown" in out


def test_parser_is_cheap() -> None:
    """Building the parser, as `--help` does, loads nothing heavy."""
    code = (
        "import argparse, sys; from harness.cli import data; "
        "data.add_parser(argparse.ArgumentParser().add_subparsers()); "
        "print([m for m in ('torch', 'ray', 'matplotlib', 'numpy', 'scipy', 'PIL', 'pandas', 'rich') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
