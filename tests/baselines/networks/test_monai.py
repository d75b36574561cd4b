"""Networks of MONAI: what is our own about them."""

from __future__ import annotations

import copy
import sys

import pytest
import torch

from baselines.networks import monai
from tests.baselines.networks.nets import MODALITIES, disks, fresh, logits_of


def test_without_monai_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "monai.networks.nets", None)
    with pytest.raises(ValueError, match=r"Unetr needs MONAI: pip install '\.\[networks\]'"):
        monai.Unetr(MODALITIES)


def test_pretrained_weights_are_said_not_to_exist() -> None:
    with pytest.raises(ValueError, match=r"SegResNet has no pretrained weights, asked for were 'imagenet'"):
        monai.SegResNet(MODALITIES, encoder_weights="imagenet")


# nnU-Net v2 halves, rounding up, while a side has 2 x 4 positions or more: 256 -> 4 by 6, 224 -> 7 by 5.
@pytest.mark.parametrize(
    ("size", "halvings"), [(32, 3), (64, 4), (96, 4), (128, 5), (224, 5), (256, 6), (480, 7), (512, 7)]
)
def test_the_plan_of_nnunet(size: int, halvings: int) -> None:
    assert monai.planned_halvings(size) == halvings


def test_the_plan_needs_something_to_halve() -> None:
    with pytest.raises(ValueError, match="expected 32 or more pixels"):
        monai.DynUnet(MODALITIES, image_size=16)


def test_dynunet_is_what_nnunet_builds_at_this_size() -> None:
    network = monai.DynUnet(MODALITIES, image_size=128).network
    blocks = [network.input_block, *network.downsamples, network.bottleneck]
    assert [block.conv2.out_channels for block in blocks] == [32, 64, 128, 256, 512, 512]
    assert len(network.deep_supervision_heads) == 3  # with the logits: all five of the decoder but the lowest


def test_deep_supervision_halves_its_weights_with_the_resolution() -> None:
    method = fresh("dynunet")
    masks = torch.zeros(2, 1, 64, 64)
    masks[..., :32] = 1
    wrong = [torch.zeros(2, 1, 64 // 2**i, 64 // 2**i) for i in range(3)]
    right = [(2 * masks[..., :: 2**i, :: 2**i] - 1) * 50 for i in range(3)]
    base = method._loss(right, masks)[0]
    costs = [method._loss([*right[:i], wrong[i], *right[i + 1 :]], masks)[0] - base for i in range(3)]
    assert costs[1] / costs[0] == pytest.approx(1 / 2, rel=0.05)
    assert costs[2] / costs[0] == pytest.approx(1 / 4, rel=0.1)
    everything = method._loss(wrong, masks)[0]
    assert everything == pytest.approx(float(method.loss(wrong[0], masks)[0]), rel=0.02)


def test_dynunet_keeps_no_graph_after_a_step() -> None:
    method = fresh("dynunet").train()
    method.training_loss(disks(2, 64, 64), None)[0].backward()
    copied = copy.deepcopy(method)  # as averaging of weights does
    assert torch.equal(logits_of(copied, disks(1, 64, 64)), logits_of(method, disks(1, 64, 64)))
    assert method.train().predict(disks(1, 64, 64).images, torch.zeros(1)).shape == (1, 1, 64, 64)


def test_unetr_is_that_of_monai_at_the_size_it_is_built_for() -> None:
    from monai.networks.nets import UNETR

    method = fresh("unetr").eval()
    own = UNETR(3, 1, img_size=64, feature_size=4, hidden_size=24, mlp_dim=48, num_heads=2, spatial_dims=2).eval()
    state = method.network.state_dict()
    positions = state.pop("vit.patch_embedding.positions")
    state["vit.patch_embedding.position_embeddings"] = positions.flatten(2).mT
    state |= {
        key.replace("embedding.patches", "embedding.patch_embeddings"): value
        for key, value in state.items()
        if "embedding.patches" in key
    }
    state = {key: value for key, value in state.items() if "embedding.patches" not in key}
    missing = own.load_state_dict(state, strict=False)
    assert not missing.unexpected_keys and all("cross_attn" in key for key in missing.missing_keys)
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        expected = own((images - method.mean) / method.std)
        torch.testing.assert_close(method(images), expected, rtol=1e-4, atol=1e-5)


def test_unetr_interpolates_positions_for_other_sizes() -> None:
    method = fresh("unetr").eval()
    with torch.no_grad():
        method.network.vit.patch_embedding.positions.fill_(3.0)
        tokens = method.network.vit.patch_embedding(torch.zeros(1, 3, 96, 48))
        bias = method.network.vit.patch_embedding.patches.bias
    assert tokens.shape == (1, 18, 24)
    torch.testing.assert_close(tokens, (bias + 3).expand(1, 18, 24), rtol=1e-4, atol=1e-4)
