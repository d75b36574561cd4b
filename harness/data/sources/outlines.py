"""Masks as outlines: the files of annotation programs, filled to pixels.

| format | file | structures |
|---|---|---|
| `aperio` | XML of ImageScope, one an image: Region / Vertices / Vertex X, Y | every region |
| `ddti` | XML of the DDTI set, one a case: a `mark` for an image's number, with JSON points in its `svg` | every shape |
| `imagej` | a .roi of ImageJ, or a .zip of them, one an image | every region |
| `labelme` | JSON, one an image: polygons, rectangles, circles | every shape |
| `cvat` | XML, one for all images: polygons, boxes, ellipses, masks | every shape |
| `coco` | JSON, one for all images: polygons or run lengths | every annotation |

`format:label` takes the shapes of one label only. A pixel is in a polygon as Pillow draws it, its outline included.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from harness.errors import UserError

Points = list[tuple[float, float]]
"""(x, y) in pixels, x to the right and y down."""
_MOST_BYTES = 500 * 2**20


class Shape:
    """A region with its label: a polygon, or a mask of its own at a place in the image."""

    def __init__(
        self, label: str, points: Points | None = None, *, box: Sequence[float] = (), kind: str = "polygon"
    ) -> None:
        self.label, self.points, self.box, self.kind = label, points or [], box, kind
        self.pixels: NDArray[np.bool_] | None = None

    @classmethod
    def of_pixels(cls, label: str, pixels: NDArray[np.bool_], left: int = 0, top: int = 0) -> Shape:
        shape = cls(label, box=(left, top), kind="pixels")
        shape.pixels = pixels
        return shape

    def draw(self, canvas: Image.Image) -> None:
        pen = ImageDraw.Draw(canvas)
        if self.pixels is not None:
            left, top = (int(number) for number in self.box)
            stamp = Image.fromarray(self.pixels.astype(np.uint8) * 255)
            canvas.paste(1, (left, top), stamp)
        elif self.kind == "polygon":
            if len(self.points) > 2:
                pen.polygon(self.points, fill=1, outline=1)
        elif self.kind == "box":
            pen.rectangle(tuple(self.box), fill=1)
        else:
            pen.ellipse(tuple(self.box), fill=1)


def read_outlines(path: Path, masks_as: str, size: tuple[int, int], image_name: str) -> NDArray[np.bool_]:
    """The mask (H, W) bool of one image.

    Args:
        masks_as: the format, and a label behind a colon where only its shapes count.
        size: (height, width) of the image.
        image_name: its file name.

    Raises:
        UserError: damaged, an unknown format, or no word of this image in a file for all of them.
    """
    kind, _, label = masks_as.partition(":")
    by_image = _shapes(path, kind, path.stat().st_mtime_ns)
    if kind in ONE_FOR_ALL:
        stem = PurePosixPath(image_name).stem
        found = by_image.get(image_name, by_image.get(stem))
        if found is None:
            raise UserError(f"{path}: expected shapes of {image_name}, found none of that name.")
    elif kind == "ddti":  # case 7's second image is 7_2.jpg
        found = by_image.get(PurePosixPath(image_name).stem.rpartition("_")[2], [])
        if not found:
            raise UserError(f"{path}: expected an outline on {image_name}, found none.")
    else:
        found = [shape for shapes in by_image.values() for shape in shapes]
    canvas = Image.new("L", (size[1], size[0]))
    for shape in found:
        if not label or shape.label == label:
            shape.draw(canvas)
    return np.asarray(canvas) > 0


def format_of(path: Path) -> str | None:
    """The format by a look at the file's content; None for what holds no outlines."""
    name = path.name.lower()
    if path.stat().st_size > _MOST_BYTES:
        return None
    try:
        if name.endswith(".json"):
            content = json.loads(path.read_text("utf-8"))
            keys = set(content) if isinstance(content, dict) else set()
            return "coco" if {"images", "annotations"} <= keys else "labelme" if "shapes" in keys else None
        if name.endswith(".xml"):
            root = _xml(path)
            if root.tag == "annotations" and root.find("image") is not None:
                return "cvat"
            return "aperio" if next(root.iter("Region"), None) is not None else None
        if name.endswith(".zip"):
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
            return "imagej" if names and all(one.lower().endswith(".roi") for one in names) else None
    except (
        ValueError,
        SyntaxError,
        RecursionError,
        zipfile.BadZipFile,
    ):  # of another program: no JSON, XML or archive at all
        return None
    return "imagej" if name.endswith(".roi") else None


def labels_in(path: Path, kind: str) -> list[str]:
    """The labels that the file's shapes have, sorted."""
    return sorted({shape.label for shapes in _shapes(path, kind, path.stat().st_mtime_ns).values() for shape in shapes})


def images_in(path: Path, kind: str) -> list[str]:
    """The file names of the images that a file for all images speaks of."""
    return [name for name in _shapes(path, kind, path.stat().st_mtime_ns) if PurePosixPath(name).suffix]


@lru_cache(maxsize=8)
def _shapes(path: Path, kind: str, changed: int) -> dict[str, list[Shape]]:
    """Image name (and its stem) -> shapes; "" for a file of one image."""
    if path.stat().st_size > _MOST_BYTES:
        raise UserError(f"{path}: expected outlines of at most {_MOST_BYTES >> 20} MiB, found more.")
    try:
        return FORMATS[kind](path)
    except UserError:
        raise
    except Exception as error:  # whatever is wrong with somebody's JSON or XML
        message = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{path}: expected outlines in the format {kind}, found something else ({message}).") from error


def _xml(path: Path) -> Any:
    from defusedxml.ElementTree import parse

    return parse(path).getroot()


def _aperio(path: Path) -> dict[str, list[Shape]]:
    shapes = []
    for region in _xml(path).iter("Region"):
        points = [(float(vertex.get("X")), float(vertex.get("Y"))) for vertex in region.iter("Vertex")]
        shapes.append(Shape(str(region.get("Text") or ""), points))
    return {"": shapes}


def _ddti(path: Path) -> dict[str, list[Shape]]:
    found: dict[str, list[Shape]] = {}
    for mark in _xml(path).iter("mark"):
        text = mark.findtext("svg") or ""
        for drawn in json.loads(text) if text.strip() else []:
            points = [(float(point["x"]), float(point["y"])) for point in drawn["points"]]
            shape = Shape(str(drawn.get("regionType", "")), points)
            found.setdefault((mark.findtext("image") or "").strip(), []).append(shape)
    return found


def _imagej(path: Path) -> dict[str, list[Shape]]:
    try:
        from roifile import ImagejRoi
    except ImportError as error:
        raise UserError(
            f"{path}: regions of ImageJ are read by roifile, which is not installed: pip install 'delightsam-bench[prepare]'."
        ) from error
    contents = [path.read_bytes()]
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if entry.filename.lower().endswith(".roi")]
            if sum(entry.file_size for entry in entries) > _MOST_BYTES:
                raise UserError(f"{path}: refused: it unpacks to more than {_MOST_BYTES >> 20} MiB of outlines.")
            contents = [archive.read(entry) for entry in entries]
    shapes = []
    for content in contents:
        region = ImagejRoi.frombytes(content)
        shapes.append(Shape(str(region.name or ""), [(float(x), float(y)) for x, y in region.coordinates()]))
    return {"": shapes}


def _labelme(path: Path) -> dict[str, list[Shape]]:
    content = json.loads(path.read_text("utf-8"))
    shapes = []
    for shape in content["shapes"]:
        points = [(float(x), float(y)) for x, y in shape["points"]]
        kind, label = shape.get("shape_type", "polygon"), str(shape["label"])
        if kind == "rectangle":
            shapes.append(Shape(label, box=_corners(points), kind="box"))
        elif kind == "circle":
            (x, y), edge = points[0], points[1]
            radius = float(np.hypot(edge[0] - x, edge[1] - y))
            shapes.append(Shape(label, box=(x - radius, y - radius, x + radius, y + radius), kind="ellipse"))
        elif kind == "polygon":
            shapes.append(Shape(label, points))
        else:
            raise UserError(f"{path}: expected polygons, rectangles or circles, found a {kind}.")
    return {"": shapes}


def _cvat(path: Path) -> dict[str, list[Shape]]:
    found: dict[str, list[Shape]] = {}
    for image in _xml(path).iter("image"):
        shapes = []
        for element in image:
            label = str(element.get("label", ""))
            if element.tag == "polygon":
                pairs = [pair.split(",") for pair in element.get("points").split(";")]
                shapes.append(Shape(label, [(float(x), float(y)) for x, y in pairs]))
            elif element.tag == "box":
                box = [float(element.get(name)) for name in ("xtl", "ytl", "xbr", "ybr")]
                shapes.append(Shape(label, box=box, kind="box"))
            elif element.tag == "ellipse":
                x, y, rx, ry = (float(element.get(name)) for name in ("cx", "cy", "rx", "ry"))
                shapes.append(Shape(label, box=(x - rx, y - ry, x + rx, y + ry), kind="ellipse"))
            elif element.tag == "mask":
                left, top, width, height = (int(element.get(name)) for name in ("left", "top", "width", "height"))
                runs = [int(count) for count in element.get("rle").split(",")]
                shapes.append(Shape.of_pixels(label, _from_runs(runs, (height, width), "C", path), left, top))
        _add(found, str(image.get("name")), shapes)
    return found


def _coco(path: Path) -> dict[str, list[Shape]]:
    content = json.loads(path.read_text("utf-8"))
    categories = {one["id"]: str(one["name"]) for one in content.get("categories", [])}
    images = {image["id"]: image for image in content["images"]}
    shapes: dict[Any, list[Shape]] = {number: [] for number in images}
    for one in content["annotations"]:
        label, outline = categories.get(one.get("category_id"), ""), one.get("segmentation")
        if isinstance(outline, dict):
            height, width = outline["size"]
            counts = outline["counts"]
            runs = _uncompressed(counts) if isinstance(counts, str) else counts
            shapes[one["image_id"]].append(Shape.of_pixels(label, _from_runs(runs, (height, width), "F", path)))
            continue
        for ring in outline or []:
            shapes[one["image_id"]].append(Shape(label, list(zip(ring[0::2], ring[1::2], strict=True))))
    found: dict[str, list[Shape]] = {}
    for number, image in images.items():
        _add(found, str(image["file_name"]), shapes[number])
    return found


def _add(found: dict[str, list[Shape]], name: str, shapes: list[Shape]) -> None:
    plain = PurePosixPath(name.replace("\\", "/"))
    found.setdefault(plain.name, []).extend(shapes)
    found.setdefault(plain.stem, found[plain.name])


def _from_runs(runs: Iterable[int], size: tuple[int, int], order: str, path: Path) -> NDArray[np.bool_]:
    """Run lengths, of background first, as pixels by row ("C") or by column ("F")."""
    lengths = np.asarray(list(runs), dtype=np.int64)
    if (lengths < 0).any() or lengths.sum() != size[0] * size[1]:
        raise UserError(f"{path}: expected run lengths of {size[0] * size[1]} pixels in all, found {lengths.sum()}.")
    values = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return values.reshape(size, order="F" if order == "F" else "C")


def _uncompressed(text: str) -> list[int]:
    """COCO's compressed run lengths: groups of 5 bits, low ones first; from the third on, differences to the one before last."""
    runs: list[int] = []
    at = 0
    while at < len(text):
        value = shift = 0
        while True:
            group = ord(text[at]) - 48
            value |= (group & 0x1F) << shift
            at, shift = at + 1, shift + 5
            if not group & 0x20:
                if group & 0x10:
                    value -= 1 << shift
                break
        runs.append(value + runs[-2] if len(runs) > 2 else value)
    return runs


def _corners(points: Points) -> tuple[float, float, float, float]:
    xs, ys = [x for x, _ in points], [y for _, y in points]
    return min(xs), min(ys), max(xs), max(ys)


FORMATS = {
    "aperio": _aperio, "ddti": _ddti, "imagej": _imagej, "labelme": _labelme, "cvat": _cvat, "coco": _coco,
}  # fmt: skip
ONE_FOR_ALL = ("cvat", "coco")
"""The formats of which one file speaks of many images, by their names."""
