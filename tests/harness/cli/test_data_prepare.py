"""`data prepare` and `data add` as people meet them: what is printed, asked, written, and the exit code."""

from __future__ import annotations

import argparse
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.cli import data
from harness.data.dataset import Dataset
from harness.errors import UserError


def run(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    data.add_parser(parser.add_subparsers())
    args = parser.parse_args(["data", *map(str, arguments)])
    return int(args.run(args))


def put(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


@pytest.fixture
def download(tmp_path: Path) -> Path:
    """MontgomerySet.zip of three films."""
    for n in range(3):
        put(tmp_path / f"m/CXR_png/MCUCXR_{n:04d}_0.png", np.full((16, 16), 40 * n, np.uint8))
        mask = np.zeros((16, 16), np.uint8)
        mask[2:6, 2:6] = 255
        for side in ("left", "right"):
            put(tmp_path / f"m/ManualMask/{side}Mask/MCUCXR_{n:04d}_0.png", mask)
    path = tmp_path / "MontgomerySet.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in (tmp_path / "m").rglob("*.png"):
            archive.write(file, f"MontgomerySet/{file.relative_to(tmp_path / 'm')}")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images of a user's own, with two readers' masks."""
    random = np.random.default_rng(0)
    for n in range(6):
        put(tmp_path / f"Clinic 7/images/P{n // 2}_{n}.png", random.integers(0, 255, (16, 20, 3), dtype=np.uint8))
        for reader in (1, 2):
            mask = np.zeros((16, 20), np.uint8)
            mask[2 : 4 + reader + n] = 255
            put(tmp_path / f"Clinic 7/manual{reader}/P{n // 2}_{n}.png", mask)
    return tmp_path / "Clinic 7"


class Terminal:
    """Standard input of a person who answers."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)

    def isatty(self) -> bool:
        return True

    def readline(self) -> str:
        return self.answers.pop(0) + "\n"


class TestPrepare:
    def test_says_what_it_did_and_what_is_next(
        self, download: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run("prepare", "montgomery", "--source", download, "--root", tmp_path / "root") == 0
        out = capsys.readouterr().out
        assert f"Montgomery County: 3 pairs in {tmp_path / 'root/xray/montgomery'}" in out
        assert "A whole download gives 138 pairs" in out and "Licence:" in out
        assert f"python -m harness data verify {tmp_path / 'root'}" in out
        assert len(Dataset.open(tmp_path / "root").samples) == 3

    def test_a_damaged_file_is_named(self, download: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "m/CXR_png/MCUCXR_0001_0.png").write_bytes(b"cut")
        assert run("prepare", "montgomery", "--source", tmp_path / "m", "--root", tmp_path / "root") == 2
        out = capsys.readouterr().out
        assert "Could not be read, and left out (1):" in out and "MCUCXR_0001_0.png" in out

    def test_unknown(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="Did you mean 'montgomery'"):
            run("prepare", "montgomeri", "--source", tmp_path, "--root", tmp_path)


class TestAdd:
    def add(self, folder: Path, *more: object) -> int:
        return run("add", folder, "--root", folder.parent / "root", "--modality", "fundus", *more)

    def test_asks_which_and_whether(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(sys, "stdin", Terminal("2", "y"))
        assert self.add(folder, "--subject", "P[0-9]+") == 0
        out = capsys.readouterr().out
        assert "can be read in 3 ways" in out and "subject P0" in out
        samples = Dataset.open(folder.parent / "root").samples
        assert [(s.domain, s.subject) for s in samples] == [("Clinic_7".lower(), f"P{n // 2}") for n in range(6)]
        assert samples[0].foreground_fraction == pytest.approx(4 / 16)  # the second reader's

    def test_no_is_no(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        monkeypatch.setattr(sys, "stdin", Terminal("1", ""))
        assert self.add(folder) == 0
        assert [path.name for path in (folder.parent / "root").iterdir()] == ["fundus-clinic_7-pairs.png"]

    def test_the_picture_shows_five_pairs(self, folder: Path) -> None:
        assert self.add(folder, "--choose", 1, "--yes") == 0
        sheet = np.asarray(Image.open(folder.parent / "root/fundus-clinic_7-pairs.png"))
        assert sheet.shape == (512, 5 * 256 + 4 * 4, 3)
        below = sheet[256:, :20].astype(int)  # the mask is red: the first rows of the first image have none
        assert (below[2:3, :, 0] - below[2:3, :, 1]).mean() > 50 > (below[:1, :, 0] - below[:1, :, 1]).mean()

    def test_one_command_is_one_domain(self, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Images of two hospitals in one domain can't be held out, and `run` would refuse the data."""
        both = tmp_path / "both"
        for hospital in ("mary", "beta"):
            shutil.copytree(folder / "images", both / hospital / "images")
            shutil.copytree(folder / "manual1", both / hospital / "masks")
        root = tmp_path / "new"
        assert run("add", both, "--root", root, "--modality", "fundus", "--yes") == 0
        out = capsys.readouterr().out
        assert "All of them become one domain: fundus/both." in out
        assert "They come from 2 folders (beta, mary). If these are hospitals or devices, add each by a command" in out
        assert "fundus has one domain so far, both. leave_one_domain_out needs two" in out
        assert run("add", both / "mary", "--root", root, "--modality", "fundus", "--yes") == 0
        out = capsys.readouterr().out
        assert "one domain: fundus/mary" in out and "They come from" not in out and "so far" not in out

    def test_nobody_there(self, folder: Path) -> None:
        with pytest.raises(UserError, match=r"(?s)can be read in 3 ways:.*Say which: --choose N"):
            self.add(folder)
        with pytest.raises(UserError, match="Nobody is there to ask"):
            self.add(folder, "--choose", 1)

    @pytest.mark.parametrize(
        ("more", "words"),
        [
            (("--choose", 9), "expected 1 to 3"),
            (("--choose", 1, "--subject", "Q["), "expected a regular expression"),
            (("--choose", 1, "--subject", "Q"), "expected a match in every image's path"),
            (("--domain", "a/b"), "expected a folder's name"),
            (("--modality", "fundous"), "Did you mean 'fundus'"),
        ],
    )
    def test_mistakes(self, folder: Path, more: tuple[object, ...], words: str) -> None:
        with pytest.raises(UserError, match=words):
            self.add(folder, *more)
        assert not (folder.parent / "root/manifest.csv").exists()

    def test_a_run_takes_it(self, folder: Path) -> None:
        """Two clinics added one after the other are two domains of one dataset."""
        self.add(folder, "--choose", 1, "--yes")
        self.add(folder, "--choose", 2, "--yes", "--domain", "other")
        dataset = Dataset.open(folder.parent / "root", verify=False)
        assert dataset.domains("fundus") == ["clinic_7", "other"]
