"""One suite over every family and mode, and what prompts and modes mean."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from support.depth import REAL, depth
from support.methods import others_slow
from torch import Tensor

from baselines.sam.method import BoxSam, OracleSam, SamMethod, WholeSam, build
from harness.config.loading import load_config
from harness.efficiency.measure import count_macs, count_parameters
from harness.methods.adapter import MethodAdapter, checked_loss
from harness.methods.building import build_method
from harness.methods.card import check_method_config
from harness.training.stages import freeze_all_but, train_mode
from tests.baselines.sam.tiny import MODALITIES, Batch, method, method_anew, squares

# MobileSAM is LiteMedSAM but for its stem, MedSAM is SAM but for what it is fed: see test_light.py and test_hub.py.
FAMILIES = ("lite_medsam", "sam", "sam_hq", "sam2")

every_family = pytest.mark.parametrize("family", FAMILIES)
# One in our own code, and one that transformers computes.
every_kind = pytest.mark.parametrize("family", others_slow(list(FAMILIES), ["lite_medsam", "sam"]))

# test_light.py compares whole encoders.
pytestmark = pytest.mark.usefixtures("shallow")


@pytest.fixture(scope="module")
def weights(shallow_weights: dict[str, str]) -> dict[str, str]:
    return shallow_weights


def logits(made: SamMethod, batch: Batch) -> Tensor:
    with torch.inference_mode():
        if isinstance(made, OracleSam):
            return made.predict_oracle(batch.images, batch.modality, batch.masks)
        assert isinstance(made, WholeSam)
        return made.predict(batch.images, batch.modality)


def step(made: SamMethod, batch: Batch, steps: int, rate: float = 1e-2) -> None:
    """As the harness trains."""
    (stage,) = MethodAdapter(made).stages()
    learnable = {name for name, value in made.named_parameters() if value.requires_grad}
    optimizer = torch.optim.AdamW(freeze_all_but(made, stage.trainable, learnable).values(), lr=rate)
    train_mode(made)
    for _ in range(steps):
        optimizer.zero_grad()
        checked_loss(made, made.training_loss(batch, None)).backward()
        optimizer.step()
    made.eval()


@every_family
@pytest.mark.parametrize("prompt", ["oracle box", "oracle point", "none"])
def test_logits_have_the_size_of_the_images(family: str, prompt: str, weights: dict[str, str]) -> None:
    made = method(family, weights[family], prompt)
    for size in ((64, 64), (33, 70)):
        answer = logits(made, squares(2, *size))
        assert answer.shape == (2, 1, *size) and answer.isfinite().all()


@every_kind
def test_an_image_s_logits_don_t_depend_on_its_batch(family: str, weights: dict[str, str]) -> None:
    made, batch = method(family, weights[family], jitter=3), squares(3)
    together = logits(made, batch)
    for index in range(3):
        torch.testing.assert_close(logits(made, batch.part(index)), together[index : index + 1], atol=1e-4, rtol=1e-4)


# LoRA goes into each family's own layers; decoders are alike.
@pytest.mark.parametrize(
    ("mode", "family"),
    [
        *(("lora", family) for family in FAMILIES),
        *(("decoder", family) for family in ("lite_medsam", "sam")),
        *(pytest.param("decoder", family, marks=pytest.mark.slow) for family in ("sam_hq", "sam2")),
    ],
)
def test_what_learns_gets_gradients_and_the_rest_does_not_move(
    family: str, mode: str, weights: dict[str, str], tmp_path: Path
) -> None:
    made, batch = method(family, weights[family], mode=mode), squares(2)
    before = copy.deepcopy(made.state_dict())
    learnable = {name for name, value in made.named_parameters() if value.requires_grad}
    assert learnable and any("parametrizations" in name for name in learnable) == (mode == "lora")
    # Of LoRA's two factors one is zero at first: the other has no gradient before the second step.
    step(made, batch, 2)
    after = made.state_dict()
    assert {name for name in before if not torch.equal(before[name], after[name])} == learnable
    # And the file of it gives the same bits, in a method built anew.
    torch.save(after, tmp_path / "state.pt")
    other = method(family, weights[family], mode=mode, seed=1)
    changed = logits(made, batch)
    assert not torch.equal(logits(other, batch), changed)
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert torch.equal(logits(other, batch), changed)


@every_family
def test_lora_starts_as_the_network_itself(family: str, weights: dict[str, str]) -> None:
    batch = squares(1)
    assert torch.equal(
        logits(method(family, weights[family], mode="lora"), batch), logits(method(family, weights[family]), batch)
    )


@every_kind
def test_the_same_seed_gives_the_same_bits(family: str, weights: dict[str, str]) -> None:
    trained = []
    for _ in range(2):
        made = method_anew(family, weights[family], mode="lora", objects_per_image=1)
        step(made, squares(2), 2)
        trained.append(logits(made, squares(2)))
    assert torch.equal(*trained)


@every_kind
def test_bfloat16_autocast_trains_and_stays_near_float32(family: str, weights: dict[str, str]) -> None:
    made, batch = method(family, weights[family], mode="decoder"), squares(2)
    full = logits(made, batch)
    with torch.autocast("cpu", torch.bfloat16):
        half = logits(made, batch).float()
        loss, _ = made.train().training_loss(batch, None)
    loss.backward()
    assert loss.dtype == torch.float32
    assert all(p.grad is not None and p.grad.isfinite().all() for p in made.parameters() if p.requires_grad)
    assert (half - full).abs().mean() < 0.1 * full.abs().mean() + 0.02


@every_family
def test_costs_are_counted(family: str, weights: dict[str, str]) -> None:
    made, image = method(family, weights[family]), squares(1).images
    own = sum(parameter.numel() for parameter in made.parameters())
    assert count_parameters(made) == {"parameters_total": own, "parameters_active": own, "parameters_trainable": 0}
    one = count_macs(made, image)
    # As much again for a second image, but for tables that a batch shares.
    assert one > own / 10 and count_macs(made, torch.cat((image, image))) == pytest.approx(2 * one, rel=0.02)


# Prompts


def test_an_empty_mask_is_answered_by_nothing_and_can_be_learnt_from(weights: dict[str, str]) -> None:
    made, batch = method("sam", weights["sam"], mode="decoder"), squares(2)
    empty = Batch(batch.images, torch.zeros_like(batch.masks), batch.modality)
    assert (logits(made, empty) == -10).all()
    loss = checked_loss(made, made.train().training_loss(empty, None))
    loss.backward()
    assert loss.isfinite() and not any(p.grad.any() for p in made.parameters() if p.grad is not None)


def test_masks_of_several_boxes_are_united(weights: dict[str, str]) -> None:
    made, batch = method("sam", weights["sam"]), squares(1)
    assert isinstance(made, BoxSam)
    left, right = batch.masks.clone(), batch.masks.clone()
    left[..., 32:, :] = 0
    right[..., :32, :] = 0
    both = logits(made, batch)
    parts = [logits(made, Batch(batch.images, mask, batch.modality)) for mask in (left, right)]
    torch.testing.assert_close(both, torch.maximum(*parts), atol=2e-2, rtol=0)  # enlarged before, or after
    once = logits(method("sam", weights["sam"], per_component=False), batch)
    assert not torch.allclose(once, both)


def test_jitter_changes_boxes_and_is_the_same_each_time(weights: dict[str, str]) -> None:
    batch = squares(2)
    exact, moved = method("sam", weights["sam"]), method("sam", weights["sam"], jitter=6)
    assert not torch.equal(logits(exact, batch), logits(moved, batch))
    assert torch.equal(logits(moved, batch), logits(moved, batch))
    with pytest.raises(ValueError, match="jitter=2 moves an oracle's boxes; found prompt 'none'"):
        method("sam", weights["sam"], "none", jitter=2)


@pytest.mark.parametrize(("family", "three"), [("sam", True), ("medsam", False)])
def test_a_point_takes_the_mask_that_the_network_trusts_most(family: str, three: bool, weights: dict[str, str]) -> None:
    made, batch = method(family, weights[family], "oracle point", per_component=False), squares(1)
    network = made.network
    points = made.prompts(made.objects(batch.masks[0, 0]))
    with torch.inference_mode():
        masks, quality = network.masks(network.embed(network.preprocessing.pixels(batch.images))[0], points, three)
    expected = network.preprocessing.logits(masks[:, [int(quality[0].argmax())]], 64, 64)
    torch.testing.assert_close(logits(made, batch), expected)


def test_the_whole_image_says_nothing_of_the_mask(weights: dict[str, str]) -> None:
    made, batch = method("sam", weights["sam"], "none"), squares(1)
    assert not hasattr(made, "predict_oracle")
    boxed = method("sam", weights["sam"], per_component=False)
    everything = Batch(batch.images, torch.ones_like(batch.masks), batch.modality)
    assert torch.equal(logits(made, batch), logits(boxed, everything))


# Learning


def test_the_loss_is_of_the_objects_that_are_prompted(weights: dict[str, str]) -> None:
    made, batch = method("sam", weights["sam"], mode="decoder", objects_per_image=1), squares(1)
    seen = set()
    for seed in range(8):
        torch.manual_seed(seed)
        predicted, target = made._prompted(batch)
        assert 0 < target.sum() < batch.masks.sum() and (target <= batch.masks).all()
        alone = logits(made, Batch(batch.images, target, batch.modality))
        torch.testing.assert_close(predicted.detach(), alone, atol=1e-5, rtol=1e-4)
        seen.add(float(target.sum()))
    assert len(seen) == 2


def test_losses_by_image_belong_to_the_loss(weights: dict[str, str]) -> None:
    made, batch = method("sam", weights["sam"], mode="decoder"), squares(3)
    loss, own = made.losses_by_image(batch, None)
    assert torch.equal(loss, made.training_loss(batch, None)[0])
    assert own.shape == (3,) and own.requires_grad
    torch.testing.assert_close(own.mean(), loss)


def test_learning_lowers_the_loss(weights: dict[str, str]) -> None:
    made, batch = method("lite_medsam", weights["lite_medsam"], mode="lora"), squares(2)
    first = float(made.training_loss(batch, None)[0])
    step(made, batch, 3, rate=3e-4)
    assert float(made.training_loss(batch, None)[0]) < first


# Names and files


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"family": "sam3"}, "Unknown family 'sam3'. Did you mean"),
        ({"mode": "loraa"}, "Unknown mode 'loraa'. Did you mean 'lora'"),
        ({"loss": "bce_dce"}, "Unknown loss 'bce_dce'"),
        ({"prompt": "oracle boxx"}, "Unknown prompt 'oracle boxx'. Did you mean 'oracle box'"),
        ({"rank": 0}, "rank=0: expected 1 or more"),
        ({"jitter": -1}, "jitter=-1: expected 0 or more"),
    ],
)
def test_wrong_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        build(MODALITIES, **{"prompt": "oracle box", "family": "sam", "weights": "x", **settings})


HUB = (
    "sam_b",
    "sam_l",
    "sam_h",
    "medsam",
    "slimsam_50",
    "slimsam_77",
    "sam_hq_b",
    "sam2_tiny",
    "sam2_base",
    "sam2_large",
)
LIGHT = ("litemedsam", "litemedsam_point", "litemedsam_whole", "litemedsam_decoder", "litemedsam_lora", "mobilesam")


@pytest.fixture(scope="module")
def files(mobile_sam: str) -> dict[str, Any]:
    names = f"method=[{','.join((*HUB, *LIGHT))}]"
    return dict(load_config([names, f"methods.mobilesam.model.weights={mobile_sam}"]).methods)


@pytest.mark.parametrize("name", HUB)
def test_hub_files_build_what_their_cards_say(name: str, files: dict[str, Any], weights: dict[str, str]) -> None:
    config = files[name]
    check_method_config(name, config)
    model = {**config["model"], "weights": weights[config["model"]["family"]]}
    made = build_method(name, model, MODALITIES, prompt=config["card"]["prompt"])
    assert not [p for p in made.parameters() if p.requires_grad] and not MethodAdapter(made).stages()[0].gradient
    assert config["supports_algorithms"] is False and config["training"] == {"image_size": 1024}


@pytest.mark.parametrize("name", LIGHT)
def test_light_files_build_what_their_cards_say(name: str, files: dict[str, Any]) -> None:
    config = files[name]
    check_method_config(name, config)
    with depth(REAL):
        made = build_method(name, config["model"], MODALITIES, prompt=config["card"]["prompt"])
    learns = name in ("litemedsam_decoder", "litemedsam_lora")
    assert MethodAdapter(made).stages()[0].gradient is learns and config["supports_algorithms"] is learns
    assert hasattr(made, "predict_oracle") == (name != "litemedsam_whole")
    assert ("isic2017" in config["card"]["pretrained_on"]) == (name != "mobilesam")
