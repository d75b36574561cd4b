"""One suite that every network inherits, and the parts around it: encoder weights, batch norm, names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import huggingface_hub
import pytest
import segmentation_models_pytorch as smp
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from baselines.losses import bce_dice, soft_dice
from baselines.networks import SafeBatchNorm2d, SmpNetwork

MODALITIES = ["dermoscopy", "xray"]


@dataclass
class Batch:
    images: Tensor
    masks: Tensor
    modality: Tensor


def disks(count: int, height: int, width: int, seed: int = 0) -> Batch:
    """Bright disks on dark noise."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    centres = torch.rand(count, 2, 1, 1, generator=generator) * 0.5 + 0.25
    distance = ((y - centres[:, 0] * height) ** 2 + (x - centres[:, 1] * width) ** 2).sqrt()
    masks = (distance < min(height, width) / 4)[:, None].float()
    images = (0.3 + 0.4 * masks + 0.1 * torch.rand(count, 3, height, width, generator=generator)).clamp(0, 1)
    return Batch(images, masks, torch.arange(count) % len(MODALITIES))


class NetworkSuite:
    """What every network must fulfil. A subclass names the network."""

    arguments: ClassVar[dict[str, Any]]

    def build(self, seed: int = 0) -> SmpNetwork:
        torch.manual_seed(seed)
        return SmpNetwork(MODALITIES, **self.arguments)

    def logits(self, method: SmpNetwork, batch: Batch) -> Tensor:
        method.eval()
        with torch.inference_mode():
            return method.predict(batch.images, batch.modality)

    @pytest.mark.parametrize("size", [(64, 64), (33, 70), (5, 3)])
    def test_logits_have_the_size_of_the_images(self, size: tuple[int, int]) -> None:
        logits = self.logits(self.build(), disks(2, *size))
        assert logits.shape == (2, 1, *size) and logits.isfinite().all()

    def test_odd_sizes_see_the_border_repeated_and_nothing_else(self) -> None:
        method, odd = self.build(), disks(1, 50, 64)
        padded = Batch(
            torch.cat([odd.images, odd.images[:, :, -1:].expand(-1, -1, 14, -1)], 2), odd.masks, odd.modality
        )
        assert torch.equal(self.logits(method, odd), self.logits(method, padded)[:, :, :50])

    def test_gradients_reach_every_parameter(self) -> None:
        method, batch = self.build().train(), disks(3, 64, 96)
        loss, parts = method.training_loss(batch, None)
        loss.backward()
        assert loss.dim() == 0 and parts and all(not value.requires_grad for value in parts.values())
        without = [
            name
            for name, parameter in method.named_parameters()
            if parameter.grad is None or not parameter.grad.isfinite().all() or not parameter.grad.any()
        ]
        assert without == []

    @pytest.mark.parametrize("size", [32, 64])
    def test_trains_on_a_single_image(self, size: int) -> None:
        method = self.build().train()
        loss, _ = method.training_loss(disks(1, size, size), None)
        loss.backward()
        assert loss.isfinite() and all(p.grad is not None and p.grad.isfinite().all() for p in method.parameters())

    def test_bfloat16_autocast_trains_and_stays_near_float32(self) -> None:
        method, batch = self.build(), disks(2, 64, 64)
        full = self.logits(method, batch)
        with torch.autocast("cpu", torch.bfloat16):
            half = self.logits(method, batch).float()
            loss, _ = method.train().training_loss(batch, None)
        loss.backward()
        assert loss.dtype == torch.float32 and loss.isfinite()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in method.parameters())
        assert (half - full).abs().mean() < 0.05 * full.abs().mean() + 0.02

    def test_an_image_s_logits_don_t_depend_on_its_batch(self) -> None:
        method, batch = self.build(), disks(4, 64, 64)
        method.train().training_loss(batch, None)  # running statistics that are not the initial ones
        together = self.logits(method, batch)
        for index in range(4):
            one = slice(index, index + 1)
            alone = self.logits(method, Batch(batch.images[one], batch.masks[one], batch.modality[one]))
            torch.testing.assert_close(alone, together[one], atol=1e-4, rtol=1e-4)

    def test_a_saved_state_gives_the_same_bits(self, tmp_path: Path) -> None:
        method, batch = self.build(), disks(2, 64, 64)
        method.train().training_loss(batch, None)
        torch.save(method.state_dict(), tmp_path / "state.pt")
        other = self.build(seed=1)
        assert not torch.equal(self.logits(other, batch), self.logits(method, batch))
        other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
        assert torch.equal(self.logits(other, batch), self.logits(method, batch))

    def test_the_same_seed_gives_the_same_bits(self) -> None:
        losses = []
        for _ in range(2):
            method = self.build(seed=3).train()
            losses.append(method.training_loss(disks(2, 64, 64), None)[0])
        assert torch.equal(*losses)

    def test_a_few_steps_learn_disks(self) -> None:
        method, batch = self.build().train(), disks(4, 32, 32)
        optimizer = torch.optim.AdamW(method.parameters(), 1e-3)
        losses = []
        for _ in range(10):
            loss, _ = method.training_loss(batch, None)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert min(losses[-3:]) < 0.7 * losses[0]


class TestUnet(NetworkSuite):
    arguments: ClassVar[dict[str, Any]] = {"architecture": "unet", "encoder_name": "resnet18"}


class TestDeepLabV3Plus(NetworkSuite):
    arguments: ClassVar[dict[str, Any]] = {"architecture": "deeplabv3plus", "encoder_name": "resnet18"}


class TestSegFormer(NetworkSuite):
    arguments: ClassVar[dict[str, Any]] = {"architecture": "segformer", "encoder_name": "mit_b0"}


# Names and weights


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"architecture": "unett"}, "Unknown architecture 'unett'. Did you mean 'unet'"),
        ({"architecture": "zzz"}, "Available: deeplabv3, deeplabv3plus"),
        ({"encoder_name": "resnt18"}, "Unknown encoder 'resnt18'. Did you mean 'resnet18'"),
        ({"encoder_name": "tu-resnt18"}, "Unknown timm encoder 'tu-resnt18'. Did you mean 'tu-resnet18'"),
        ({"loss": "dicee"}, "Unknown loss 'dicee'. Did you mean 'dice'"),
        ({"encoder_weights": "imagenett"}, "encoder_weights=imagenett: there is no such file"),
        ({"architecture": "dpt"}, "dpt can't be built on the encoder resnet18"),
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


# Parts


def test_normalisation_is_by_imagenet_and_not_part_of_the_weights() -> None:
    method = SmpNetwork(MODALITIES)
    assert not {"mean", "std"} & method.state_dict().keys()
    seen: list[Tensor] = []
    method.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    grey = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1).expand(1, 3, 32, 32)
    method.eval().predict(grey, torch.zeros(1, dtype=torch.int64))
    method.eval().predict(torch.ones(1, 3, 32, 32), torch.zeros(1, dtype=torch.int64))
    assert torch.allclose(seen[0], torch.zeros(1), atol=1e-6)
    assert torch.allclose(
        seen[1][0, :, 0, 0], torch.tensor([(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225])
    )


def test_safe_batch_norm_is_batch_norm_wherever_that_works() -> None:
    plain, safe = nn.BatchNorm2d(4), SafeBatchNorm2d(4)
    for shape in [(2, 4, 1, 1), (1, 4, 1, 2), (3, 4, 5, 5)]:
        x = torch.randn(shape)
        assert torch.equal(plain(x), safe(x))
    assert all(torch.equal(a, b) for a, b in zip(plain.state_dict().values(), safe.state_dict().values(), strict=True))


def test_safe_batch_norm_of_one_value_uses_running_statistics_and_leaves_them() -> None:
    safe = SafeBatchNorm2d(4)
    safe(torch.randn(8, 4, 3, 3) * 2 + 1)
    before = {key: value.clone() for key, value in safe.state_dict().items()}
    x = torch.randn(1, 4, 1, 1, requires_grad=True)
    with pytest.raises(ValueError, match="more than 1 value"):
        nn.BatchNorm2d(4)(x)
    y = safe(x)
    assert torch.equal(y, safe.eval()(x))
    y.sum().backward()
    assert x.grad is not None and x.grad.all()
    assert all(torch.equal(before[key], value) for key, value in safe.state_dict().items())


def test_soft_dice_by_hand() -> None:
    sure = torch.tensor([[[[30.0, 30.0], [-30.0, -30.0]]], [[[-30.0, -30.0], [-30.0, -30.0]]]])
    masks = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]], [[[0.0, 0.0], [0.0, 0.0]]]])
    # First image: 1 - (2 x 1 + 1) / (2 + 1 + 1); second, empty and rightly so: 0. Their mean.
    assert soft_dice(sure, masks).item() == pytest.approx((0.25 + 0) / 2, abs=1e-6)


def test_the_loss_is_float32_under_autocast_however_many_pixels() -> None:
    logits = torch.zeros(1, 1, 512, 512, dtype=torch.bfloat16)
    masks = torch.ones(1, 1, 512, 512)
    with torch.autocast("cpu", torch.bfloat16):
        loss, parts = bce_dice(logits, masks)
    expected = 1 - (512**2 + 1) / (1.5 * 512**2 + 1)
    assert loss.dtype == torch.float32
    assert parts["dice"].item() == pytest.approx(expected, abs=1e-6)
    assert parts["bce"].item() == pytest.approx(0.693147, abs=1e-6)
