"""Which pixels of a downloaded mask are the object."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.data.sources.masks import read_part, union_of, values_in
from harness.errors import UserError

GREY = np.array([[0, 128, 255], [1, 127, 200]], np.uint8)
RED, BLACK, WHITE = (255, 0, 0), (0, 0, 0), (255, 255, 255)
COLOURS = np.array([[RED, BLACK, WHITE], [BLACK, RED, RED]], np.uint8)


def saved(folder: Path, values: np.ndarray, name: str = "a.png") -> Path:
    path = folder / name
    if name.endswith(".npy"):
        np.save(path, values)
    else:
        Image.fromarray(values).save(path)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.pgm", "a.npy"])
@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("nonzero", GREY != 0),
        ("> 127", GREY > 127),
        ("< 128", GREY < 128),
        ("= 128", GREY == 128),
        ("= 0, 128", (GREY == 0) | (GREY == 128)),
    ],
)
def test_grey(rule: str, expected: np.ndarray, name: str, tmp_path: Path) -> None:
    found = read_part(saved(tmp_path, GREY, name), rule)
    assert found.dtype == np.bool_
    np.testing.assert_array_equal(found, expected)


def test_colours(tmp_path: Path) -> None:
    path = saved(tmp_path, COLOURS)
    np.testing.assert_array_equal(read_part(path, "rgb 255 0 0"), (COLOURS == RED).all(2))
    np.testing.assert_array_equal(read_part(path, "nonzero"), COLOURS.any(2))
    # Of colours the largest channel counts.
    np.testing.assert_array_equal(read_part(path, "> 127"), COLOURS.max(2) > 127)
    with pytest.raises(UserError, match="expected a grey mask, found colours"):
        read_part(path, "= 255")
    assert values_in(path) == [0, 255]


def test_a_colour_of_a_grey_mask(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_part(saved(tmp_path, GREY), "rgb 128 128 128"), GREY == 128)


def test_without_a_rule_an_array_is_black_and_white_or_a_question(tmp_path: Path) -> None:
    for number, values in enumerate((GREY > 127, (GREY > 127) * 7, np.full((2, 3), 7))):
        np.testing.assert_array_equal(read_part(saved(tmp_path, values, f"{number}.npy"), None), values > 0)
    for number, values in enumerate((GREY, (GREY > 127) + 1)):
        with pytest.raises(UserError, match=r"expected a binary mask, found the values .*Say which of them"):
            read_part(saved(tmp_path, values, f"{number}.npy"), None)


def test_the_parts_of_a_mask_are_joined(tmp_path: Path) -> None:
    one, other = np.zeros((4, 5), np.uint8), np.zeros((4, 5), np.uint8)
    one[0], other[:, 0] = 255, 255
    files = [saved(tmp_path, one, "a.png"), saved(tmp_path, other, "b.png")]
    found = union_of(files, (4, 5), foreground=None, masks_as="", image_name="a.png")
    np.testing.assert_array_equal(found, (one | other) > 0)
    with pytest.raises(UserError, match=r"to have one size, found \(6, 4\) beside \(5, 4\)"):
        union_of(
            [*files, saved(tmp_path, np.zeros((4, 6), np.uint8), "c.png")],
            (4, 5),
            foreground=None,
            masks_as="",
            image_name="a",
        )
