"""How an image of any size becomes square arrays that a method gets, and how logits of these arrays become its mask.

`training.geometry` names the rule, `training.tiled` modalities that are cut into tiles whatever it says:

stretch: the image is resized to the square, whatever its sides; one array.
letterbox: the image is resized so that its longer side fits, and centred on black; one array. Black, as most cameras' own
    frames are, and the same for all images: a repeated border would continue vessels and lesions into the padding. Masks are
    0 there, and logits of the padding are cut off before the rest is resized.
tiles: nothing is resized. Square windows at native resolution cover the image, half of one overlapping the next (nearly: they
    are spread evenly, the first and the last end at the borders). The logits of a pixel are the mean over its windows,
    weighted by a Gaussian around each window's centre with a standard deviation of an eighth of its side: Isensee et al.,
    "nnU-Net", Nature Methods 18, 2021. A side that is shorter than a window is centred on black.

All three are one sequence: resize to `inner`, lay on a black canvas, cut windows; and back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from harness.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from torch import Tensor

STRETCH, LETTERBOX, TILES = GEOMETRIES = ("stretch", "letterbox", "tiles")
OVERLAP = 0.5
"""Of a window's side: two neighbouring windows share at least so much, where there is more than one."""
SIGMA = 1 / 8
"""Of a window's side: the standard deviation of its weights."""


@dataclass(frozen=True)
class Geometry:
    """Which rule holds for images of which modality.

    Attributes:
        rule: one of `GEOMETRIES`, of all modalities but `tiled`.
        tiled: modalities whose images are cut into tiles.
    """

    rule: str = STRETCH
    tiled: Sequence[str] = ()

    def layout(self, modality: str, height: int, width: int, size: int) -> Layout:
        """The arrays of size x size pixels of an image of height x width.

        Raises:
            UserError: an unknown rule.
        """
        return layout(TILES if modality in self.tiled else self.rule, height, width, size)


@dataclass(frozen=True)
class Layout:
    """Where the arrays of an image lie. Pairs are (rows, columns).

    Attributes:
        rule: the rule that made the layout, one of `GEOMETRIES`.
        native: size of the image.
        size: side of an array.
        inner: size to which the image is resized.
        canvas: size of the black ground that it is laid on.
        offset: where on the canvas its first pixel lies.
        steps: first rows, and first columns, of the windows.
    """

    rule: str
    native: tuple[int, int]
    size: int
    inner: tuple[int, int]
    canvas: tuple[int, int]
    offset: tuple[int, int]
    steps: tuple[tuple[int, ...], tuple[int, ...]]

    @cached_property
    def corners(self) -> tuple[tuple[int, int], ...]:
        """First row and column of each window on the canvas."""
        return tuple((row, column) for row in self.steps[0] for column in self.steps[1])

    @property
    def count(self) -> int:
        return len(self.steps[0]) * len(self.steps[1])

    @cached_property
    def covering(self) -> tuple[int, ...]:
        """Numbers of windows that cover the canvas with little overlap: every other step, and the last one."""
        chosen = [{*steps[::2], steps[-1]} for steps in self.steps]
        return tuple(n for n, (row, column) in enumerate(self.corners) if row in chosen[0] and column in chosen[1])

    def images(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The arrays (N, S, S, 3) of an image (H, W, 3); resized by antialiased bilinear filtering."""
        return self._windows(self._resized(image, Image.Resampling.BILINEAR))

    def masks(self, mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """The arrays (N, S, S), 0 or 1, of a mask (H, W); resized by nearest neighbour."""
        return self._windows(self._resized(mask.astype(np.uint8), Image.Resampling.NEAREST))

    def _resized(self, array: NDArray[np.uint8], how: Image.Resampling) -> NDArray[np.uint8]:
        if self.inner == self.native:
            return array
        return np.asarray(Image.fromarray(array).resize(self.inner[::-1], how))

    def _windows(self, inner: NDArray[np.uint8]) -> NDArray[np.uint8]:
        (top, left), (height, width) = self.offset, self.inner
        canvas = inner
        if self.canvas != self.inner:
            canvas = np.zeros((*self.canvas, *inner.shape[2:]), np.uint8)
            canvas[top : top + height, left : left + width] = inner
        return np.stack([canvas[row : row + self.size, column : column + self.size] for row, column in self.corners])


@lru_cache(maxsize=4096)
def layout(geometry: str, height: int, width: int, size: int) -> Layout:
    """The arrays of size x size pixels of an image of height x width.

    Raises:
        UserError: an unknown geometry.
    """
    native, square = (height, width), (size, size)
    if geometry == STRETCH:
        return Layout(geometry, native, size, square, square, (0, 0), ((0,), (0,)))
    if geometry == LETTERBOX:
        longest = max(native)
        rows, columns = (max(1, round(side * size / longest)) for side in native)
        offset = ((size - rows) // 2, (size - columns) // 2)
        return Layout(geometry, native, size, (rows, columns), square, offset, ((0,), (0,)))
    if geometry == TILES:
        canvas = (max(height, size), max(width, size))
        offset = ((canvas[0] - height) // 2, (canvas[1] - width) // 2)
        return Layout(
            geometry, native, size, native, canvas, offset, (_steps(canvas[0], size), _steps(canvas[1], size))
        )
    raise UserError(f"Unknown training.geometry '{geometry}'.{did_you_mean(geometry, GEOMETRIES)}")


def _steps(side: int, size: int) -> tuple[int, ...]:
    """First pixels of windows along a side: as few as overlap enough, spread evenly from one end to the other."""
    last = side - size
    count = math.ceil(last / (size * (1 - OVERLAP)))
    return tuple(round(last * number / count) for number in range(count + 1)) if count else (0,)


class MergedLogits:
    """The logits of one image on its canvas, from those of its arrays; a single array's are taken as they are."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._sums: Tensor | None = None
        # Of a window's pixels, and their sums on the canvas; None for a single array.
        self._own: Tensor | None = None
        self._weights: Tensor | None = None

    def add(self, number: int, logits: Tensor) -> None:
        """Takes the logits (S, S) float32 of array `number`."""
        import torch

        if self._layout.count == 1:
            self._sums = logits
            return
        if self._sums is None or self._weights is None or self._own is None:
            self._sums, self._weights = (torch.zeros(self._layout.canvas, device=logits.device) for _ in range(2))
            self._own = torch.from_numpy(window_weights(self._layout.size)).to(logits.device)
        row, column = self._layout.corners[number]
        here = (slice(row, row + self._layout.size), slice(column, column + self._layout.size))
        self._sums[here] += self._own * logits
        self._weights[here] += self._own

    def native(self) -> Tensor:
        """Logits (H, W) at the image's own size, once those of all arrays were added; resized bilinearly, as SAM does."""
        import torch.nn.functional as F

        assert self._sums is not None
        merged = self._sums if self._weights is None else self._sums / self._weights
        (top, left), (height, width) = self._layout.offset, self._layout.inner
        inner = merged[top : top + height, left : left + width]
        if self._layout.inner == self._layout.native:
            return inner
        return F.interpolate(inner[None, None], self._layout.native, mode="bilinear", align_corners=False)[0, 0]

    def mask(self) -> NDArray[np.bool_]:
        """The mask (H, W): logits above 0, that is a probability above 0.5."""
        return (self.native() > 0).cpu().numpy()


@lru_cache(maxsize=8)
def window_weights(size: int) -> NDArray[np.float32]:
    """The weights (S, S) of a window's pixels: 1 in the middle, positive everywhere."""
    distance = (np.arange(size) - (size - 1) / 2) / (size * SIGMA)
    line = np.exp(-0.5 * distance**2)
    return np.outer(line, line).astype(np.float32)


def window_key(key: str, number: int) -> str:
    """A name for a window of the image `key`."""
    return f"{key} [{number}]"
