"""Every shape of every format of outlines, against pixels that are known without drawing."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from harness.data.sources.outlines import format_of, images_in, labels_in, read_outlines
from harness.errors import UserError

H, W = 16, 24
LEFT, TOP, RIGHT, BOTTOM = 3, 2, 9, 6
CORNERS = [(LEFT, TOP), (RIGHT, TOP), (RIGHT, BOTTOM), (LEFT, BOTTOM)]
RING = [number for corner in CORNERS for number in corner]
Write = Callable[[Path], Path]


def box(left: int = LEFT, top: int = TOP, right: int = RIGHT, bottom: int = BOTTOM) -> np.ndarray:
    """(H, W) bool, the corners included."""
    mask = np.zeros((H, W), bool)
    mask[top : bottom + 1, left : right + 1] = True
    return mask


def text(name: str, content: str) -> Write:
    def write(folder: Path) -> Path:
        (folder / name).write_text(content, "utf-8")
        return folder / name

    return write


def labelme(*shapes: dict[str, Any]) -> Write:
    return text("f.json", json.dumps({"imagePath": "f.png", "shapes": [{"label": "polyp", **one} for one in shapes]}))


def cvat(*elements: str) -> Write:
    return text("all.xml", f"<annotations><image name='f.png'>{''.join(elements)}</image></annotations>")


def coco(segmentation: Any) -> Write:
    content = {
        "images": [{"id": 4, "file_name": "part/f.png"}],
        "annotations": [{"image_id": 4, "category_id": 1, "segmentation": segmentation}],
        "categories": [{"id": 1, "name": "polyp"}],
    }
    return text("all.json", json.dumps(content))


def aperio(*regions: list[tuple[int, int]]) -> Write:
    def region(corners: list[tuple[int, int]]) -> str:
        vertices = "".join(f"<Vertex X='{x}' Y='{y}'/>" for x, y in corners)
        return f"<Region Text='polyp'><Vertices>{vertices}</Vertices></Region>"

    return text("f.xml", f"<Annotations><Regions>{''.join(map(region, regions))}</Regions></Annotations>")


def imagej(*, packed: bool) -> Write:
    def write(folder: Path) -> Path:
        roi = pytest.importorskip("roifile").ImagejRoi.frompoints(np.array(CORNERS, float))
        roi.name = "polyp"
        path = folder / ("f.zip" if packed else "f.roi")
        if packed:
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("one.roi", roi.tobytes())
        else:
            path.write_bytes(roi.tobytes())
        return path

    return write


def runs_of(mask: np.ndarray, order: str) -> list[int]:
    """Lengths of equal pixels in turn, of background first."""
    flat = np.concatenate(([False], mask.ravel("F" if order == "F" else "C")))
    edges = np.flatnonzero(np.diff(flat.astype(np.int8)))
    return np.diff([0, *edges, mask.size]).tolist()


def compressed(runs: list[int]) -> str:
    """As the COCO interface writes them: from the fourth on, the difference to the one before last; 5 bits a letter, low ones first."""
    letters = []
    for index, run in enumerate(runs):
        number = run - runs[index - 2] if index > 2 else run
        more = True
        while more:
            group, number = number & 31, number >> 5
            more = number != (-1 if group & 16 else 0)
            letters.append(chr(48 + (group | (32 if more else 0))))
    return "".join(letters)


RLE = ",".join(str(run) for run in runs_of(np.ones((BOTTOM - TOP + 1, RIGHT - LEFT + 1), bool), "C"))
POINTS = ";".join(f"{x},{y}" for x, y in CORNERS)
MASK = f"left='{LEFT}' top='{TOP}' width='{RIGHT - LEFT + 1}' height='{BOTTOM - TOP + 1}'"
BOXES: dict[str, tuple[str, Write]] = {
    "labelme polygon": ("labelme", labelme({"points": CORNERS, "shape_type": "polygon"})),
    "labelme without a kind": ("labelme", labelme({"points": CORNERS})),
    "labelme rectangle": ("labelme", labelme({"points": [(RIGHT, TOP), (LEFT, BOTTOM)], "shape_type": "rectangle"})),
    "cvat polygon": ("cvat", cvat(f"<polygon label='polyp' points='{POINTS}'/>")),
    "cvat box": ("cvat", cvat(f"<box label='polyp' xtl='{LEFT}' ytl='{TOP}' xbr='{RIGHT}' ybr='{BOTTOM}'/>")),
    "cvat mask": ("cvat", cvat(f"<mask label='polyp' rle='{RLE}' {MASK}/>")),
    "coco polygon": ("coco", coco([RING])),
    "coco run lengths": ("coco", coco({"size": [H, W], "counts": runs_of(box(), "F")})),
    "coco compressed": ("coco", coco({"size": [H, W], "counts": compressed(runs_of(box(), "F"))})),
    "aperio": ("aperio", aperio(CORNERS)),
    "imagej": ("imagej", imagej(packed=False)),
    "imagej in a zip": ("imagej", imagej(packed=True)),
}


@pytest.mark.parametrize("name", BOXES)
def test_a_box(name: str, tmp_path: Path) -> None:
    kind, write = BOXES[name]
    path = write(tmp_path)
    assert format_of(path) == kind and labels_in(path, kind) == ["polyp"]
    np.testing.assert_array_equal(read_outlines(path, kind, (H, W), "f.png"), box())
    np.testing.assert_array_equal(read_outlines(path, f"{kind}:polyp", (H, W), "f.png"), box())
    assert not read_outlines(path, f"{kind}:tool", (H, W), "f.png").any()


@pytest.mark.parametrize(
    ("kind", "write"),
    [
        ("labelme", labelme({"points": [(12, 8), (17, 8)], "shape_type": "circle"})),
        ("cvat", cvat("<ellipse label='polyp' cx='12' cy='8' rx='5' ry='5'/>")),
    ],
)
def test_a_disc(kind: str, write: Write, tmp_path: Path) -> None:
    found = read_outlines(write(tmp_path), kind, (H, W), "f.png")
    y, x = np.mgrid[:H, :W]
    distance = np.hypot(x - 12, y - 8)
    assert found[distance <= 4].all() and not found[distance >= 6].any()


@pytest.mark.parametrize(
    ("kind", "write"),
    [
        ("labelme", labelme({"points": CORNERS}, {"points": [(12, 9), (20, 13)], "shape_type": "rectangle"})),
        ("cvat", cvat(*(f"<box label='polyp' xtl='{a}' ytl='{b}' xbr='{c}' ybr='{d}'/>" for a, b, c, d in
                        ((LEFT, TOP, RIGHT, BOTTOM), (12, 9, 20, 13))))),
        ("coco", coco([RING, [12, 9, 20, 9, 20, 13, 12, 13]])),
        ("aperio", aperio(CORNERS, [(12, 9), (20, 9), (20, 13), (12, 13)])),
    ],
)  # fmt: skip
def test_several_shapes_are_one_mask(kind: str, write: Write, tmp_path: Path) -> None:
    found = read_outlines(write(tmp_path), kind, (H, W), "f.png")
    np.testing.assert_array_equal(found, box() | box(12, 9, 20, 13))


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=12)))
def test_compressed_run_lengths_of_any_mask(tmp_path_factory: pytest.TempPathFactory, mask: np.ndarray) -> None:
    height, width = mask.shape
    write = coco({"size": [height, width], "counts": compressed(runs_of(mask, "F"))})
    path = write(tmp_path_factory.mktemp("coco"))
    np.testing.assert_array_equal(read_outlines(path, "coco", (height, width), "f.png"), mask)


@given(st.integers(0, H - 1), st.integers(0, W - 1), st.data())
def test_a_mask_of_cvat_lies_at_its_place(
    tmp_path_factory: pytest.TempPathFactory, top: int, left: int, data: st.DataObject
) -> None:
    mask = data.draw(arrays(bool, (data.draw(st.integers(1, H - top)), data.draw(st.integers(1, W - left)))))
    rle = ",".join(str(run) for run in runs_of(mask, "C"))
    place = f"left='{left}' top='{top}' width='{mask.shape[1]}' height='{mask.shape[0]}'"
    path = cvat(f"<mask label='polyp' rle='{rle}' {place}/>")(tmp_path_factory.mktemp("cvat"))
    expected = np.zeros((H, W), bool)
    expected[top : top + mask.shape[0], left : left + mask.shape[1]] = mask
    np.testing.assert_array_equal(read_outlines(path, "cvat", (H, W), "f.png"), expected)


def test_a_line_is_no_region(tmp_path: Path) -> None:
    path = labelme({"points": CORNERS[:2]})(tmp_path)
    assert not read_outlines(path, "labelme", (H, W), "f.png").any()


def test_a_file_for_all_knows_images_by_name_and_by_stem(tmp_path: Path) -> None:
    path = coco([RING])(tmp_path)
    assert images_in(path, "coco") == ["f.png"]
    np.testing.assert_array_equal(read_outlines(path, "coco", (H, W), "f.tif"), box())
    with pytest.raises(UserError, match=r"all\.json: expected shapes of g\.png, found none of that name"):
        read_outlines(path, "coco", (H, W), "g.png")


@pytest.mark.parametrize(
    ("kind", "write", "message"),
    [
        (
            "labelme",
            labelme({"points": CORNERS, "shape_type": "linestrip"}),
            "expected polygons, rectangles or circles",
        ),
        ("labelme", text("f.json", "{"), "expected outlines in the format labelme, found something else"),
        ("coco", coco({"size": [H, W], "counts": [5, 7]}), f"expected run lengths of {H * W} pixels in all, found 12"),
        ("coco", coco({"size": [H, W], "counts": [-1, H * W + 1]}), "expected run lengths"),
        ("coco", coco([RING[:-1]]), "expected outlines in the format coco"),
        ("cvat", cvat("<box label='polyp' xtl='1'/>"), "expected outlines in the format cvat"),
        ("aperio", text("f.xml", "<Annotations"), "expected outlines in the format aperio"),
        ("imagej", text("f.roi", "no region"), "expected outlines in the format imagej"),
    ],
)
def test_what_can_not_be_read(kind: str, write: Write, message: str, tmp_path: Path) -> None:
    path = write(tmp_path)
    with pytest.raises(UserError, match=message):
        read_outlines(path, kind, (H, W), "f.png")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", "{"), ("a.json", "[1, 2]"), ("a.json", '{"images": []}'),
        ("a.xml", "<a"), ("a.xml", "<root><child/></root>"), ("a.zip", "PK"), ("a.txt", "shapes"),
    ],
)  # fmt: skip
def test_other_files_hold_no_outlines(name: str, content: str, tmp_path: Path) -> None:
    assert format_of(text(name, content)(tmp_path)) is None


def test_a_zip_of_other_files_holds_no_outlines(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("one.roi", b"")
        archive.writestr("one.png", b"")
    assert format_of(tmp_path / "a.zip") is None
