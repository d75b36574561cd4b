"""Every class of methods that can be built here learns from tiles and from letterboxed images, and segments them.

A geometry meets a method through its class alone, so of the methods of one class (U-Nets of other encoders) the first stands for all.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.depth import cut
from support.methods import first_of_each_class, others_slow

from harness.config.checks import training_for_method
from harness.config.loading import load_config
from harness.config.schema import TrainingConfig
from harness.data.batches.array_cache import ArrayCache
from harness.data.batches.geometry import Geometry
from harness.data.dataset import Dataset
from harness.data.folder.sample import Sample
from harness.data.phantoms import write_phantoms
from harness.errors import UserError
from harness.inference.predict import predict_images
from harness.methods.adapter import MethodAdapter
from harness.methods.building import build_method
from harness.training.fit import TrainingData, fit
from harness.training.seeding import seed_everything

# And light encoders meet it through their first layers, at any depth.
pytestmark = pytest.mark.usefixtures("shallow")

MODALITIES = ["dermoscopy", "xray"]
CPU = torch.device("cpu")
TRAINING = TrainingConfig(image_size=32, epochs=1, batch_size=2, learning_rate=1e-4)
# The same classes with fewer channels, which no geometry meets.
SMALLER: dict[str, dict[str, Any]] = {
    "unetr": {"hidden_size": 96, "mlp_dim": 192, "num_heads": 4},
    "swin_unetr": {"feature_size": 12},
    "dynunet": {"narrowest": 8, "widest": 64},
    "segresnet": {"filters": 8},
    "attention_unet": {"widths": (8, 16, 32, 32, 32)},
}


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Sample]:
    """Images of about 40 pixels: 2 x 2 windows of 32."""
    root = tmp_path_factory.mktemp("phantoms")
    write_phantoms(root, images_per_domain=1, image_size=40, modalities=MODALITIES)
    return Dataset.open(root).by_key()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("caches")


def built(name: str, folder: Path) -> tuple[torch.nn.Module, TrainingConfig]:
    """With the weights that are here; skipped where they are not."""
    words = [f"method={name}", "training.image_size=32"]
    try:
        method: dict[str, Any] = load_config(words).methods[name]
        if "trainer" in method:
            pytest.skip(f"{name} is trained by a program of its own")
        model = {**method["model"], **SMALLER.get(name, {})}
        if model.get("family") == "lite_medsam":
            light = folder / "light.pth"
            if not light.exists():
                torch.save(cut(torch.load(model["weights"], weights_only=True)), light)
            model["weights"] = str(light)
        seed_everything(0, 0)
        module = build_method(name, model, MODALITIES, prompt=method["card"]["prompt"])
    except UserError as error:
        pytest.skip(str(error).splitlines()[0])
    training = training_for_method(TRAINING, name, method.get("training") or {})
    return module, replace(training, image_size=TRAINING.image_size)


# The adaptations of one SAM frame images in the same function.
FRAMED = [name for name in first_of_each_class() if name.endswith("_litemedsam")][1:]


@pytest.mark.parametrize("name", others_slow(first_of_each_class(), sorted({*first_of_each_class()} - {*FRAMED})))
def test_a_method_trains_and_predicts(name: str, samples: dict[str, Sample], folder: Path) -> None:
    new, training = built(name, folder)
    keys = sorted(samples)
    for geometry in ("letterbox", "tiles"):
        method = copy.deepcopy(new)
        cache = ArrayCache.open(list(samples.values()), training.image_size, folder, geometry=Geometry(geometry))
        MethodAdapter(method).use_cache(folder / "embeddings")
        data = TrainingData(cache, samples, MODALITIES, [keys[0], keys[-1]], [keys[2]])
        # A letterboxed array is trained on as a stretched one; what guesses must have seen a training image.
        if geometry == "tiles" or MethodAdapter(method).guesses:
            state = fit(method, data, training, seed=0, device=CPU, folder=folder / "none")
            assert state.images_seen >= 2 and all(np.isfinite(row["train_loss"]) for row in state.curves)
        (found,) = predict_images(
            method, [keys[1]], cache=cache, samples=samples, modalities=MODALITIES, batch_size=4, device=CPU, amp="off"
        )
        assert found.key == keys[1] and found.mask.dtype == np.bool_
        assert found.mask.shape == (samples[keys[1]].height, samples[keys[1]].width)
        assert (found.guessed_modality is not None) == MethodAdapter(method).guesses
