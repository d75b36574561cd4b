"""Pictures, masks, tables and outlines as bytes, in the encodings that the original archives have."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Sequence

import numpy as np
import tifffile
from PIL import Image

Box = tuple[int, int, int, int]
"""x0, y0, x1, y1: the corners of a rectangle, all within it."""


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def grey(mask: np.ndarray) -> np.ndarray:
    """A mask as 0 and 255."""
    return mask.astype(np.uint8) * 255


def soft(mask: np.ndarray) -> np.ndarray:
    """As `grey`, with a value in between in the last corner, which is background: some copies have soft edges."""
    values = grey(mask)
    values[-1, -1] = 90
    return values


def in_colour(values: np.ndarray) -> np.ndarray:
    """Grey as (H, W, 3)."""
    return np.repeat(values[..., None], 3, axis=2)


def png(values: np.ndarray) -> bytes:
    return _saved(Image.fromarray(values), "PNG")


def png_1_bit(mask: np.ndarray) -> bytes:
    return _saved(Image.fromarray(mask), "PNG")


def bmp(values: np.ndarray) -> bytes:
    return _saved(Image.fromarray(values), "BMP")


def gif(mask: np.ndarray) -> bytes:
    return _saved(Image.fromarray(grey(mask)), "GIF")


def jpeg(values: np.ndarray) -> bytes:
    return _saved(Image.fromarray(values), "JPEG", quality=92)


def jpeg_mask(mask: np.ndarray, seed: int, channels: int = 1, *, soft_edge: bool = True) -> bytes:
    """Values near black and white, as compressed masks have them, and one in between as `soft` has it."""
    noise = np.random.default_rng(seed).integers(0, 6, mask.shape)
    values = np.where(mask, 255 - noise, noise).astype(np.uint8)
    if soft_edge:
        values[-1, -1] = 90
    return jpeg(values if channels == 1 else in_colour(values))


def tif(values: np.ndarray) -> bytes:
    return _saved(Image.fromarray(values), "TIFF", compression="tiff_lzw")


def label_tif(mask: np.ndarray) -> bytes:
    """One number for each nucleus, of 16 bits: here the columns' halves."""
    labels = mask.astype(np.uint16)
    labels[:, mask.shape[1] // 2 :] *= 300
    stream = io.BytesIO()
    tifffile.imwrite(stream, labels)
    return stream.getvalue()


def ppm(values: np.ndarray) -> bytes:
    return _saved(Image.fromarray(values).convert("RGB"), "PPM")


def ppm_gz(values: np.ndarray) -> bytes:
    return gzip.compress(ppm(values), 1)


def jsrt_img(values: np.ndarray) -> bytes:
    """No header, the high byte first."""
    return values.astype(">u2").tobytes()


def table(rows: Sequence[Sequence[object]], separator: str = ",") -> bytes:
    return "".join(separator.join(map(str, row)) + "\r\n" for row in rows).encode()


def corners(box: Box) -> list[tuple[int, int]]:
    x0, y0, x1, y1 = box
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


def filled(boxes: Sequence[Box], height: int, width: int) -> np.ndarray:
    mask = np.zeros((height, width), bool)
    for x0, y0, x1, y1 in boxes:
        mask[y0 : y1 + 1, x0 : x1 + 1] = True
    return mask


def aperio_xml(boxes: Sequence[Box]) -> bytes:
    regions = "".join(
        f'<Region Id="{n}" Type="0"><Attributes/><Vertices>'
        + "".join(f'<Vertex X="{x}.0" Y="{y}.0" Z="0"/>' for x, y in corners(box))
        + "</Vertices></Region>"
        for n, box in enumerate(boxes, 1)
    )
    return f'<?xml version="1.0"?><Annotations MicronsPerPixel="0.25"><Annotation Id="1"><Regions>{regions}</Regions></Annotation></Annotations>'.encode()


def ddti_xml(case: int, marks: Sequence[tuple[int, Sequence[Box]]]) -> bytes:
    """The description of a case; each mark is the number of an image and what was drawn on it."""
    shapes = []
    for number, boxes in marks:
        drawn = [
            {"points": [{"x": x, "y": y} for x, y in corners(box)], "annotation": {}, "regionType": "freehand"}
            for box in boxes
        ]
        svg = json.dumps(drawn) if drawn else ""
        shapes.append(f"<mark><image>{number}</image><svg>{svg}</svg></mark>")
    about = f"<number>{case}</number><age>49</age><sex>F</sex><composition>solid</composition><tirads>4a</tirads>"
    return f'<?xml version="1.0" encoding="UTF-8"?><case>{about}{"".join(shapes)}</case>'.encode()
