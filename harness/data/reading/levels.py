"""Which value is white in files that do not tell: one level for each domain, from all of its images together."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from harness.data.reading.image import Range, examine_image
from harness.data.reading.picture import is_deep
from harness.errors import UserError

LEVELS = (255, 1023, 4095, 16383, 65535)
"""White of 8, 10, 12, 14 and 16 bits."""


def white_level(ranges: Iterable[Range]) -> float | None:
    """The level of images that are scaled alike, from the ranges of their values.

    Integers: the smallest of `LEVELS` that no value exceeds, so that 12 bits in a 16-bit file are not nearly black.
    Real numbers: 1 where all lie in [0, 1].

    Returns:
        None where the values fit no level: below 0, above 65535, real numbers above 1, or integers beside real numbers.
    """
    found = list(ranges)
    if not found:
        return None
    low, high = min(one.low for one in found), max(one.high for one in found)
    kinds = {one.real for one in found}
    if low < 0 or len(kinds) > 1:
        return None
    if kinds == {True}:
        return 1.0 if high <= 1 else None
    return next((float(level) for level in LEVELS if high <= level), None)


def white_level_of_files(paths: Iterable[Path]) -> float | None:
    """As `white_level`, of pictures without a data set around them; those that can't be read are passed over."""
    ranges = []
    for path in paths:
        if is_deep(path):
            try:
                ranges.append(examine_image(path).range)
            except UserError:
                continue
    return white_level([one for one in ranges if one is not None])
