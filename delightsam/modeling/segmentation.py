"""From images of any size to masks of the same size: what `model.segment` and `model.segment_batch` do."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from delightsam.modeling.config import MODALITY_NUMBERS, DeLightSAMConfig
from delightsam.modeling.preprocessing import normalise

AUTO = "auto"
Mask = npt.NDArray[np.bool_] | npt.NDArray[np.float32]


class Segmenter(Protocol):
    """What segmenting needs of a model; `DeLightSAM` has it."""

    config: DeLightSAMConfig
    training: bool

    def __call__(self, images: Tensor, modality: Tensor) -> Tensor: ...

    def guess_modality(self, images: Tensor) -> Tensor: ...

    def train(self, mode: bool = True) -> object: ...

    def eval(self) -> object: ...

    def parameters(self) -> Iterator[Tensor]: ...


@torch.no_grad()
def segment(
    model: Segmenter,
    images: Sequence[npt.NDArray[np.uint8]],
    modality: str | int | Sequence[str | int],
    *,
    batch_size: int = 8,
    probabilities: bool = False,
) -> list[Mask]:
    """Masks of images of any sizes, each at its image's size, on the device where the model is.

    Images are stretched to the square of `config.image_size` as Pillow does it (bilinear, antialiased), which is also how
    the bench trains; logits are brought back to the image's size (bilinear) and cut at 0.

    Args:
        images: each (H, W, 3) uint8 RGB, or (H, W) or (H, W, 1) uint8 grey.
        modality: a name or a number, one for all or one for each image; "auto" has the model's own head tell it.
        batch_size: images that go through the model at once.
        probabilities: give float32 in [0, 1] in place of the mask, which is where they are above 0.5.

    Returns:
        For each image (H, W) bool, or (H, W) float32.

    Raises:
        ValueError: an image of another shape or dtype, an unknown modality, or one the model was not made for.
    """
    pictures = [as_rgb(image, f"images[{i}]: " if len(images) > 1 else "") for i, image in enumerate(images)]
    numbers = _numbers(model, modality, len(pictures))
    was_training = model.training
    model.eval()
    try:
        found: list[Mask] = []
        for start in range(0, len(pictures), batch_size):
            part = slice(start, start + batch_size)
            logits = _logits(model, pictures[part], None if numbers is None else numbers[part])
            for image, image_logits in zip(pictures[part], logits, strict=True):
                found.append(_at_size(image_logits, image.shape[0], image.shape[1], probabilities))
        return found
    finally:
        model.train(was_training)


def modality_number(modality: str | int) -> int:
    """The number of a modality given by its name (`"fundus"`) or its number (`3` or `"3"`).

    Raises:
        ValueError: neither.
    """
    if isinstance(modality, str) and not modality.isdecimal():
        if modality not in MODALITY_NUMBERS:
            near = difflib.get_close_matches(modality.lower(), MODALITY_NUMBERS, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise ValueError(f"Unknown modality '{modality}'.{hint} Known: {', '.join(MODALITY_NUMBERS)}, or a number.")
        return MODALITY_NUMBERS[modality]
    return int(modality)


def as_rgb(image: npt.NDArray[np.uint8], which: str = "") -> npt.NDArray[np.uint8]:
    """The image as (H, W, 3) uint8; grey is repeated.

    Args:
        which: begins the error, to name one of several images.

    Raises:
        ValueError: another type, shape or dtype, or no pixels.
    """
    expected = f"{which}expected an image as an (H, W, 3) RGB or (H, W) grey array of uint8"
    if not isinstance(image, np.ndarray):
        hint = " Read a file with np.asarray(Image.open(path).convert('RGB'))."
        raise ValueError(f"{expected}; found {type(image).__name__}.{hint}")
    found = f"found shape {image.shape} of {image.dtype}"
    if image.dtype != np.uint8:
        raise ValueError(f"{expected}; {found}. Scale its values to 0 to 255 first.")
    grey = image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image
    if grey.ndim == 2 and grey.size:
        return np.repeat(grey[..., None], 3, axis=2)
    if image.ndim != 3 or image.shape[2] != 3 or not image.size:
        hint = ""
        if image.ndim == 3 and image.shape[2] == 4:
            hint = " Drop the alpha channel: image[..., :3]."
        elif image.ndim == 3 and image.shape[0] == 3:
            hint = " Move the channels to the end: image.transpose(1, 2, 0)."
        elif image.ndim == 4:
            hint = " Several images go to segment_batch, as a list."
        raise ValueError(f"{expected}; {found}.{hint}")
    return image


def _numbers(model: Segmenter, modality: str | int | Sequence[str | int], count: int) -> list[int] | None:
    """One number for each image; None where the model is to tell."""
    if modality == AUTO:
        return None
    given = [modality] * count if isinstance(modality, str | int | np.integer) else list(modality)
    if len(given) != count:
        raise ValueError(f"Expected one modality for all, or one for each of {count} images; found {len(given)}.")
    numbers = [modality_number(one) for one in given]
    names = {number: name for name, number in MODALITY_NUMBERS.items()}
    for number in numbers:
        if number not in model.config.modalities:
            known = ", ".join(f"{k} {names.get(k, '')}".strip() for k in model.config.modalities)
            raise ValueError(
                f"This model was not made for modality {number} {names.get(number, '')}".rstrip()
                + f"; it knows {known}."
            )
    return numbers


def _logits(model: Segmenter, images: Sequence[npt.NDArray[np.uint8]], numbers: list[int] | None) -> Tensor:
    """Logits (B, 1, S, S) float32."""
    side, device = model.config.image_size, next(model.parameters()).device
    squares = [np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR)) for image in images]
    batch = torch.from_numpy(np.stack(squares)).to(device).permute(0, 3, 1, 2).float() / 255
    normalised = normalise(batch, model.config.preprocessing)
    if numbers is None:
        modality = model.guess_modality(normalised)
    else:
        modality = torch.tensor(numbers, device=device)
    return model(normalised, modality).float()


def _at_size(logits: Tensor, height: int, width: int, probabilities: bool) -> Mask:
    native = F.interpolate(logits[None], (height, width), mode="bilinear", align_corners=False)[0, 0]
    return (native.sigmoid() if probabilities else native > 0).cpu().numpy()
