"""A folder of the user's own: guessed, shown, and written to the canonical folder like a public dataset."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from harness.data.folder.sample import Progress
from harness.data.reading import read_image
from harness.data.reading.picture import decode
from harness.data.sources.archives import read_sources, unpack_nested
from harness.data.sources.guess import Choice, guess_pairs
from harness.data.sources.images import SUFFIXES, read_source_image
from harness.data.sources.pairing import SourcePair
from harness.data.sources.prepare import Outcome, converted, prepare_pairs, scratch_beside
from harness.errors import UserError
from harness.files import atomic_path

_PICTURES = 5
_SIDE = 256
_TINT = np.array((255, 60, 60), np.float32)


@contextmanager
def readings_of(sources: Sequence[Path], root: Path, modality: str, domain: str) -> Iterator[list[Choice]]:
    """The readings of the sources, the likeliest first; their files can be read inside the `with` block.

    Raises:
        UserError: a source is missing or refused, or no reading gives a pair.
    """
    with scratch_beside(root) as folder:
        members = read_sources(sources, folder)
        if not any(member.name.lower().endswith(SUFFIXES) for member in members):
            members = [*members, *unpack_nested(members, folder)]
        if not members:
            raise UserError(f"{', '.join(map(str, sources))}: expected images and masks, found no file.")
        yield guess_pairs(members, modality, domain, folder / "looks")


def with_subjects(pairs: Sequence[SourcePair], pattern: str | None) -> list[SourcePair]:
    """The pairs with the subject that the pattern finds in each image's path: its first group, or all that it matches.

    Raises:
        UserError: no regular expression, or one that finds nothing in some path.
    """
    if pattern is None:
        return list(pairs)
    try:
        regex = re.compile(pattern)
    except re.error as error:
        raise UserError(
            f"--subject '{pattern}': expected a regular expression ({error}), such as 'P[0-9]+'."
        ) from error
    found = []
    for pair in pairs:
        match = regex.search(pair.image.path)
        if match is None:
            raise UserError(
                f"--subject '{pattern}': expected a match in every image's path, found none in {pair.image.path}."
            )
        found.append(replace(pair, subject=match[1] if regex.groups else match[0]))
    return found


def write_choice(pairs: Sequence[SourcePair], root: Path, source: str, progress: Progress | None = None) -> Outcome:
    """Writes the pairs below `root`, as `prepare_pairs` does."""
    about = {"dataset": pairs[0].domain, "title": source, "licence": "as its owner says", "sources": [source]}
    return prepare_pairs(pairs, root, about, progress)


def draw_pairs(pairs: Sequence[SourcePair], path: Path) -> None:
    """Draws up to five pairs, spread over all: the image above, with its mask in red below.

    Raises:
        UserError: one of them can't be read: the reading does not fit the data.
    """
    step = max(1, len(pairs) // _PICTURES)
    columns = []
    with TemporaryDirectory() as scratch:
        for number, pair in enumerate(pairs[::step][:_PICTURES]):
            folder = Path(scratch) / str(number)
            folder.mkdir()
            file, image, mask, _ = converted(pair, folder)
            rgb = _shown(file, image.pixels)
            below = rgb.astype(np.float32)
            below[mask] = 0.5 * below[mask] + 0.5 * _TINT
            columns.append(np.concatenate([_tile(rgb), _tile(below.astype(np.uint8))]))
    gap = np.full((2 * _SIDE, 4, 3), 255, np.uint8)
    sheet = np.concatenate([part for column in columns for part in (column, gap)][:-1], axis=1)
    with atomic_path(path) as temporary:
        Image.fromarray(sheet).save(temporary, format="PNG")


def _shown(file: Path, pixels: NDArray[np.generic] | None) -> NDArray[np.uint8]:
    if pixels is None:
        image = read_source_image(file)
        pixels = read_image(file, image.white or _peak(file))
    values = np.asarray(pixels)
    if values.dtype != np.uint8:
        values = (values / max(float(values.max()), 1e-9) * 255).astype(np.uint8)
    return values if values.ndim == 3 else np.repeat(values[..., None], 3, axis=2)


def _peak(file: Path) -> float | None:
    picture = decode(file, "image")
    return None if picture.white else float(picture.values.max()) or None


def _tile(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    tile = np.full((_SIDE, _SIDE, 3), 64, np.uint8)
    small = Image.fromarray(rgb)
    small.thumbnail((_SIDE, _SIDE))
    tile[: small.height, : small.width] = np.asarray(small)
    return tile
