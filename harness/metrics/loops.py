"""Loops over pixels that NumPy has no words for, compiled by Numba at their first call and kept on the disk.

Import this inside the functions that need it: Numba takes a quarter of a second.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """As machine code. Where no folder can be written to keep it in, each process compiles it for itself."""
    try:
        return cast(Function, numba.njit(cache=True, nogil=True)(function))
    except RuntimeError:  # Numba's word for: no place for a cache
        return cast(Function, numba.njit(nogil=True)(function))


NEIGHBOURS = ("N", "NE", "E", "SE", "S", "SW", "W", "NW")
# Where scikit-image, whose skeletons the literature reports, departs from the paper: neighbours in the foreground -> the half
# of a round that removes the pixel (3: either). Seen in its results, which the tests compare with ours.
DEPARTURES = {
    "N NE": 1, "NE E": 1, "N NE E": 1, "N W NW": 1, "N E": 3, "N W": 3, "N E NW": 1, "N NE W": 1, "S W NW": 1,
    "N NE SW W": 1,
}  # fmt: skip
# Those whose turned twin departs in another way, or in none.
LONE_DEPARTURES = {"N NW": 1, "SE S": 0, "E SE": 2, "W NW": 0, "N SW W": 1}


def _removals() -> NDArray[np.uint8]:
    """Neighbours' code -> 1: removed in the first half of a round, 2: in the second, 3: in both, 0: in neither.

    Bit k of a code is `NEIGHBOURS[k]`. The conditions are those of Zhang and Suen, "A fast parallel algorithm for thinning
    digital patterns", CACM 27 (1984), with `DEPARTURES`, which hold for the neighbours turned by 180 degrees in the other half.
    """
    table = np.zeros(256, np.uint8)
    for code in range(256):
        around = [code >> k & 1 for k in range(8)]
        north, _, east, _, south, _, west, _ = around
        rises = sum(after > before for before, after in zip(around, [*around[1:], around[0]], strict=True))
        if 2 <= sum(around) <= 6 and rises == 1:
            table[code] |= not (north and east and south) and not (east and south and west)
            table[code] |= 2 * (not (north and east and west) and not (north and south and west))
    for names, half in (DEPARTURES | LONE_DEPARTURES).items():
        places = [NEIGHBOURS.index(name) for name in names.split()]
        table[sum(1 << place for place in places)] = half
        if names in DEPARTURES:
            table[sum(1 << (place + 4) % 8 for place in places)] = {1: 2, 3: 3}[half]
    return table


REMOVALS = _removals()


@compiled
def thin(mask: NDArray[np.uint8], removals: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Zhang and Suen's thinning: `mask` (H, W) of 0 and 1 with a frame of zeros -> its skeleton, likewise.

    Each half of a round looks at those pixels alone around which a neighbour went since they were last looked at: to all
    others it would give the answer that they had.

    Args:
        removals: `REMOVALS`.
    """
    height, width = mask.shape
    alive = mask.copy().ravel()
    codes = np.zeros(height * width, np.uint8)
    for row in range(1, height - 1):
        for column in range(1, width - 1):
            above, here, below = mask[row - 1], mask[row], mask[row + 1]
            codes[row * width + column] = (
                above[column]
                | above[column + 1] << 1
                | here[column + 1] << 2
                | below[column + 1] << 3
                | below[column] << 4
                | below[column - 1] << 5
                | here[column - 1] << 6
                | above[column - 1] << 7
            )
    # From a pixel to neighbour k; for that one, the pixel is its neighbour k + 4.
    steps = np.array([-width, 1 - width, 1, 1 + width, width, width - 1, -1, -width - 1], np.int32)
    kept = np.array([255 - (1 << (k + 4) % 8) for k in range(8)], np.uint8)
    borders = np.empty(alive.size, np.int32)
    count = 0
    for place in range(alive.size):
        if alive[place] and codes[place] != 255:
            borders[count] = place
            count += 1
    recent, older = borders[:count].copy(), np.empty(0, np.int32)
    listed = np.zeros(alive.size, np.int32)
    half = 0
    while recent.size or older.size:
        half += 1
        bit = 2 - half % 2
        gone = np.empty(recent.size + older.size, np.int32)
        count = 0
        for places in (older, recent):
            for place in places:
                # The codes are those before this half: all of its pixels go at once.
                if alive[place] and removals[codes[place]] & bit:
                    alive[place] = 0
                    gone[count] = place
                    count += 1
        changed = np.empty(8 * count, np.int32)
        found = 0
        for place in gone[:count]:
            for k in range(8):
                neighbour = np.uintp(place + steps[k])  # unsigned: no look for negative indices
                if alive[neighbour]:
                    codes[neighbour] &= kept[k]
                    if listed[neighbour] != half:
                        listed[neighbour] = half
                        changed[found] = neighbour
                        found += 1
        older, recent = recent, changed[:found].copy()
    return alive.reshape(height, width)


@compiled
def first_reached(target: NDArray[np.bool_], positions: NDArray[np.intp], steps: NDArray[np.intp]) -> NDArray[np.intp]:
    """For each of `positions` (N,) the number of the first of `steps` (K,) that leads to a True of the flat `target`; K: none."""
    reached = np.empty(positions.size, np.intp)
    for number in range(positions.size):
        k = 0
        while k < steps.size and not target[positions[number] + steps[k]]:
            k += 1
        reached[number] = k
    return reached


@compiled
def nearest(
    target: NDArray[np.bool_], positions: NDArray[np.intp], row_spacing: float, column_spacing: float
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """For each of `positions` on the flat `target` (H, W): how many rows and columns lie between it and the nearest True.

    Args:
        target: holds a True.
        positions: (N,), ascending.
        row_spacing, column_spacing: the distances between neighbouring rows and columns.
    """
    width = target.shape[1]
    vertical = _rows_to_nearest(target)
    rows, columns = np.empty(positions.size, np.intp), np.empty(positions.size, np.intp)
    aspect = row_spacing / column_spacing
    start = 0
    while start < positions.size:
        row = positions[start] // width
        end, steps = start, 0
        while end < positions.size and positions[end] // width == row:
            steps += min(vertical[row, positions[end] % width], width)
            end += 1
        of_row = positions[start:end] - row * width
        # Few pixels, or near ones, are sought one by one; many that are far away share the work of one pass over the row.
        one_by_one = steps < 4 * width
        places = _search(vertical[row], of_row, aspect) if one_by_one else _sweep(vertical[row], of_row, aspect)
        for number in range(places.size):
            rows[start + number] = vertical[row, places[number]]
            columns[start + number] = abs(places[number] - of_row[number])
        start = end
    return rows, columns


FAR = 2**30
"""Rows to the nearest True of a column that has none: farther away than any pixel."""


@compiled
def _rows_to_nearest(target: NDArray[np.bool_]) -> NDArray[np.int32]:
    """For each pixel of `target` (H, W), how many rows lie between it and the nearest True of its column; at least FAR: none."""
    height, width = target.shape
    vertical = np.empty((height, width), np.int32)
    for column in range(width):
        vertical[0, column] = 0 if target[0, column] else FAR
    for row in range(1, height):
        for column in range(width):
            vertical[row, column] = 0 if target[row, column] else vertical[row - 1, column] + 1
    for row in range(height - 2, -1, -1):
        for column in range(width):
            vertical[row, column] = min(vertical[row, column], vertical[row + 1, column] + 1)
    return vertical


@compiled
def _search(vertical: NDArray[np.int32], positions: NDArray[np.intp], aspect: float) -> NDArray[np.intp]:
    """The nearest column for each of `positions` (N,) on a row: goes left and right until all columns lie too far away.

    Args:
        vertical: (W,) rows to the nearest True of each column, at least FAR where it has none.
        aspect: the distance between rows in units of that between columns.
    """
    found = np.empty(positions.size, np.intp)
    for number in range(positions.size):
        least = np.inf
        for aside in range(vertical.size):
            if aside**2 >= least:
                break
            for place in (positions[number] - aside, positions[number] + aside):
                if 0 <= place < vertical.size and vertical[place] < FAR:
                    square = aside**2 + (vertical[place] * aspect) ** 2
                    if square < least:
                        least, found[number] = square, place
    return found


@compiled
def _sweep(vertical: NDArray[np.int32], positions: NDArray[np.intp], aspect: float) -> NDArray[np.intp]:
    """As `_search`, by the lower envelope of one parabola per column: Felzenszwalb and Huttenlocher, "Distance transforms of
    sampled functions", Theory of Computing 8 (2012)."""
    # The columns that are nearest to some pixel of the row, from left to right, and up to where each of them is.
    owners, ends = np.empty(vertical.size, np.intp), np.empty(vertical.size)
    count = 0
    for place in range(vertical.size):
        if vertical[place] >= FAR:
            continue
        while count:
            other = owners[count - 1]
            rise = aspect**2 * (vertical[place] ** 2 - vertical[other] ** 2) / (place - other)
            ends[count - 1] = (rise + place + other) / 2
            if count == 1 or ends[count - 1] > ends[count - 2]:
                break
            count -= 1
        owners[count], ends[count] = place, np.inf
        count += 1
    found = np.empty(positions.size, np.intp)
    owner = 0
    for number in range(positions.size):
        while ends[owner] < positions[number]:
            owner += 1
        found[number] = owners[owner]
    return found
