"""A mixture gives what lists of numbers give: outputs and every parameter's gradient."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from support.operations import operations
from torch import Tensor

from delightsam.modeling.controllers import Mixture
from delightsam.modeling.model import DeLightSAM
from delightsam.weights.add_modality import add_modality

pytestmark = pytest.mark.usefixtures("shallow")

KNOWN = (0, 2, 3, 5)
NUMBERS = [2, 0, 5, 2]


@pytest.fixture
def model(build: Callable[..., DeLightSAM]) -> Callable[..., DeLightSAM]:
    """Builds one in float64, with controllers that have an effect."""
    return lambda **fields: build(modalities=KNOWN, **fields).double()


def learned(made: DeLightSAM, images: Tensor, modality: list[int] | Mixture) -> tuple[Tensor, dict[str, Tensor]]:
    made.zero_grad()
    outputs = made.outputs(images, modality)
    loss = outputs.logits.sigmoid().square().mean()
    if outputs.patch_logits is not None:
        loss = loss + outputs.patch_logits.square().mean()
    loss.backward()
    return outputs.logits.detach(), {n: p.grad.clone() for n, p in made.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"tied_tokens": False},
        {"controllers": "tokens"},
        {"controllers": "expert", "hypernetworks": "shared"},
        {"controllers": "none", "prompts": "none"},
        {"decoder": "convolutional"},
    ],
)
def test_a_mixture_is_the_list(model: Callable[..., DeLightSAM], fields: dict[str, object]) -> None:
    made = model(**fields)
    images = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    logits, gradients = learned(made, images, NUMBERS)
    mixed, mixed_gradients = learned(made, images, made.mixture(torch.tensor(NUMBERS), sorted(set(NUMBERS))))
    assert torch.allclose(mixed, logits, atol=1e-9)
    # What no image meets has no gradient: an optimiser leaves it alone.
    assert gradients.keys() == mixed_gradients.keys()
    for name, gradient in mixed_gradients.items():
        assert torch.allclose(gradient, gradients[name], atol=1e-9), name


def test_all_batches_are_the_same_operations(model: Callable[..., DeLightSAM]) -> None:
    made = model()
    images = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    made.outputs(images, made.mixture(torch.tensor(NUMBERS), KNOWN))  # makes its constants
    counted = [
        operations(lambda numbers=numbers: made.outputs(images, made.mixture(torch.tensor(numbers), KNOWN))).names  # type: ignore[misc]
        for numbers in ([0, 0, 0, 0], [5, 3, 2, 0], [2, 2, 3, 3])
    ]
    assert counted[0] == counted[1] == counted[2]


def test_a_model_with_added_modalities_takes_lists(build: Callable[..., DeLightSAM]) -> None:
    made = add_modality(build(modalities=KNOWN), 7)
    with pytest.raises(ValueError, match="as a list"):
        made.outputs(torch.rand(1, 3, 32, 32), made.mixture(torch.tensor([0]), KNOWN))
