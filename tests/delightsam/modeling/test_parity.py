"""Our model computes the authors' function: recorded outputs of their code, all six modalities, at 1024 x 1024."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from delightsam import DeLightSAM, from_authors
from delightsam.modeling.controllers import Group
from delightsam.weights.published_layout import UNUSED_KEYS


class Forward(NamedTuple):
    maps: list[Tensor]
    embedding: Tensor
    patch_logits: Tensor
    masks: Tensor  # (6, 1, 256, 256) before the last interpolation


@pytest.fixture(scope="session")
def authors_input() -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).standard_normal((2, 3, 1024, 1024), dtype=np.float32)[:1])


@pytest.fixture(scope="session")
def forward(authors_model: DeLightSAM, authors_input: Tensor) -> Forward:
    """One pass through the encoder for all six modalities: their controllers are equal here, only the decoding differs."""
    model = authors_model
    with torch.no_grad():
        maps = model.encoder.backbone(authors_input, [(model.controllers["0"], Group(0, 0, 1))])
        embedding = model.encoder.neck(maps[-1])
        patch_logits, prompt = model.prompts(embedding)
        prompted = (embedding + prompt).expand(6, -1, -1, -1)
        masks = model.decoder(prompted, [Group(k, k, k + 1) for k in range(6)])
    return Forward(maps, embedding, patch_logits, masks)


def relative(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape
    return float((ours - theirs).abs().max() / theirs.abs().max())


def test_controllers_of_the_recording_are_equal(authors_model: DeLightSAM) -> None:
    first = authors_model.controllers["0"].state_dict()
    for k in range(1, 6):
        other = authors_model.controllers[str(k)].state_dict()
        assert all(torch.equal(first[name], other[name]) for name in first)


def test_stages(forward: Forward, authors_outputs: dict[str, Tensor]) -> None:
    stem, *stages = forward.maps
    assert relative(stem[:, ::8, ::32, ::32], authors_outputs["stem"]) <= 1e-4
    for i, stage in enumerate(stages):
        tokens = stage.flatten(2).transpose(1, 2)[:, ::128, ::8]
        assert relative(tokens, authors_outputs[f"stage{i}"]) <= 1e-4, f"stage {i}"


def test_embedding_and_patches(forward: Forward, authors_outputs: dict[str, Tensor]) -> None:
    assert relative(forward.embedding[:, ::16, ::8, ::8], authors_outputs["embedding"]) <= 1e-4
    assert relative(forward.patch_logits, authors_outputs["patch_logits"]) <= 1e-4
    assert torch.equal(forward.patch_logits > 0, authors_outputs["patch_logits"] > 0)


@pytest.mark.parametrize("modality", range(6))
def test_logits(modality: int, forward: Forward, authors_outputs: dict[str, Tensor]) -> None:
    logits = torch.nn.functional.interpolate(forward.masks[modality, None], (1024, 1024), mode="bilinear")
    theirs = authors_outputs["logits"][modality]
    assert theirs.abs().max() > 0.5  # the recording says something
    assert (logits[0, 0, ::32, ::32] - theirs).abs().max() <= 1e-3


# Of a small image in test_fused.py.
@pytest.mark.slow
def test_whole_fused_model_gives_the_same(
    authors_state: dict[str, Tensor], authors_input: Tensor, authors_outputs: dict[str, Tensor]
) -> None:
    model = from_authors({3: authors_state}).fuse()
    with torch.no_grad():
        logits = model(authors_input, torch.tensor([3]))
    assert (logits[0, 0, ::32, ::32] - authors_outputs["logits"][3]).abs().max() <= 1e-4


def test_parameter_count_is_theirs_less_what_they_never_use(authors_state: dict[str, Tensor]) -> None:
    """Never used: the classifier head (321,640) and the point, box and mask prompts (6,220).

    The seventh query belongs to no modality but takes part in the queries' self-attention: it is used, and counts.
    """
    buffers = ("running_mean", "running_var", "num_batches_tracked", "gaussian_matrix")
    theirs = sum(t.numel() for name, t in authors_state.items() if not name.endswith(buffers))
    unused = sum(authors_state[name].numel() for name in UNUSED_KEYS)
    counts = from_authors({2: authors_state}).parameter_counts()
    assert theirs == 12_789_587
    assert unused == 321_640 + 6_220
    assert counts == {"total": theirs - unused, "active": theirs - unused}
    assert counts["active"] <= 0.02 * 641_100_000  # of SAM with ViT-H
    controller = from_authors({2: authors_state}).controllers["2"]
    assert sum(p.numel() for p in controller.parameters()) == 3_144_202


def test_seventh_query_matters(authors_state: dict[str, Tensor]) -> None:
    model = from_authors({0: authors_state})
    embedding = torch.randn((1, 256, 4, 4), generator=torch.Generator().manual_seed(0))
    groups = [Group(0, 0, 1)]
    with torch.no_grad():
        before = model.decoder(embedding, groups)
        model.decoder.queries[6] = 0
        assert not torch.allclose(model.decoder(embedding, groups), before, atol=1e-4)
