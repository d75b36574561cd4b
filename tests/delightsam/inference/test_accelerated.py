"""An accelerated model computes what its model does, with few operations, whatever the batch holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.device import StandInDevice
from support.operations import operations
from torch import Tensor

from delightsam import DeLightSAM, accelerate, add_modality
from tests.performance.plain_delightsam import PlainDeLightSAM

pytestmark = pytest.mark.usefixtures("shallow")

Build = Callable[..., DeLightSAM]
Images = Callable[[int, int], Tensor]
# Out of order, and one of them twice.
MIXED = torch.tensor([5, 0, 5])
VARIANTS: list[dict[str, Any]] = [
    {},
    {"stem": "pixel"},
    {"controllers": "tokens"},
    {"controllers": "expert"},
    {"controllers": "none"},
    {"tied_tokens": False},
    {"prompts": "none"},
    {"decoder": "convolutional"},
    {"hypernetworks": "shared"},
    {"queries": 1},
]


# 96: maps that don't divide into windows; 224: maps that divide in the first stages. A pixel stem reduces nothing.
CASES = [
    *((fields, MIXED, 24 if fields.get("stem") == "pixel" else 96) for fields in VARIANTS),
    ({}, MIXED, 224), ({}, 2, 96), ({"controllers": "none"}, 2, 96),
    *(pytest.param(*case, marks=pytest.mark.slow) for case in (({}, 2, 224), ({"stem": "pixel"}, 2, 24))),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "numbers", "side"), CASES, ids=str)
def test_it_computes_what_the_model_does(
    build: Build, images: Images, fields: dict[str, Any], numbers: Any, side: int
) -> None:
    model, x = build(**fields), images(len(MIXED), side)
    fast = accelerate(model)
    with torch.inference_mode():
        expected, counted = model(x, numbers), operations(lambda: fast(x, numbers))
    torch.testing.assert_close(fast(x, numbers), expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(counted.result, expected, atol=1e-4, rtol=1e-4)


@given(
    st.lists(st.sampled_from([0, 2, 5]), min_size=1, max_size=6),
    st.sampled_from([64, 96, 128]),
    st.sampled_from([64, 96]),
)
@settings(max_examples=3, deadline=None)
def test_any_batch_of_any_shape(numbers: list[int], height: int, width: int) -> None:
    model, fast = _shared()
    x = torch.randn((len(numbers), 3, height, width), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = PlainDeLightSAM(model)(x, torch.tensor(numbers))
    for found in (fast(x, torch.tensor(numbers)), operations(lambda: fast(x, torch.tensor(numbers))).result):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def _shared(kept: list[Any] = []) -> Any:  # noqa: B006 (one model for all examples)
    if not kept:
        torch.manual_seed(0)
        model = DeLightSAM(modalities=(0, 2, 5)).eval()
        with torch.no_grad():
            for parameter in model.controllers.parameters():
                parameter.normal_(0, 0.05)
        kept.extend((model, accelerate(model)))
    return kept


@pytest.mark.parametrize("numbers", [2, MIXED, torch.tensor([7, 0, 7])], ids=["one", "several", "an added one"])
@pytest.mark.parametrize("side", [64, pytest.param(96, marks=pytest.mark.slow), 160])
def test_without_controllers(build: Build, images: Images, numbers: Any, side: int) -> None:
    """As after the stage decode; 160: a CPU passes the model in pieces."""
    model, x = add_modality(build(), 7).eval(), images(3, side)
    fast = accelerate(model, controllers=False)
    with torch.inference_mode():
        expected = model.decode(model.encode(x, None), numbers, (side, side)).logits
        other = model(x, numbers)
    for found in (fast(x, numbers), operations(lambda: fast(x, numbers)).result):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(other, expected, atol=1e-3)


def test_added_modalities_see_their_own_query(build: Build, images: Images) -> None:
    model = add_modality(build(), 7).eval()
    fast, x = accelerate(model), images(4, 64)
    for numbers in (7, 2, torch.tensor([7, 0, 7, 5]), torch.tensor([0, 2, 0, 5])):
        with torch.inference_mode():
            expected = model(x, numbers)
        found = operations(lambda numbers=numbers: fast(x, numbers)).result
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.usefixtures("whole")
def test_few_operations_whatever_the_batch(build: Build, images: Images) -> None:
    """2,376 of the model itself, 2,352 of the fused one, 491 here. Every one is a launch on a GPU."""
    model = build(modalities=(0, 1, 2, 3, 4, 5))
    fast = accelerate(model)
    operations(lambda: fast(images(1, 256), 2))  # the first pass lays out what the position code adds
    one = operations(lambda: fast(images(1, 256), 2))
    mixed = operations(lambda: fast(images(6, 256), torch.arange(6)))
    assert one.count <= 500, one.names
    assert mixed.count <= 1.3 * one.count, mixed.names
    with torch.inference_mode():
        assert operations(lambda: model(images(1, 256), 2)).count > 4 * one.count


@pytest.mark.parametrize(("dtype", "side"), [(torch.bfloat16, 96), (torch.float16, 64)])
def test_half_precision(build: Build, images: Images, dtype: torch.dtype, side: int) -> None:
    model, x = build(), images(len(MIXED), side)
    fast = accelerate(model, dtype=dtype)
    with torch.inference_mode():
        exact = model(x, MIXED)
    for rough in (fast(x, MIXED), operations(lambda: fast(x, MIXED)).result):
        assert rough.dtype == torch.float32
        assert torch.corrcoef(torch.stack((exact.flatten(), rough.flatten())))[0, 1] > 0.99


def test_the_model_is_left_as_it_is_and_later_changes_do_not_reach_the_copy(build: Build, images: Images) -> None:
    model, x = build().train(), images(2, 64)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fast = accelerate(model)
    assert model.training and not model.fused
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    expected = fast(x, 2)
    with torch.no_grad():
        model.encoder.neck[0].weight.zero_()
    assert torch.equal(fast(x, 2), expected)


@pytest.mark.parametrize("numbers", [[2, 2, 2], [5, 0, 5], [7, 0, 7]])
def test_no_wait_for_the_device(build: Build, images: Images, numbers: list[int]) -> None:
    """Modalities that the program knows are sent; 7 was added."""
    fast, x = accelerate(add_modality(build(), 7).eval()), images(3, 64)
    fast(x, numbers)  # makes its constants
    with StandInDevice() as device:
        fast(x, numbers)
    assert not device.waits, device.places


def test_autocast_changes_nothing(build: Build, images: Images) -> None:
    fast, x = accelerate(build()), images(2, 64)
    expected = fast(x, 2)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(fast(x, 2), expected)


def test_masks_and_guesses_of_the_library(build: Build) -> None:
    random = np.random.default_rng(0)
    model = build(image_size=64)
    pictures = [random.integers(0, 256, (h, w, 3), np.uint8) for h, w in ((50, 70), (64, 64), (33, 20))]
    fast = accelerate(model)
    for ours, expected in zip(
        fast.segment_batch(pictures, [0, 2, 5], probabilities=True),
        model.segment_batch(pictures, [0, 2, 5], probabilities=True),
        strict=True,
    ):
        np.testing.assert_allclose(ours, expected, atol=1e-4)
    assert np.array_equal(fast.segment(pictures[0], "ultrasound"), model.segment(pictures[0], 2))
    images = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(fast.predict(images, 0), model.predict(images, 0), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dtype": torch.float64}, "torch.float32, torch.bfloat16 or torch.float16; found torch.float64"),
        ({"image_size": 100}, "multiple of 32.*found 100 and 1"),
        ({"batch_size": 0}, "`batch_size` of 1 or more; found 1024 and 0"),
    ],
)
def test_wrong_arguments(build: Build, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        accelerate(build(), **arguments)


def test_what_it_refuses(build: Build, images: Images) -> None:
    fast = accelerate(build())
    with pytest.raises(ValueError, match=r"knows the modality numbers 0, 2, 5; found 3"):
        fast(images(1, 64), 3)
    with pytest.raises(ValueError, match="multiples of 32 pixels; found 50 x 50"):
        fast(images(1, 50), 2)
    with pytest.raises(ValueError, match="can't be trained"):
        fast.train()
    with pytest.raises(ValueError, match="fused"):
        accelerate(build().fuse())
