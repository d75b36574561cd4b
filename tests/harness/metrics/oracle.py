"""The definitions written out the slow way, to check the fast one, and mask strategies for hypothesis."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

Mask = NDArray[np.bool_]

spacings = st.tuples(*[st.floats(0.1, 10, allow_nan=False)] * 2)


@st.composite
def pairs(draw: st.DrawFn, *, empty: bool = False, side: int = 14) -> tuple[Mask, Mask]:
    """Two masks of one shape, from single pixels and full images to noise; with foreground unless `empty`."""
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=2, max_side=side))
    masks = []
    for _ in range(2):
        kind = draw(st.sampled_from(["noise", "blocks", "pixel", "full"]))
        if kind == "noise":
            mask = draw(hnp.arrays(bool, shape))
        else:
            mask = np.zeros(shape, bool)
            for _ in range(draw(st.integers(1, 3)) if kind == "blocks" else 1):
                top, left = (draw(st.integers(0, n - 1)) for n in shape)
                bottom, right = (draw(st.integers(low + 1, n)) for low, n in zip((top, left), shape, strict=True))
                mask[top:bottom, left:right] = True
            if kind == "pixel":
                mask[:] = False
                mask[top, left] = True
            if kind == "full":
                mask[:] = True
        if not empty and not mask.any():
            mask[draw(st.integers(0, shape[0] - 1)), draw(st.integers(0, shape[1] - 1))] = True
        masks.append(mask)
    return masks[0], masks[1]


def border(mask: Mask) -> NDArray[np.intp]:
    """(n, 2) coordinates of the foreground pixels with a 4-neighbour that is background or outside."""
    padded = np.pad(mask, 1)
    found = [
        (row, column)
        for row, column in np.argwhere(mask)
        if not all(padded[row + 1 + i, column + 1 + j] for i, j in ((-1, 0), (1, 0), (0, -1), (0, 1)))
    ]
    return np.array(found, dtype=np.intp)


def directed(
    prediction: Mask, reference: Mask, spacing: tuple[float, float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """d(P -> G) and d(G -> P) from all pairs of border pixels."""
    between = cdist(border(prediction) * spacing, border(reference) * spacing)
    return between.min(axis=1), between.min(axis=0)


def surface_metrics(
    prediction: Mask, reference: Mask, spacing: tuple[float, float], tolerance: float
) -> dict[str, float]:
    there, back = directed(prediction, reference, spacing)
    pooled = np.concatenate([there, back])
    return {
        "hd95": float(np.percentile(pooled, 95)),
        "hd95_max": float(max(np.percentile(there, 95), np.percentile(back, 95))),
        "hd": float(pooled.max()),
        "assd": float(pooled.mean()),
        "nsd": ((there <= tolerance + 1e-9).sum() + (back <= tolerance + 1e-9).sum()) / (len(there) + len(back)),
    }
