"""What is in the files of a pair: each is decoded and hashed once, and what is wrong or doubtful is said."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from harness.data.folder.manifest import Row
from harness.data.folder.paths import relative
from harness.data.folder.sample import MANIFEST, Pair, Problem, Progress, Sample
from harness.data.reading import examine_mask
from harness.data.reading.image import Range, examine_image, to_rgb
from harness.data.reading.levels import LEVELS, white_level
from harness.data.reading.mask import LossyMask, MaskReading
from harness.errors import UserError
from harness.files import sha256_file

_FRACTION_TOLERANCE = 1e-3
_BORDER_SHARE = 0.95
"""A mask that covers more than half of its image and this share of the image's border looks inverted."""

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Examined:
    """A pair as its files are.

    Attributes:
        sample: None where image or mask can't be used.
        problems: what makes the pair unfit.
        warnings: what a person should look at.
        range: of the image's values, where its format does not tell what is white.
        rgb: (H, W, 3) uint8, when it was asked for; scaled by the image's own largest value where the format tells none.
    """

    pair: Pair
    sample: Sample | None
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    range: Range | None = None
    rgb: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class Findings:
    """What was found of many pairs; `samples` are those that can be used, in the order of the pairs."""

    samples: list[Sample]
    problems: list[Problem]
    warnings: list[Problem]


def examine_pairs(root: Path, pairs: Sequence[Pair], progress: Progress | None = None) -> Findings:
    """Decodes, measures and hashes all pairs, and compares those of a manifest with what it says."""
    return conclude(root, in_threads(lambda pair: examine(root, pair), pairs, progress))


def examine(root: Path, pair: Pair, *, keep_rgb: bool = False) -> Examined:
    """One pair, by itself."""
    problems, warnings = [], []
    image = mask = None
    try:
        image = examine_image(pair.image)
    except UserError as error:
        problems.append(_unreadable(root, pair.image, "unreadable image", error))
    try:
        mask = examine_mask(pair.mask)
    except UserError as error:
        kind = "lossy mask" if isinstance(error, LossyMask) else "unusable mask"
        problems.append(_unreadable(root, pair.mask, kind, error))
    if image is None or mask is None:
        return Examined(pair, None, tuple(problems))
    height, width = image.size
    if problem := _misfit(root, pair, image.size, image.picture.orientation, mask):
        return Examined(pair, None, (problem,))
    warnings += [Problem("how a mask is read", relative(pair.mask, root), note) for note in mask.notes]
    warnings += _look(relative(pair.mask, root), mask.mask)
    if _like_a_mask(image.picture.values):
        message = "the image has two values, as masks have. See that images and masks are not swapped."
        warnings.append(Problem("image like a mask", relative(pair.image, root), message))
    sample = Sample(
        modality=pair.modality,
        domain=pair.domain,
        id=pair.id,
        image=pair.image,
        mask=pair.mask,
        width=width,
        height=height,
        foreground_fraction=round(float(mask.mask.mean()), 6),  # as the manifest states it
        sha256_image=sha256_file(pair.image),
        sha256_mask=sha256_file(pair.mask),
    )
    rgb = None
    if keep_rgb and (image.range is None or image.range.low >= 0):
        rgb = to_rgb(image.picture, pair.image, (image.range.high or None) if image.range else None)
    if isinstance(pair, Row):
        problems, sample = _compare(root, pair, sample), pair.sample(sample)
    return Examined(pair, sample, tuple(problems), tuple(warnings), image.range, rgb)


def conclude(root: Path, examined: Sequence[Examined]) -> Findings:
    """All pairs together: decides the white level of each domain whose files do not tell it."""
    problems = [problem for one in examined for problem in one.problems]
    warnings = [problem for one in examined for problem in one.warnings]
    levels: dict[str, float] = {}
    open_: dict[str, list[Examined]] = {}
    for one in examined:
        if one.sample is None or one.range is None:
            continue
        if one.sample.white_level is None:
            open_.setdefault(one.sample.domain_key, []).append(one)
        elif not 0 <= one.range.low <= one.range.high <= one.sample.white_level:
            problems.append(_beyond(root, one))
    for domain, images in open_.items():
        level = white_level([one.range for one in images if one.range])
        if level is None:
            problems.append(_no_level(root, images))
            continue
        levels |= {one.sample.key: level for one in images if one.sample}
        if level != LEVELS[-1]:
            warnings.append(_level_note(domain, images, level))
    samples = [
        replace(one.sample, white_level=levels.get(one.sample.key, one.sample.white_level))
        for one in examined
        if one.sample
    ]
    return Findings(samples, problems, warnings)


def in_threads(
    function: Callable[[Item], Result], items: Iterable[Item], progress: Progress | None = None
) -> list[Result]:
    """Applies `function` to all items, in order, on a few threads: decoding and hashing release the GIL."""
    work = list(items)
    results = []
    with ThreadPoolExecutor(max_workers=min(16, os.cpu_count() or 1)) as pool:
        for result in pool.map(function, work):
            results.append(result)
            if progress is not None:
                progress(len(results), len(work))
    return results


def _misfit(root: Path, pair: Pair, size: tuple[int, int], orientation: int, mask: MaskReading) -> Problem | None:
    """Where the mask does not lie on the image, or may not."""
    (height, width), (mask_height, mask_width) = size, mask.mask.shape
    if (height, width) != (mask_height, mask_width):
        message = (
            f"expected a mask of {width} x {height} pixels (width x height), as its image "
            f"{relative(pair.image, root)}, found {mask_width} x {mask_height}. Restore the mask that was drawn "
            "on this image, or resize it with nearest neighbour. (Sides swapped? The image's EXIF orientation is "
            "applied when it is read.)"
        )
        return Problem("sizes differ", relative(pair.mask, root), message)
    settled_by_size = width != height and (orientation >= 5) != (mask.orientation >= 5)
    if orientation == mask.orientation or settled_by_size:
        return None
    message = (
        f"its EXIF tag says that it is stored turned or mirrored (orientation {orientation}), its mask "
        f"{relative(pair.mask, root)} says {mask.orientation}: whether the mask was drawn on the stored or on the shown "
        "picture can't be known. Save the image upright without the tag where the mask fits the shown picture "
        "(ImageOps.exif_transpose of Pillow), or remove the tag where it fits the stored one (exiftool -Orientation= FILE)."
    )
    return Problem("orientation unclear", relative(pair.image, root), message)


def _look(file: str, mask: NDArray[np.bool_]) -> list[Problem]:
    """What is odd about the mask itself."""
    if not mask.any():
        return [Problem("empty mask", file, "the mask has no foreground. See that it is meant so.")]
    if mask.all():
        return [Problem("full mask", file, "every pixel of the mask is foreground. See that it is meant so.")]
    border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    if mask.mean() > 0.5 and border.mean() >= _BORDER_SHARE:
        message = (
            f"looks inverted: foreground is {mask.mean():.0%} of the image and {border.mean():.0%} of its border. White must "
            "be the object: invert the mask if it is the ground."
        )
        return [Problem("inverted mask", file, message)]
    return []


def _like_a_mask(values: NDArray[Any]) -> bool:
    """Whether an image (H, W) or (H, W, 3) has exactly two values, the same in all channels."""
    for part in (values[::16, ::16], values):  # nearly all images have more on a coarse grid, and are done with
        if part.ndim == 3 and not (part == part[..., :1]).all():
            return False
        if len(np.unique(part)) > 2:
            return False
    return len(np.unique(values)) == 2


def _compare(root: Path, stated: Row, found: Sample) -> list[Problem]:
    """Where the manifest says otherwise than the files."""
    problems = []
    for file, expected, actual in (
        (stated.image, stated.sha256_image, found.sha256_image),
        (stated.mask, stated.sha256_mask, found.sha256_mask),
    ):
        if expected is not None and expected != actual:
            message = (
                f"expected SHA-256 {expected[:12]}... as in {MANIFEST}, found {actual[:12]}...: the file was "
                f"changed after the manifest was written. Restore the file, or, if the change is meant, move "
                f"{MANIFEST} away to have the folder scanned again."
            )
            problems.append(Problem("hash differs", relative(file, root), message))
    if problems:  # a changed file differs in the rest as well: one problem, said once
        return problems
    image = relative(stated.image, root)
    width, height = stated.width or found.width, stated.height or found.height
    if (width, height) != (found.width, found.height):
        message = (
            f"expected {width} x {height} pixels (width x height) as in {MANIFEST}, "
            f"found {found.width} x {found.height}. Fix the row."
        )
        problems.append(Problem("size differs", image, message))
    fraction = stated.foreground_fraction
    if fraction is not None and abs(fraction - found.foreground_fraction) > _FRACTION_TOLERANCE:
        message = (
            f"expected a foreground fraction of {fraction:g} as in {MANIFEST}, found "
            f"{found.foreground_fraction:.6f}. Fix the row."
        )
        problems.append(Problem("foreground differs", relative(stated.mask, root), message))
    return problems


def _beyond(root: Path, one: Examined) -> Problem:
    assert one.range is not None
    assert one.sample is not None
    message = (
        f"expected values from 0 to {one.sample.white_level:g}, its white_level in {MANIFEST}, found {one.range.low:g} to "
        f"{one.range.high:g}. Fix the row."
    )
    return Problem("beyond the white level", relative(one.pair.image, root), message)


def _no_level(root: Path, images: Sequence[Examined]) -> Problem:
    """On the image that fits worst."""
    worst = max(images, key=lambda one: (one.range.low < 0, one.range.real, one.range.high) if one.range else (False,))
    assert worst.range is not None
    kind = "real numbers" if worst.range.real else "whole numbers"
    message = (
        f"expected 8 or 16 bits a channel, or real numbers from 0 to 1, found {kind} from {worst.range.low:g} to "
        f"{worst.range.high:g}: which value is white can't be known. State it for all images of the domain in the column "
        f"white_level of {MANIFEST}, or convert them to 8 or 16 bits."
    )
    return Problem("no white level", relative(worst.pair.image, root), message)


def _level_note(domain: str, images: Sequence[Examined], level: float) -> Problem:
    highest = max(one.range.high for one in images if one.range)
    count = f"{len(images)} image" + ("s" if len(images) > 1 else "")
    message = (
        f"{count} of more than 8 bits do not tell which value is white. The largest value of all is {highest:g}, so white is "
        f"{level:g}. If that is wrong, state it in the column white_level of {MANIFEST}."
    )
    return Problem("white level", domain, message)


def _unreadable(root: Path, file: Path, kind: str, error: UserError) -> Problem:
    """The error without the path in front, which the problem gives itself."""
    return Problem(kind, relative(file, root), str(error).removeprefix(f"{file}: "))
