"""LiteMedSAM and MobileSAM: real weights against their own package, and files that must not be taken."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from support.lite_medsam import embed, package
from support.numbers import nothing_drawn
from torch import Tensor

from baselines.sam.light import LightSam
from baselines.sam.method import BoxSam
from baselines.sam.preprocessing import Preprocessing
from delightsam import DeLightSAM, WeightsError, initialise_from
from tests.baselines.sam.tiny import squares

SIDE = 128  # of the images, in place of 256


@pytest.fixture(scope="module")
def network(lite_medsam: str) -> LightSam:
    made = LightSam(lite_medsam, "lite_medsam").eval()
    assert made.preprocessing == Preprocessing("minmax", keeps_aspect=True, side=256)
    made.preprocessing = replace(made.preprocessing, side=SIDE)
    return made


def theirs(embedding: Tensor, prompts: Tensor, multimask: bool) -> tuple[Tensor, Tensor]:
    net: Any = package(SIDE)
    if prompts.shape[1] == 4:
        given = {"points": None, "boxes": prompts[:, None]}
    else:
        given = {"points": (prompts[:, None], torch.ones(len(prompts), 1)), "boxes": None}
    sparse, dense = net.prompt_encoder(**given, masks=None)
    answer: tuple[Tensor, Tensor] = net.mask_decoder(
        image_embeddings=embedding[None],
        image_pe=net.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=multimask,
    )
    return answer


BOXES = torch.tensor([[20.0, 15, 59, 44], [100, 75, 114, 79]])
POINTS = torch.tensor([[25.0, 25], [5, 100], [64, 1]])


@pytest.mark.parametrize(("prompts", "multimask"), [(BOXES, False), (POINTS, True)])
def test_masks_equal_those_of_the_package(prompts: Tensor, multimask: bool, network: LightSam) -> None:
    embedding = torch.randn((256, SIDE // 4, SIDE // 4), generator=torch.Generator().manual_seed(0)) * 0.2
    with torch.inference_mode():
        masks, quality = network.masks((embedding,), prompts, multimask)
        expected_masks, expected_quality = theirs(embedding, prompts, multimask)
    assert masks.shape == (len(prompts), 3 if multimask else 1, SIDE, SIDE) and expected_masks.abs().max() > 0.1
    torch.testing.assert_close(masks, expected_masks, atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(quality, expected_quality, atol=1e-4, rtol=1e-4)


def test_a_prediction_is_that_of_the_package_from_image_to_mask(network: LightSam, lite_medsam: str) -> None:
    """An image that is not square: resized, scaled by its own range, padded; two boxes, united; cut and enlarged."""
    batch = squares(1, 96, SIDE)
    small = F.avg_pool2d(batch.images, 5, 1, 2)  # blobs rather than noise
    whole = BoxSam(["a"], "lite_medsam", lite_medsam).eval()
    whole.network = network
    with torch.inference_mode():
        predicted = whole.predict_oracle(small, batch.modality, batch.masks)
        scaled = (small - small.min()) / (small.max() - small.min())
        embedding = embed(F.pad(scaled, (0, 0, 0, 32)))[0]
        boxes = whole.objects(batch.masks[0, 0]).boxes()
        expected = theirs(embedding, boxes, False)[0].amax(0)[None, :, :96]
    assert (expected > 0).any()
    torch.testing.assert_close(predicted, expected, atol=5e-3, rtol=1e-3)


def test_mobile_sam_s_embedding_and_scaling(mobile_sam: str) -> None:
    with nothing_drawn():
        model = DeLightSAM(modalities=(0,), controllers="none").eval()
    initialise_from(model, mobile_sam)
    network = LightSam(mobile_sam, "mobile_sam").eval()
    assert (network.preprocessing.side, network.preprocessing.scaling) == (1024, "sam")
    pixels = replace(network.preprocessing, side=64).pixels(squares(1).images)
    with torch.inference_mode():
        torch.testing.assert_close(network.embed(pixels)[0][0], model.encode(pixels, None)[0], atol=1e-5, rtol=1e-5)


def test_weights_of_another_kind_are_refused(lite_medsam: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="to hold mobile_sam weights; found lite_medsam"):
        LightSam(lite_medsam, "mobile_sam")
    with pytest.raises(WeightsError, match="there is none"):
        LightSam(tmp_path / "none.pth", "lite_medsam")


@pytest.mark.parametrize("change", ["missing", "unexpected"])
def test_loading_is_strict_also_for_what_delightsam_does_not_use(change: str, lite_medsam: str, tmp_path: Path) -> None:
    state = torch.load(lite_medsam, weights_only=True)
    if change == "missing":
        del state["prompt_encoder.not_a_point_embed.weight"]
    else:
        state["mask_decoder.hf_token.weight"] = torch.zeros(1, 256)
    torch.save(state, tmp_path / "odd.pth")
    with pytest.raises(WeightsError, match=f"{change} '"):
        LightSam(tmp_path / "odd.pth", "lite_medsam")
