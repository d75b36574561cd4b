"""What is equal: the one place that tells rounding from a difference.

The same numbers summed in another order differ by about 1e-13. The least that a pixel changes in an overlap of an image of
a hundred million pixels is about 1e-9, and distances are square roots of whole numbers of pixels. Values closer than
`TOLERANCE` are therefore one value, in every comparison, interval, test and rank.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

TOLERANCE = 1e-9


def same(first: npt.ArrayLike, second: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Where two arrays agree: within the tolerance, or both undefined."""
    a, b = np.asarray(first, float), np.asarray(second, float)
    with np.errstate(invalid="ignore"):
        return np.asarray((a == b) | (np.abs(a - b) <= TOLERANCE) | (np.isnan(a) & np.isnan(b)))


def settled(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """A number without the dust of sums: 0 where it is within the tolerance of 0."""
    found = np.asarray(values, float)
    return np.where(np.abs(found) <= TOLERANCE, 0.0, found)


def first_alike(table: npt.ArrayLike, present: npt.ArrayLike | None = None) -> npt.NDArray[np.int64]:
    """For each column of a table (rows, columns) the first column that has the same values in the same rows.

    Args:
        present: (rows, columns) bool, False where a column has no value; default: all.
    """
    values = np.asarray(table, float)
    mask = np.ones(values.shape, bool) if present is None else np.asarray(present, bool)
    values = np.where(mask, values, 0.0)
    sums = np.nansum(values, axis=0)
    close = TOLERANCE * max(1, len(values))
    found = np.arange(values.shape[1])
    for column in range(1, values.shape[1]):
        for other in np.unique(found[:column]):
            if abs(sums[column] - sums[other]) <= close and bool(
                (mask[:, column] == mask[:, other]).all() and same(values[:, column], values[:, other]).all()
            ):
                found[column] = other
                break
    return found
