"""Which value is white in files that do not tell: one level for each domain, from all of its images together."""

from __future__ import annotations

from collections.abc import Iterable

from harness.data.reading.image import Range

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
    low, high = min(one.low for one in found), max(one.high for one in found)
    kinds = {one.real for one in found}
    if low < 0 or len(kinds) > 1:
        return None
    if kinds == {True}:
        return 1.0 if high <= 1 else None
    return next((float(level) for level in LEVELS if high <= level), None)
