"""What an oracle says of the truth: a box around each object, or a point inside it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

# Diagonal neighbours belong together.
_NEIGHBOURS = np.ones((3, 3), bool)


@dataclass(frozen=True)
class Objects:
    """The objects of one mask.

    Attributes:
        labels: (H, W) int, 0 outside, else the object's number, from 1.
        count: how many there are.
    """

    labels: NDArray[np.int32]
    count: int

    def boxes(self) -> Tensor:
        """(N, 4) float32: left, top, right, bottom of each object; its outermost pixels, in pixels of the mask."""
        sides = [(x.start, y.start, x.stop - 1, y.stop - 1) for y, x in ndimage.find_objects(self.labels)]
        return torch.tensor(sides, dtype=torch.float32).reshape(-1, 4)

    def points(self) -> Tensor:
        """(N, 2) float32: x, y of the pixel of each object that lies furthest from its edge; the first if several do."""
        found = []
        for number, (y, x) in enumerate(ndimage.find_objects(self.labels), start=1):
            # The image's own border is an edge too.
            depth = ndimage.distance_transform_edt(np.pad(self.labels[y, x] == number, 1))[1:-1, 1:-1]
            row, column = np.unravel_index(int(depth.argmax()), depth.shape)
            found.append((x.start + int(column), y.start + int(row)))
        return torch.tensor(found, dtype=torch.float32).reshape(-1, 2)

    def only(self, numbers: list[int]) -> Objects:
        """Some of them (numbers from 1), numbered anew in this order."""
        new = np.zeros(self.count + 1, np.int32)
        new[numbers] = np.arange(1, len(numbers) + 1)
        return Objects(new[self.labels], len(numbers))


def find_objects(mask: Tensor, per_component: bool) -> Objects:
    """The objects of a mask (H, W), 0 or 1: its connected components (8 neighbours), or all of it as one."""
    foreground = mask.detach().cpu().numpy() > 0.5
    if per_component:
        labels, count = ndimage.label(foreground, _NEIGHBOURS)
        return Objects(labels.astype(np.int32), int(count))
    return Objects(foreground.astype(np.int32), int(foreground.any()))


def jittered(boxes: Tensor, pixels: int, side: tuple[int, int], image: Tensor) -> Tensor:
    """Boxes as a hasty person would draw them: each side is moved by -pixels to +pixels, all whole numbers alike likely.

    The shifts depend on the image's content and on nothing else, so that a result does not depend on the batch, the order
    or the seed.

    Args:
        boxes: (N, 4) left, top, right, bottom.
        side: (height, width) that they stay within.
        image: (3, H, W) float in [0, 1].
    """
    if pixels == 0:
        return boxes
    content = (image.detach().float() * 255).round().to(torch.uint8).cpu().contiguous().numpy().tobytes()
    random = np.random.default_rng(int.from_bytes(hashlib.sha256(content).digest()[:8], "big"))
    moved = boxes + torch.from_numpy(random.integers(-pixels, pixels + 1, boxes.shape)).to(boxes)
    limit = torch.tensor([side[1], side[0]]).to(boxes) - 1
    # A small object's sides may have passed each other.
    low, high = torch.minimum(moved[:, :2], moved[:, 2:]), torch.maximum(moved[:, :2], moved[:, 2:])
    return torch.cat([torch.minimum(low.clamp(min=0), limit), torch.minimum(high.clamp(min=0), limit)], 1)
