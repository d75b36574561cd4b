"""Pictures of doubtful masks (the image, the mask's file as it is shown, what was read of it) and of pictures that look alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from harness.data.folder.paths import relative
from harness.data.folder.sample import Pair, Problem
from harness.data.reading import read_mask
from harness.data.reading.image import to_rgb
from harness.data.reading.picture import Picture, decode
from harness.errors import UserError
from harness.files import atomic_path

KINDS = ("how a mask is read", "inverted mask", "full mask", "unusable mask", "lossy mask", "orientation unclear")
"""Of the problems and warnings that a picture makes plain."""
MOST = 24
_SIDE = 256
_UNREAD = (128, 0, 128)


def draw_doubtful(root: Path, pairs: Iterable[Pair], found: Sequence[Problem], folder: Path) -> dict[str, Path]:
    """Writes up to `MOST` pictures into `folder`.

    Returns:
        File that the problem names -> picture; without those whose mask can't be decoded at all.

    Raises:
        UserError: the folder can't be written.
    """
    by_file = {relative(file, root): pair for pair in pairs for file in (pair.image, pair.mask)}
    doubtful = [file for file in dict.fromkeys(one.file for one in found if one.kind in KINDS) if file in by_file]
    drawn: dict[str, Path] = {}
    for file in doubtful:
        if len(drawn) == MOST:
            break
        pair = by_file[file]
        panels = [_shown(pair.image), _shown(pair.mask), _read(pair.mask)]
        if panels[1] is None:
            continue
        path = folder / f"{len(drawn):02d}_{file.replace('/', '_')[-150:]}.png"
        with atomic_path(path) as temporary:
            Image.fromarray(_side_by_side(panels)).save(temporary, format="PNG")
        drawn[file] = path
    for one in found:
        if one.images and len(drawn) < MOST and all(file in by_file for file in one.images):
            path = folder / f"{len(drawn):02d}_alike_{one.images[0].replace('/', '_')[-150:]}.png"
            panels = [_shown(root / file) for file in one.images]
            with atomic_path(path) as temporary:
                Image.fromarray(_side_by_side(panels)).save(temporary, format="PNG")
            drawn[one.images[0]] = path
    return drawn


def _shown(path: Path) -> NDArray[np.uint8] | None:
    try:
        picture: Picture = decode(path, "picture")
        values = picture.values
        peak = None if picture.white else float(values.max()) or None
        return to_rgb(picture, path, peak)
    except UserError:
        return None


def _read(path: Path) -> NDArray[np.uint8] | None:
    """What was read, white on black; None where it was refused."""
    try:
        return np.repeat(read_mask(path)[..., None], 3, axis=2).astype(np.uint8) * 255
    except UserError:
        return None


def _side_by_side(panels: Sequence[NDArray[np.uint8] | None]) -> NDArray[np.uint8]:
    empty = np.full((_SIDE, _SIDE, 3), _UNREAD, np.uint8)
    tiles = []
    for panel in panels:
        tile = empty.copy()
        if panel is not None:
            small = Image.fromarray(panel)
            small.thumbnail((_SIDE, _SIDE))
            tile[:] = 64
            tile[: small.height, : small.width] = np.asarray(small)
        tiles += [tile, np.full((_SIDE, 4, 3), 255, np.uint8)]
    return np.concatenate(tiles[:-1], axis=1)
