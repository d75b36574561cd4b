"""De-LightSAM as a method of the bench."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from support.numbers import nothing_drawn

from delightsam import WeightsError, save
from delightsam.modeling.config import modality_numbers
from delightsam.modeling.preprocessing import normalise
from delightsam.training.mdkd import MDKDMethod
from delightsam.training.method import DeLightSAMMethod

pytestmark = pytest.mark.usefixtures("shallow")

NAMES = ["colonoscopy", "dermoscopy", "endoscopy"]


def disc_batch(count: int = 6) -> Any:
    """Discs of two looks: bright on dark for index 1, dark on bright for the others."""
    random = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    modality = torch.tensor([0, 1, 2, 1, 0, 1])[:count]
    centre = torch.rand((count, 2), generator=random) * 24 + 20
    masks = ((y - centre[:, :1, None]) ** 2 + (x - centre[:, 1:, None]) ** 2 < 14**2).float()[:, None]
    bright = torch.where((modality == 1)[:, None, None, None], masks, 1 - masks)
    images = (bright * 0.5 + 0.25).expand(-1, 3, -1, -1) + 0.02 * torch.randn((count, 3, 64, 64), generator=random)
    return SimpleNamespace(images=images.clamp(0, 1), masks=masks, modality=modality)


JOINT = SimpleNamespace(stage="joint")


def test_names_keep_their_published_numbers() -> None:
    assert modality_numbers(NAMES) == {"colonoscopy": 5, "dermoscopy": 0, "endoscopy": 6}
    assert modality_numbers(["mri", "fundus", "ct"]) == {"mri": 6, "fundus": 3, "ct": 7}
    with pytest.raises(ValueError, match="different names"):
        modality_numbers(["ct", "ct"])


def test_index_of_the_batch_chooses_the_modality() -> None:
    method = DeLightSAMMethod(NAMES).eval()
    images = disc_batch().images
    normalised = normalise(images, "sam")
    with torch.no_grad():
        ours = method.predict(images, torch.tensor([0, 1, 2, 2, 1, 0]))
        expected = method.network(normalised, torch.tensor([5, 0, 6, 6, 0, 5]))
    assert torch.equal(ours, expected) and ours.shape == (6, 1, 64, 64)


def test_training_learns() -> None:
    torch.manual_seed(0)
    method, batch = DeLightSAMMethod(NAMES).train(), disc_batch(3)
    optimizer = torch.optim.AdamW(method.parameters(), lr=1e-3, fused=True)
    history = []
    for _ in range(7):
        value, terms = method.training_loss(batch, JOINT)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        history.append(float(terms["dice"]))
    assert min(history[-3:]) < 0.6 * history[0]


def test_same_seed_same_step() -> None:
    def step() -> list[torch.Tensor]:
        torch.manual_seed(3)
        method = DeLightSAMMethod(NAMES).train()
        method.training_loss(disc_batch(3), JOINT)[0].backward()
        return [p.grad.clone() for p in method.parameters() if p.grad is not None]

    assert all(torch.equal(a, b) for a, b in zip(step(), step(), strict=True))


@nothing_drawn()
def test_from_scratch_everything_learns_in_one_stage() -> None:
    method = DeLightSAMMethod(["fundus"])
    (stage,) = method.stages()
    assert (stage.name, stage.share, stage.gradient, stage.views) == ("joint", 1.0, True, None)
    assert all(any(fnmatchcase(name, p) for p in stage.trainable) for name, _ in method.named_parameters())


@nothing_drawn()
def test_state_dict_holds_the_network_and_whether_the_controllers_are_left_out() -> None:
    names = DeLightSAMMethod(["fundus"]).state_dict()
    assert [name for name in names if not name.startswith("network.")] == ["without_controllers"]


def test_weights_of_two_kinds_are_refused() -> None:
    with pytest.raises(ValueError, match="Give either `weights`"):
        DeLightSAMMethod(["fundus"], weights="a", encoder_weights="b")


def test_weights_from_a_file(tmp_path: Path) -> None:
    first = DeLightSAMMethod(["fundus", "xray"], stem="pixel", image_size=64)
    save(first.network, tmp_path / "w.safetensors")
    path = str(tmp_path / "w.safetensors")
    second = DeLightSAMMethod(["xray"], weights=path, stem="pixel")
    images = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        ours = second.eval().predict(images, torch.tensor([0]))
        assert torch.equal(ours, first.eval().predict(images, torch.tensor([1])))
    with pytest.raises(ValueError, match=r"stem = 'pixel'; found stem = 'standard'"):
        DeLightSAMMethod(["xray"], weights=path, stem="standard")
    with pytest.raises(WeightsError, match="no controller for ultrasound"):
        DeLightSAMMethod(["xray", "ultrasound"], weights=path)


def test_unknown_loss_is_named() -> None:
    with pytest.raises(ValueError, match=r"Unknown loss 'dice'\. Available: dice_bce, paper"):
        DeLightSAMMethod(["xray"], loss="dice")


@nothing_drawn()
def test_settings_of_the_suite_build_the_method() -> None:
    import suites

    content = (Path(suites.__file__).parent / "method" / "delightsam.yaml").read_text("utf-8")
    settings = yaml.safe_load(content)
    assert settings["model"].pop("_target_") == "delightsam.training.method.DeLightSAMMethod"
    method = DeLightSAMMethod(["fundus"], **settings["model"])
    assert method.loss == "dice_bce" and method.network.config.modalities == (3,)
    assert settings["card"]["uses_modality"] is True


def test_normalise_presets() -> None:
    image = torch.tensor([123.675, 116.28, 103.53]).view(1, 3, 1, 1).expand(1, 3, 2, 2) / 255
    assert torch.allclose(normalise(image, "sam"), torch.zeros(1), atol=1e-6)
    assert torch.allclose(normalise(image * 2, "authors"), torch.ones(1), atol=1e-5)
    assert torch.allclose(normalise(image, "unit"), image)
    two = torch.cat((image, image * 0.5))
    two[:, :, 0, 0] = 0
    scaled = normalise(two, "minmax")
    assert torch.allclose(scaled[0], scaled[1]) and scaled.amin() == 0 and scaled.amax() == 1
    assert normalise(torch.full((1, 3, 2, 2), 0.5), "minmax").abs().max() == 0
    with pytest.raises(ValueError, match="Unknown preprocessing preset 'z'"):
        normalise(image, "z")


def test_a_recorded_step_has_the_same_loss_and_gradients() -> None:
    torch.manual_seed(0)
    method, batch = DeLightSAMMethod(NAMES).train(), disc_batch(3)
    batch.modality_list = batch.modality.tolist()
    found = []
    for recorded in (False, True):
        method.zero_grad()
        loss, _ = method.training_loss(batch, SimpleNamespace(stage="joint", recorded=recorded))
        loss.backward()
        found.append((loss.detach(), {n: p.grad.clone() for n, p in method.named_parameters() if p.grad is not None}))
    (plain, expected), (loss, gradients) = found
    assert loss == pytest.approx(float(plain), abs=1e-5)
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        assert torch.allclose(gradient, expected[name], atol=1e-4), name


@nothing_drawn()
def test_batches_of_the_same_modalities_share_a_recording() -> None:
    def key(modalities: list[int], method: DeLightSAMMethod) -> object:
        return method.recording_key(SimpleNamespace(modality=None, modality_list=modalities), JOINT)  # type: ignore[arg-type]

    method = DeLightSAMMethod(NAMES)
    assert key([2, 0, 2], method) == key([0, 0, 2], method) != key([0, 0, 0], method)
    assert method.recording_key(disc_batch(), JOINT) is None  # a GPU would have to be asked
    assert key([0, 0], DeLightSAMMethod(NAMES, checkpoint_activations=True)) is None
    assert key([0, 0], MDKDMethod(NAMES, teacher="tiny", stages=["teacher", "common"])) is None  # has a loss of its own


def test_what_is_prepared_is_not_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    method, batch = DeLightSAMMethod(NAMES, stages=["decode"]).train(), disc_batch()
    step = SimpleNamespace(stage="decode")
    plain, _ = method.training_loss(batch, step)
    with torch.no_grad():
        batch.prepared = method.prepare(batch, step)
    assert method.prepare(batch, JOINT) is None
    monkeypatch.setattr(method.network, "encode", None)
    assert torch.equal(method.training_loss(batch, step)[0], plain)
