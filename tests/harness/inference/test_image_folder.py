"""Which images `predict` takes, and where each one's mask goes: no two to one place."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.inference.image_folder import ImageFolder, find_images

STEMS = st.sampled_from(["a", "a.png", "a.jpg", "a.png.png", "b", "x/a", "x/a.png"])
SUFFIXES = st.sampled_from([".png", ".jpg", ".tif", ".PNG", ".png.png"])


@given(st.sets(st.builds(lambda stem, suffix: Path(stem + suffix), STEMS, SUFFIXES), min_size=1))
def test_no_two_images_share_a_mask(paths: set[Path]) -> None:
    names = ImageFolder(Path("/"), sorted(paths), {}).mask_names()
    assert len(set(names)) == len(paths)
    assert all(
        name.suffix == ".png" and name.parent == path.parent for name, path in zip(names, sorted(paths), strict=True)
    )
    overlays = {name.with_suffix(".jpg") for name in names}
    assert len(overlays) == len(paths)


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["a.jpg", "b.png"], ["a.png", "b.png"]),
        (["a.jpg", "a.png"], ["a.jpg.png", "a.png.png"]),
        (["a.jpg", "a.png", "a.png.png"], ["a.jpg.png", "a.png.png", "a.png.png.png"]),
        (["x/a.png", "y/a.png"], ["x/a.png", "y/a.png"]),
    ],
)
def test_short_names_where_they_are_clear(paths: list[str], expected: list[str]) -> None:
    assert [
        name.as_posix() for name in ImageFolder(Path("/"), [Path(path) for path in paths], {}).mask_names()
    ] == expected


def test_links_are_followed_and_dead_ones_named(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/a.png").write_text("")
    (tmp_path / "images").mkdir()
    (tmp_path / "images/more").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "images/circle").symlink_to(tmp_path / "images", target_is_directory=True)
    (tmp_path / "images/dead.png").symlink_to("gone.png")
    (tmp_path / "images/notes.txt").write_text("")
    found = find_images(tmp_path / "images")
    assert found.images == [Path("more/a.png")]
    assert found.skipped == {"a link to nothing": [Path("dead.png")], "not an image (.txt)": [Path("notes.txt")]}
