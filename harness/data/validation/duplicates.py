"""Pictures that occur twice: the same pixels, or nearly the same by perceptual hash.

A picture in a training domain and again in the test domain turns "unseen" into "seen".
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from harness.data.folder.paths import relative
from harness.data.folder.sample import MANIFEST, Problem, Sample
from harness.data.reading import read_image

HASH_SIDE = 16
NEAR = 40
"""Differing bits, of 256, up to which two pictures are called near copies.

Measured on 1352 medical pictures of 18 public sets: recompressed, rescaled, brightened and greyed copies differ in at
most 20 bits, copies cropped by 2 % on each side in 37 (median); the nearest two really different pictures of any two
domains differ in 50. Mirrored and rotated copies are not found.
"""

CONFIRMED = 0.5
"""Correlation of detail from which two pictures of nearly the same hash are one picture, not two of one kind.

Measured on the same pictures: recompressed, halved and greyed copies have 0.96 or more (median 0.99), the known repeats of BUSI 0.75
and 0.87; two different eyes of DRIVE, whose round frame makes hashes agree within 40 bits in 86 pairs, at most 0.38.
"""
_DETAIL_SIDE, _DETAIL_SIGMA, _DARK, _MARGIN = 64, 1.5, 16, 5

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
        Problems: same pixels in two domains of one modality. Warnings: same pixels elsewhere, near copies in two domains of one
        modality, and near copies within a domain that nothing keeps together: of different or unknown subjects, though a video's
        neighbouring frames or a repeated picture.
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
            agreement = detail_agreement(sample, other)
            sure = "agrees as well" if agreement >= CONFIRMED else "does not: they may be of one kind only"
            message = (
                f"looks like {relative(other.image, root)}, of another domain ({bits} of {HASH_SIDE**2} bits of their "
                f"perceptual hashes differ; their detail {sure}, correlation {agreement:.2f}). Look at both: if they are one "
                "picture, remove one of them."
            )
            warnings.append(_beside(root, "near copy", sample, other, message))
    warnings += _loose_copies(root, samples, prints)
    return problems, warnings


def detail_agreement(sample: Sample, other: Sample) -> float:
    """Correlation of what is finer than 1/40 of the two pictures, away from dark frames: 1 for copies, about 0 for others."""
    (values, inside), (others, also) = _detail(sample), _detail(other)
    both = inside & also
    if both.sum() < _DETAIL_SIDE**2 // 10:  # dark all over, as fluorescence is
        both = np.ones_like(both)
    one, two = values[both] - values[both].mean(), others[both] - others[both].mean()
    return float((one * two).sum() / max(float(np.sqrt((one**2).sum() * (two**2).sum())), 1e-9))


@lru_cache(maxsize=1024)
def _detail(sample: Sample) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """(64, 64) float32 without its coarse part, and (64, 64) bool: away from dark frames."""
    from scipy.ndimage import binary_erosion, gaussian_filter

    grey = Image.fromarray(read_image(sample.image, sample.white_level)).convert("L")
    small = np.asarray(grey.resize((_DETAIL_SIDE, _DETAIL_SIDE), Image.Resampling.BOX), dtype=np.float32)
    return small - gaussian_filter(small, _DETAIL_SIGMA), binary_erosion(small > _DARK, iterations=_MARGIN)


def _loose_copies(root: Path, samples: Sequence[Sample], prints: Mapping[str, Prints]) -> list[Problem]:
    """One warning a domain for its near copies that a split could set apart."""
    domains: dict[str, list[Sample]] = {}
    for sample in samples:
        domains.setdefault(sample.domain_key, []).append(sample)
    found = []
    for domain, members in domains.items():
        copies = [
            (sample, other)
            for sample, other in _nearest_within(members, prints)
            if detail_agreement(sample, other) >= CONFIRMED
        ]
        if copies:
            sample, other = copies[0]
            count = "1 picture is" if len(copies) == 1 else f"{len(copies)} pictures are"
            message = (
                f"{count} nearly the same as another one of this domain, for example {relative(sample.image, root)} and "
                f"{relative(other.image, root)}: repeats, or frames of one video. A split within the domain may put one into "
                f"training and the other into the test. State the patient or video as subject in {MANIFEST}, or remove repeats."
            )
            found.append(_beside(root, "near copies in a domain", sample, other, message, file=domain))
    return found


def _beside(root: Path, kind: str, sample: Sample, other: Sample, message: str, *, file: str = "") -> Problem:
    images = (relative(sample.image, root), relative(other.image, root))
    return Problem(kind, file or images[0], message, images)


def _nearest_within(samples: Sequence[Sample], prints: Mapping[str, Prints]) -> Iterable[tuple[Sample, Sample]]:
    """Each picture with the nearest one before it that no subject keeps beside it, where their hashes nearly agree."""
    bits = np.stack([prints[sample.key].look for sample in samples]).astype(np.float32)
    subjects = np.array([sample.subject or f"\0{number}" for number, sample in enumerate(samples)])
    for start in range(0, len(samples), _ROWS_AT_ONCE):
        rows = bits[start : start + _ROWS_AT_ONCE]
        distances = rows @ (1 - bits).T + (1 - rows) @ bits.T
        distances[subjects[start : start + _ROWS_AT_ONCE, None] == subjects[None, :]] = np.inf
        distances[np.arange(len(samples))[None, :] >= np.arange(start, start + len(rows))[:, None]] = np.inf
        for row, column in enumerate(distances.argmin(axis=1)):
            sample, other = samples[start + row], samples[column]
            same = prints[sample.key].pixels == prints[other.key].pixels  # said already
            if distances[row, column] <= NEAR and not same:
                yield sample, other


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
