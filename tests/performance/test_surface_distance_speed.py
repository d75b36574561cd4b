"""Surface metrics at 1024 x 1024 against the libraries they equal: same process, interleaved, same values.

Each contestant takes its turn in every round and is judged by its fastest turn, so that a busy machine slows all
alike. medpy is asked for HD95 alone; ours gives every surface metric in that time.
"""

from __future__ import annotations

import time
import tracemalloc
import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from harness.metrics import REGISTRY, evaluate_pair, hd95
from tests.performance.masks import Mask, lesion_pair, vessel_pair

pytestmark = [pytest.mark.performance, pytest.mark.filterwarnings("ignore::FutureWarning")]

SIZE = 1024
ROUNDS = 7
Contestant = Callable[[Mask, Mask], float]


def overlap_and_distances(prediction: Mask, reference: Mask) -> dict[str, float]:
    """All metrics that one pass over the borders gives; thinning and bands look at every pixel and take their own time."""
    names = [name for name in REGISTRY if name not in ("boundary_iou", "cldice")]
    return evaluate_pair(prediction, reference, metrics=names)


def fastest(contestants: dict[str, Contestant], pair: tuple[Mask, Mask]) -> tuple[dict[str, float], dict[str, float]]:
    """(seconds of the fastest turn, value) of each."""
    seconds = dict.fromkeys(contestants, float("inf"))
    values = {}
    for _ in range(ROUNDS):
        for name, run in contestants.items():
            start = time.perf_counter()
            values[name] = run(*pair)
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    return seconds, values


@pytest.fixture(scope="module")
def contestants() -> dict[str, Contestant]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch
        from medpy.metric import binary
        from monai.metrics import compute_hausdorff_distance
        from surface_distance import compute_robust_hausdorff, compute_surface_distances

    torch.set_num_threads(1)  # nobody else uses more than one core

    def monai(prediction: Mask, reference: Mask) -> float:
        masks = prediction[None, None], reference[None, None]
        return float(compute_hausdorff_distance(*masks, include_background=True, percentile=95))

    def deepmind(prediction: Mask, reference: Mask) -> float:
        return float(compute_robust_hausdorff(compute_surface_distances(reference, prediction, (1, 1)), 95))

    return {
        "hd95": hd95,
        "every metric": lambda prediction, reference: overlap_and_distances(prediction, reference)["hd95"],
        "medpy": lambda prediction, reference: float(binary.hd95(prediction, reference)),
        "monai": monai,
        "deepmind": deepmind,
    }


@pytest.mark.parametrize(
    ("make_pair", "times_medpy"),
    [
        pytest.param(partial(lesion_pair, SIZE, 0), 15, id="small lesion"),
        pytest.param(partial(lesion_pair, SIZE, 2), 15, id="large lesion"),
        pytest.param(partial(lesion_pair, SIZE, 1, displacement=40), 15, id="badly segmented lesion"),
        pytest.param(partial(vessel_pair, SIZE, 0), 3, id="vessels"),
        pytest.param(partial(vessel_pair, SIZE, 2), 3, id="more vessels"),
    ],
)
def test_faster_than_the_libraries(
    contestants: dict[str, Contestant],
    make_pair: Callable[[], tuple[Mask, Mask]],
    times_medpy: float,
    request: pytest.FixtureRequest,
    record_property: Callable[[str, object], None],
) -> None:
    pair = make_pair()
    seconds, values = fastest(contestants, pair)
    figures = ", ".join(f"{name} {1000 * value:.1f} ms" for name, value in seconds.items())
    ratios = {ours: seconds["medpy"] / seconds[ours] for ours in ("hd95", "every metric")}
    record_property("figures", figures)
    print(f"\n{request.node.callspec.id}: {figures}; medpy / hd95 {ratios['hd95']:.1f}, "
          f"medpy / every metric {ratios['every metric']:.1f}")  # fmt: skip

    assert values["hd95"] == values["every metric"] == pytest.approx(values["medpy"], abs=1e-9, rel=0)
    assert evaluate_pair(*pair)["hd95_max"] == pytest.approx(values["monai"], abs=1e-3)
    assert min(ratios.values()) >= times_medpy, figures
    for other in ("monai", "deepmind"):
        assert max(seconds["hd95"], seconds["every metric"]) < seconds[other], figures


@pytest.mark.parametrize("kind", ["noise", "dense patch in a ring"])
def test_never_slower_than_medpy_even_on_the_output_of_an_untrained_network(
    contestants: dict[str, Contestant], kind: str
) -> None:
    rows, columns = np.ogrid[:SIZE, :SIZE]
    radius = np.hypot(rows - SIZE / 2, columns - SIZE / 2)
    noise = np.random.default_rng(0).random((SIZE, SIZE)) < 0.5
    pair = (noise, lesion_pair(SIZE, 0)[1]) if kind == "noise" else (noise & (radius < 100), radius < 500)
    seconds, values = fastest({name: contestants[name] for name in ("every metric", "medpy")}, pair)
    assert values["every metric"] == pytest.approx(values["medpy"], abs=1e-9, rel=0)
    assert seconds["every metric"] < seconds["medpy"], seconds


@pytest.mark.parametrize(("kind", "bytes_a_pixel"), [("lesion", 3), ("vessels", 12), ("noise", 64)])
def test_memory_follows_the_border_and_is_bounded(kind: str, bytes_a_pixel: int) -> None:
    pair = {
        "lesion": lambda: lesion_pair(SIZE, 0),
        "vessels": lambda: vessel_pair(SIZE, 0),
        "noise": lambda: (np.random.default_rng(0).random((SIZE, SIZE)) < 0.5, lesion_pair(SIZE, 0)[1]),
    }[kind]()
    assert peak_memory(overlap_and_distances, pair) < bytes_a_pixel * SIZE * SIZE


def peak_memory(run: Callable[[Mask, Mask], object], pair: tuple[Mask, Mask]) -> int:
    """Bytes allocated through Python and NumPy at the worst moment."""
    tracemalloc.start()
    try:
        run(*pair)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("make", "milliseconds"), [(lesion_pair, 15.0), (vessel_pair, 40.0)])
def test_all_metrics_of_a_pair(make: Callable[..., tuple[Mask, Mask]], milliseconds: float) -> None:
    """Every metric of the registry, as `measure` computes them: processor time of this thread."""
    evaluate_pair(*make(256))  # compiles the loops
    for seed in range(3):
        pair, took = make(SIZE, seed), []
        for _ in range(ROUNDS):
            started = time.thread_time()
            evaluate_pair(*pair)
            took.append(1000 * (time.thread_time() - started))
        print(f"{make.__name__} {seed}: {min(took):.1f} ms")
        assert min(took) < milliseconds
