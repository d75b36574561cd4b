"""The white of files that do not tell it: one level for all of them, never one for each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from harness.data.reading.image import Range
from harness.data.reading.levels import white_level, white_level_of_files
from harness.data.reading.picture import is_deep


@pytest.mark.parametrize(
    ("ranges", "expected"),
    [
        ([(0, 255)], 255), ([(0, 256)], 1023), ([(0, 10), (5, 4095)], 4095), ([(0, 4096)], 16_383), ([(0, 65_535)], 65_535),
        ([(0, 65_536)], None), ([(-1, 10)], None), ([], None),
    ],
)  # fmt: skip
def test_whole_numbers(ranges: list[tuple[int, int]], expected: float | None) -> None:
    assert white_level(Range(low, high, real=False) for low, high in ranges) == expected


def test_real_numbers_end_at_one_or_are_unclear() -> None:
    assert white_level([Range(0, 0.3, real=True), Range(0, 1, real=True)]) == 1
    assert white_level([Range(0, 1.01, real=True)]) is None
    assert white_level([Range(0, 1, real=True), Range(0, 1, real=False)]) is None


def test_of_a_folder(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "dark.tif", np.full((4, 4), 40, np.uint16))
    tifffile.imwrite(tmp_path / "light.tif", np.full((4, 4, 3), 4000, np.uint16), photometric="rgb")
    Image.new("RGB", (4, 4), (255, 0, 0)).save(tmp_path / "plain.png")
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "deep.png")
    (tmp_path / "broken.tif").write_bytes(b"II*\0nothing")
    (tmp_path / "words.png").write_text("no picture")
    files = sorted(tmp_path.iterdir())
    assert {file.name for file in files if is_deep(file)} == {"dark.tif", "light.tif", "deep.png", "broken.tif"}
    assert white_level_of_files(files) == 4095
    assert white_level_of_files([tmp_path / "plain.png", tmp_path / "gone.png"]) is None
