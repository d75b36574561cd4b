"""A corrupted copy of a dataset is a dataset: same masks, same subjects, its own domains."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.cli import main
from harness.data.corruptions.dataset_copy import write_corrupted
from harness.data.corruptions.registry import corrupted
from harness.data.dataset import Dataset
from harness.data.phantoms import write_phantoms
from harness.data.reading import read_image, read_mask
from harness.errors import UserError
from harness.files import sha256_file


@pytest.fixture
def phantoms(tmp_path: Path) -> Path:
    write_phantoms(tmp_path / "phantoms", images_per_domain=2, image_size=64, modalities=["ultrasound", "xray"])
    return tmp_path / "phantoms"


def test_the_copy_holds_corrupted_images_and_the_same_masks(phantoms: Path, tmp_path: Path) -> None:
    clean = Dataset.open(phantoms)
    write_corrupted(clean.samples, tmp_path / "out", names=["noise"], severities=[2, 4], seed=5)
    copy = Dataset.open(tmp_path / "out")
    assert len(copy.samples) == 2 * len(clean.samples)
    assert sorted(p.name for p in (tmp_path / "out").iterdir() if not p.name.startswith(".")) == [
        "manifest.csv", "ultrasound", "xray",
    ]  # fmt: skip
    found = copy.by_key()
    for sample in clean.samples:
        for severity in (2, 4):
            other = found[f"{sample.modality}/{sample.domain}+noise{severity}/{sample.id}"]
            expected = corrupted(read_image(sample.image), "noise", severity, 5)
            assert np.array_equal(read_image(other.image), expected)
            assert np.array_equal(read_mask(other.mask), read_mask(sample.mask))
            assert (other.subject, other.width, other.height) == (sample.subject, sample.width, sample.height)
    assert any(sample.subject for sample in clean.samples)


def test_the_same_command_writes_the_same_bytes(phantoms: Path, tmp_path: Path) -> None:
    files = []
    for name in ("one", "two"):
        assert main(["data", "corrupt", str(phantoms), "--out", str(tmp_path / name), "--name", "speckle"]) == 0
        out = tmp_path / name
        files.append(
            {str(p.relative_to(out)): sha256_file(p) for p in out.rglob("*") if p.is_file() and p.name[0] != "."}
        )
    assert files[0] == files[1]
    assert any("+speckle3/" in name for name in files[0])


def test_what_it_wrote_and_left_out_is_said(phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["data", "corrupt", str(phantoms), "--out", str(out), "--name", "shadow", "--severity", "1", "5"]) == 0
    text = capsys.readouterr().out
    assert "12 corrupted images" in text and "in 6 domains" in text and "ultrasound/probe_a+shadow1" in text
    assert "Left out" in text and "xray" in text
    assert main(["data", "verify", str(out)]) == 0


def test_all_that_occur_in_a_modality_is_the_default(phantoms: Path, tmp_path: Path) -> None:
    samples = [sample for sample in Dataset.open(phantoms).samples if sample.id.endswith("a_0000")]
    written = write_corrupted(samples, tmp_path / "out", names=None, severities=[3])
    assert {sample.domain for sample in written if sample.modality == "ultrasound"} == {
        f"probe_a+{name}3" for name in ("noise", "blur", "jpeg", "gamma", "motion", "speckle", "shadow")
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--name", "hare"], "Did you mean 'hair'"),
        (["--name", "hair"], "None of hair occurs in ultrasound, xray"),
        (["--severity", "0"], "invalid choice: 0"),
    ],
)
def test_what_can_not_be_done_is_refused_and_leaves_nothing(
    phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    try:
        code = main(["data", "corrupt", str(phantoms), "--out", str(tmp_path / "out"), *arguments])
    except SystemExit as stop:  # of argparse
        code = int(stop.code or 0)
    assert code != 0
    assert message in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir() if "xdg" not in path.name) == ["phantoms"]


def test_a_folder_with_files_is_refused_before_anything_is_read(phantoms: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    with pytest.raises(UserError, match="expected a new or empty folder"):
        write_corrupted([], tmp_path / "out", names=None, severities=[3])
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_a_failure_in_between_leaves_nothing(phantoms: Path, tmp_path: Path) -> None:
    samples = Dataset.open(phantoms).samples
    samples[-1].image.unlink()
    with pytest.raises((UserError, OSError)):
        write_corrupted(samples, tmp_path / "out", names=["noise"], severities=[3])
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))
