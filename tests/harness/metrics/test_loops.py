"""The compiled loops against scikit-image and against the definition written out."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.ndimage import gaussian_filter
from skimage.morphology import skeletonize

from harness.metrics import loops
from harness.metrics.loops import REMOVALS, nearest, thin
from tests.performance.masks import Mask, lesion_pair, vessel_pair


def thinned(mask: Mask) -> Mask:
    return thin(np.pad(mask, 1).view(np.uint8), REMOVALS)[1:-1, 1:-1].view(bool)


def skeleton(mask: Mask) -> Mask:
    return np.asarray(skeletonize(np.pad(mask, 1)), bool)[1:-1, 1:-1]


@pytest.mark.parametrize("draw", [lesion_pair, vessel_pair])
@pytest.mark.parametrize("seed", range(3))
def test_thins_as_scikit_image_does(draw, seed: int) -> None:  # type: ignore[no-untyped-def]
    for mask in draw(256, seed):
        assert np.array_equal(thinned(mask), skeleton(mask))


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7, 0.9])
def test_thins_noise_and_blobs_as_scikit_image_does(share: float) -> None:
    """Together these hold all neighbourhoods, so each entry of the table is looked at."""
    random = np.random.default_rng(0)
    for smoothing in (0.0, 0.7, 2.0):
        values = gaussian_filter(random.random((150, 160)), smoothing)
        mask = values < np.quantile(values, share)
        assert np.array_equal(thinned(mask), skeleton(mask))


def test_every_neighbourhood_was_looked_at() -> None:
    mask = np.random.default_rng(0).random((150, 160)) < 0.5
    around = np.lib.stride_tricks.sliding_window_view(mask, (3, 3)).reshape(-1, 9)
    codes = around[around[:, 4]][:, [0, 1, 2, 3, 5, 6, 7, 8]] @ (1 << np.arange(8))
    assert len(np.unique(codes)) == 256


@settings(deadline=None, max_examples=60)
@given(
    arrays.arrays(bool, arrays.array_shapes(min_dims=2, max_dims=2, max_side=12)).filter(np.any),
    st.sampled_from([(1.0, 1.0), (0.3, 2.7), (5.0, 0.5)]),
)
def test_nearest_is_the_nearest(target: Mask, spacing: tuple[float, float]) -> None:
    rows, columns = nearest(target, np.arange(target.size), *spacing)
    found = np.hypot(rows * spacing[0], columns * spacing[1])
    trues = np.argwhere(target) * spacing
    for place, distance in zip(np.ndindex(target.shape), found, strict=True):
        expected = np.hypot(*(trues - np.array(place) * spacing).T).min()
        assert distance == pytest.approx(expected, abs=1e-12)


def test_pixels_asked_for_together_or_one_by_one_are_as_far() -> None:
    """One alone is sought by itself; many far ones share a pass over their row."""
    target = np.zeros((40, 60), bool)
    target[[3, 20, 38], [50, 5, 30]] = True
    rows, columns = nearest(target, np.arange(target.size), 0.7, 1.3)
    alone = [nearest(target, np.array([place]), 0.7, 1.3) for place in range(target.size)]
    assert np.hypot(rows * 0.7, columns * 1.3) == pytest.approx(
        [np.hypot(row[0] * 0.7, column[0] * 1.3) for row, column in alone]
    )


def test_nothing_to_ask_gives_nothing() -> None:
    rows, columns = nearest(np.ones((2, 2), bool), np.empty(0, np.intp), 1.0, 1.0)
    assert rows.size == columns.size == 0


def test_a_machine_where_nothing_can_be_kept_compiles_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compile_it = loops.numba.njit

    def without_cache(*functions: object, cache: bool = False, **options: bool) -> object:
        if cache:
            raise RuntimeError("cannot cache function 'double': no locator available")
        return compile_it(*functions, **options)

    monkeypatch.setattr(loops.numba, "njit", without_cache)
    assert loops.compiled(lambda x: 2 * x)(3) == 6


def test_numba_is_imported_where_something_is_measured() -> None:
    code = "import sys, harness.metrics; print('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
