"""Networks of segmentation_models_pytorch: names, parts that don't go together, and encoder weights."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from baselines.networks.smp import SmpNetwork
from tests.baselines.networks.nets import MODALITIES


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"architecture": "unett"}, "Unknown architecture 'unett'. Did you mean 'unet'"),
        ({"architecture": "zzz"}, "Available: deeplabv3, deeplabv3plus"),
        ({"encoder_name": "resnt18"}, "Unknown encoder 'resnt18'. Did you mean 'resnet18'"),
        ({"encoder_name": "tu-resnt18"}, "Unknown timm encoder 'tu-resnt18'. Did you mean 'tu-resnet18'"),
        ({"loss": "dicee"}, "Unknown loss 'dicee'. Did you mean 'dice'"),
        ({"encoder_weights": "imagenett"}, "encoder_weights=imagenett: there is no such file"),
        ({"architecture": "dpt"}, "dpt can't be built on the encoder resnet18: Only Timm encoders are supported"),
        ({"architecture": "linknet", "encoder_name": "mit_b0"}, "linknet can't be built on the encoder mit_b0"),
        (
            {"encoder_name": "tu-test_vit"},
            "unet can't be built on the encoder tu-test_vit: Unsupported model downsampling",
        ),
        (
            {"architecture": "dpt", "encoder_name": "tu-vit_tiny_patch16_224"},
            "dpt can't be built on the encoder tu-vit_tiny_patch16_224: a pass of a small image fails: Input height (64) doesn't match",
        ),
        ({"decoder_chanels": 8}, "Unknown option of unet 'decoder_chanels'. Did you mean 'decoder_channels'"),
    ],
)
def test_unknown_names_get_a_hint(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        SmpNetwork(MODALITIES, **arguments)


def encoder_state(seed: int = 5) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return smp.create_model("unet", "resnet18", encoder_weights=None).encoder.state_dict()


@pytest.mark.parametrize("name", ["encoder.safetensors", "encoder.pth"])
def test_encoder_weights_from_a_file(name: str, tmp_path: Path) -> None:
    state = encoder_state()
    # Published classifiers carry their head along.
    with_head = {**state, "fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}
    if name.endswith("safetensors"):
        save_file(with_head, tmp_path / name)
    else:
        torch.save(with_head, tmp_path / name)
    method = SmpNetwork(MODALITIES, encoder_weights=str(tmp_path / name))
    loaded = method.network.encoder.state_dict()
    assert loaded.keys() == state.keys() and all(torch.equal(loaded[key], state[key]) for key in state)


def test_encoder_weights_of_another_encoder_name_what_does_not_fit(tmp_path: Path) -> None:
    torch.save(encoder_state(), tmp_path / "resnet18.pth")
    with pytest.raises(ValueError, match=r"resnet18\.pth does not fit the encoder resnet34[\s\S]*layer1\.2"):
        SmpNetwork(MODALITIES, encoder_name="resnet34", encoder_weights=str(tmp_path / "resnet18.pth"))


def test_a_file_that_is_no_state_dict(tmp_path: Path) -> None:
    (tmp_path / "broken.pth").write_bytes(b"no weights")
    with pytest.raises(ValueError, match=r"broken\.pth can't be read as weights"):
        SmpNetwork(MODALITIES, encoder_weights=str(tmp_path / "broken.pth"))
    torch.save({"epoch": 3}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other\.pth: expected a state dict"):
        SmpNetwork(MODALITIES, encoder_weights=str(tmp_path / "other.pth"))


@pytest.fixture
def empty_offline_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The Hugging Face client with an empty cache and no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


@pytest.mark.usefixtures("empty_offline_hub")
def test_imagenet_weights_without_network_or_cache_say_what_to_do() -> None:
    with pytest.raises(ValueError, match="'imagenet' of resnet18 are neither in the local") as caught:
        SmpNetwork(MODALITIES, encoder_weights="imagenet")
    assert "smp-hub/resnet18.imagenet" in str(caught.value) and "encoder_weights=null" in str(caught.value)


def test_imagenet_weights_come_from_the_cache(empty_offline_hub: Path) -> None:
    settings = smp.encoders.encoders["resnet18"]["pretrained_settings"]["imagenet"]
    snapshot = (
        empty_offline_hub / f"models--{settings['repo_id'].replace('/', '--')}" / "snapshots" / settings["revision"]
    )
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    state = encoder_state()
    save_file(state, snapshot / "model.safetensors")
    loaded = SmpNetwork(MODALITIES, encoder_weights="imagenet").network.encoder.state_dict()
    assert all(torch.equal(loaded[key], state[key]) for key in state)


@pytest.mark.usefixtures("empty_offline_hub")
@pytest.mark.parametrize("encoder", ["tu-test_resnet", "tu-legacy_seresnet18"])
def test_weights_of_timm_without_network_or_cache_say_what_to_do(
    encoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(ValueError, match=f"'imagenet' of {encoder} are neither in the local"):
        SmpNetwork(MODALITIES, encoder_name=encoder, encoder_weights="imagenet")


def test_weights_of_timm_come_from_the_cache(empty_offline_hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = timm.get_pretrained_cfg("test_resnet").hf_hub_id
    snapshot = empty_offline_hub / f"models--{repository.replace('/', '--')}" / "snapshots" / "0"
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("0")
    torch.manual_seed(5)
    state = timm.create_model("test_resnet").state_dict()
    save_file(state, snapshot / "model.safetensors")
    loaded = SmpNetwork(MODALITIES, encoder_name="tu-test_resnet", encoder_weights="imagenet").network.encoder.model
    found = loaded.state_dict()
    assert len(found) > 50 and all(torch.equal(found[key], state[key]) for key in found)


def test_stages_that_no_logit_depends_on_are_left_out() -> None:
    """PSPNet reads an eighth of the image: smp builds the rest of the encoder all the same."""
    method = SmpNetwork(MODALITIES, architecture="pspnet")
    whole = smp.create_model("pspnet", "resnet18", encoder_weights=None)
    assert isinstance(method.network.encoder.layer3, nn.Identity) and isinstance(
        method.network.encoder.layer4, nn.Identity
    )
    unused = [p for stage in (whole.encoder.layer3, whole.encoder.layer4) for p in stage.parameters()]
    total = sum(p.numel() for p in whole.parameters()) - sum(p.numel() for p in unused)
    assert sum(p.numel() for p in method.parameters()) == total
