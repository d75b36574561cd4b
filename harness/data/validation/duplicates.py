"""Pictures that occur twice: the same pixels, or nearly the same by perceptual hash.

A picture in a training domain and again in the test domain turns "unseen" into "seen".
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from harness.data.folder.paths import relative
from harness.data.folder.sample import Problem, Sample

HASH_SIDE = 16
NEAR = 40
"""Differing bits, of 256, up to which two pictures are called near copies.

Measured on 1352 medical pictures of 18 public sets: recompressed, rescaled, brightened and greyed copies differ in at
most 20 bits, copies cropped by 2 % on each side in 37 (median); the nearest two really different pictures of any two
domains differ in 50. Mirrored and rotated copies are not found.
"""

_ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class Prints:
    """What a picture is recognised by: SHA-256 of its decoded pixels, and 256 bits of its coarse look."""

    pixels: str
    look: NDArray[np.bool_]


def fingerprints(image: NDArray[np.uint8]) -> Prints:
    """The prints of an (H, W, 3) uint8 image. `look` is pHash (DCT of a reduced grey copy), by the ImageHash library."""
    pixels = hashlib.sha256(repr(image.shape).encode() + np.ascontiguousarray(image).tobytes()).hexdigest()
    return Prints(pixels, imagehash.phash(Image.fromarray(image), hash_size=HASH_SIDE).hash.ravel())


def find_duplicates(
    root: Path, samples: Sequence[Sample], prints: Mapping[str, Prints]
) -> tuple[list[Problem], list[Problem]]:
    """Finds copies among `samples`.

    Returns:
        Problems: same pixels in two domains of one modality. Warnings: same pixels elsewhere, and near copies in two
        domains of one modality (near copies within a domain are usual: neighbouring frames of one examination).
    """
    problems: list[Problem] = []
    warnings: list[Problem] = []
    for group in _same_pixels(samples, prints):
        first = group[0]
        for other in group[1:]:
            across = other.modality == first.modality and other.domain != first.domain
            problem = _copy(root, other, first, across)
            (problems if across else warnings).append(problem)
    for modality in sorted({sample.modality for sample in samples}):
        chosen = [sample for sample in samples if sample.modality == modality]
        for sample, other, bits in _near_copies(chosen, prints):
            message = (
                f"looks like {relative(other.image, root)}, of another domain ({bits} of {HASH_SIDE**2} bits of their "
                "perceptual hashes differ). Look at both: if they are one picture, remove one of them."
            )
            warnings.append(Problem("near copy", relative(sample.image, root), message))
    return problems, warnings


def _copy(root: Path, sample: Sample, first: Sample, across: bool) -> Problem:
    where = "in two domains of one modality, so a test image could be trained on" if across else "twice"
    message = f"has the same pixels as {relative(first.image, root)}: one picture {where}. Remove one of them."
    return Problem("copy across domains" if across else "copy", relative(sample.image, root), message)


def _same_pixels(samples: Iterable[Sample], prints: Mapping[str, Prints]) -> list[list[Sample]]:
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(prints[sample.key].pixels, []).append(sample)
    return [group for group in groups.values() if len(group) > 1]


def _near_copies(samples: Sequence[Sample], prints: Mapping[str, Prints]) -> Iterable[tuple[Sample, Sample, int]]:
    """Pairs of different pictures in different domains whose hashes nearly agree."""
    if not samples:
        return
    bits = np.stack([prints[sample.key].look for sample in samples]).astype(np.float32)
    domains = np.array([sample.domain for sample in samples])
    for start in range(0, len(samples), _ROWS_AT_ONCE):
        rows = bits[start : start + _ROWS_AT_ONCE]
        distances = rows @ (1 - bits).T + (1 - rows) @ bits.T
        near = (distances <= NEAR) & (domains[start : start + _ROWS_AT_ONCE, None] != domains[None, :])
        for row, column in zip(*np.nonzero(near), strict=True):
            sample, other = samples[start + row], samples[column]
            if column < start + row and prints[sample.key].pixels != prints[other.key].pixels:
                yield sample, other, int(distances[row, column])
