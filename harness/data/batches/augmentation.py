"""Augmentation of whole batches on their own device, in a few operations, with parameters drawn for each image."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.data.batches.loader import Batch, Known
from harness.errors import UserError, did_you_mean

PRESETS = ("none", "flips", "standard", "strong")
VERSION = 2
"""Raised when the same draws of a preset give other pixels."""

_LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601


@dataclass(frozen=True)
class _Parameter:
    """Uniform in [low, high] for images that are chosen, else `neutral`. Parameters of one group are chosen together."""

    group: str
    low: float
    high: float
    neutral: float


# Group -> the share of images that it changes.
_STANDARD_SHARES = {"affine": 0.5, "colour": 0.8, "gamma": 0.3, "blur": 0.2, "noise": 0.2, "mirror": 0.5, "turn": 0.5}
_STRONG_SHARES = _STANDARD_SHARES | {"grey": 0.25, "channels": 0.5, "inversion": 0.25}
_STANDARD = (
    _Parameter("mirror", -1, -1, 1),
    _Parameter("turn", -1, -1, 1),
    _Parameter("affine", -math.pi / 6, math.pi / 6, 0),
    _Parameter("affine", 0.8, 1.25, 1),  # pixels of the image to a pixel of the result
    _Parameter("affine", -0.16, 0.16, 0),  # of half a side: up to 8 % of a side
    _Parameter("affine", -0.16, 0.16, 0),
    _Parameter("colour", 0.75, 1.25, 1),  # brightness, contrast, saturation
    _Parameter("colour", 0.75, 1.25, 1),
    _Parameter("colour", 0.75, 1.25, 1),
    _Parameter("gamma", 0.7, 1.4, 1),
    _Parameter("blur", 0.2, 1, 0),  # share of the blurred image
    _Parameter("noise", 0.03, 0.03, 0),  # standard deviation
)
_STRONG = (
    *_STANDARD,
    _Parameter("grey", 0, 0, 1),  # factor on the saturation
    _Parameter("channels", 0.6, 1.4, 1),  # red, green, blue
    _Parameter("channels", 0.6, 1.4, 1),
    _Parameter("channels", 0.6, 1.4, 1),
    _Parameter("inversion", -1, -1, 1),
)


class Augmentation:
    """Varies images and masks alike; colour only in images. Every method trains on the same augmentation.

    Presets: `none`; `flips` (left-right and up-down, each for half of the images); `standard`, which adds a rotation by
    up to 30 degrees with scale 0.8-1.25 and shift up to 8 % (half of the images; the border is mirrored), brightness,
    contrast and saturation by up to 25 % (80 %), gamma 0.7-1.4 (30 %), a slight blur and slight noise (20 % each);
    `strong`, which adds what differs between stains, dyes and devices: grey images (25 %), each channel by up to 40 % (50 %),
    and light and dark exchanged (25 %).

    Images keep their range [0, 1], masks stay 0 or 1 (nearest neighbour). All randomness is torch's global generator of
    the device: the same `torch.manual_seed` before gives the same output.
    """

    def __init__(self, preset: str = "standard") -> None:
        """
        Raises:
            UserError: an unknown preset.
        """
        if preset not in PRESETS:
            raise UserError(f"Unknown training.augmentation '{preset}'.{did_you_mean(preset, PRESETS)}")
        self.preset = preset
        self._constants: dict[tuple[torch.device, int, int], _Constants] = {}

    @torch.no_grad()
    def __call__(self, batch: Batch, generator: torch.Generator | None = None) -> Batch:
        """A new batch of the same shapes and dtypes; `batch` itself is left as it is.

        Args:
            generator: of the batch's device; None: torch's global one.
        """
        if self.preset == "none":
            return batch
        change = _flipped if self.preset == "flips" else self._standard
        with torch.autocast(batch.images.device.type, enabled=False):
            images, masks = change(batch.images, batch.masks, generator)
        return dataclasses.replace(batch, images=images, masks=masks)

    def version(self, batch: Batch, number: int) -> Batch:
        """Version `number` of each image: a function of the image's key, the number and the kind of device alone.

        Values of pixels are multiples of 1/255, so that they can be kept as bytes. torch's global generator is left as it
        was.
        """
        parts = []
        for part in batch.chunks(1):
            digest = hashlib.sha256(f"{part.keys[0]}\n{number}".encode()).digest()
            generator = torch.Generator(batch.images.device)
            parts.append(self(part, generator.manual_seed(int.from_bytes(digest[:8], "little", signed=True))))
        images = torch.cat([part.images for part in parts]).mul_(255).round_().div_(255)
        masks, names = torch.cat([part.masks for part in parts]), batch.image_names
        known = None if names is None else Known(images, [name + self.suffix(number) for name in names])
        return dataclasses.replace(batch, images=images, masks=masks, known_images=known)

    def suffix(self, number: int) -> str:
        """Behind the name of an image, for its version `number`."""
        return f" {self.preset} {VERSION} {number}"

    def _standard(self, images: Tensor, masks: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        key = (images.device, images.shape[2], images.shape[3])
        if key not in self._constants:
            self._constants[key] = _Constants(*key, *_DRAWN[self.preset])
        constants = self._constants[key]
        mirror, turn, angle, zoom, right, down, brightness, contrast, saturation, gamma, blur, noise, *strong = (
            constants.drawn(len(images), generator)
        )
        grid = constants.grid(mirror, turn, angle, zoom, right, down)
        images = F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
        masks = F.grid_sample(masks, grid, mode="nearest", padding_mode="reflection", align_corners=False)
        if strong:
            saturation = saturation * strong[0]
        images = constants.coloured(images, brightness, contrast, saturation).pow_(gamma)
        if strong:
            images = _restained(images, *strong)
        images.lerp_(constants.blurred(images), blur)
        if generator is None:
            drawn = torch.randn_like(images)
        else:
            drawn = torch.randn(images.shape, device=images.device, generator=generator)
        return images.addcmul_(drawn, noise).clamp_(0, 1), masks


class _Constants:
    """What does not change from one batch of images of a size to the next, on their device."""

    def __init__(
        self,
        device: torch.device,
        height: int,
        width: int,
        shares: Mapping[str, float],
        parameters: Sequence[_Parameter],
    ) -> None:
        def column(values: list[float]) -> Tensor:
            return torch.tensor(values, device=device).view(-1, 1, 1, 1, 1)

        groups = list(shares)
        self.device, self.groups, self.parameters = device, len(groups), len(parameters)
        self.group = torch.tensor([groups.index(p.group) for p in parameters], device=device)
        self.probability = column([shares[p.group] for p in parameters])
        self.low, self.neutral = column([p.low for p in parameters]), column([p.neutral for p in parameters])
        self.span = column([p.high - p.low for p in parameters])
        self.x = ((torch.arange(width, device=device) + 0.5) / width * 2 - 1).view(1, 1, 1, width)
        self.y = ((torch.arange(height, device=device) + 0.5) / height * 2 - 1).view(1, 1, height, 1)
        self.luminance = torch.tensor(_LUMINANCE, device=device).view(1, 3, 1, 1)

    def drawn(self, images: int, generator: torch.Generator | None) -> tuple[Tensor, ...]:
        """Each parameter's value for each image, (B, 1, 1, 1)."""
        count = self.groups + self.parameters
        uniform = torch.rand((count, images, 1, 1, 1), device=self.device, generator=generator)
        chosen = uniform.index_select(0, self.group) < self.probability
        values = torch.addcmul(self.low, uniform[self.groups :], self.span)
        return torch.where(chosen, values, self.neutral).unbind(0)

    def grid(self, mirror: Tensor, turn: Tensor, angle: Tensor, zoom: Tensor, right: Tensor, down: Tensor) -> Tensor:
        """(B, H, W, 2): where each pixel of the result lies in the image.

        A point is a complex number, so that one product turns and scales it. Left-right with half a turn is up-down.
        """
        points = torch.complex(self.x * mirror, self.y.expand(len(mirror), 1, -1, self.x.shape[3]))
        points = torch.addcmul(torch.complex(right, down), points, torch.polar(zoom * turn, angle))
        return torch.view_as_real(points).squeeze(1)

    def coloured(self, images: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor) -> Tensor:
        """Saturation about each pixel's luminance, contrast about the image's mean luminance, then brightness."""
        grey = (images * self.luminance).sum(1, keepdim=True)
        gain = contrast * brightness
        own = saturation * gain
        changed = torch.addcmul(images * own, grey, gain - own)
        return changed.addcmul_(grey.mean((2, 3), keepdim=True), brightness - gain).clamp_(0, 1)

    @staticmethod
    def blurred(images: Tensor) -> Tensor:
        """About as a Gaussian of 0.9 pixels: means of 2 x 2, enlarged again. A convolution takes ten times as long on a CPU."""
        halved = F.interpolate(images, scale_factor=0.5, mode="bilinear", align_corners=False)
        return F.interpolate(halved, images.shape[2:], mode="bilinear", align_corners=False)


_DRAWN = {"standard": (_STANDARD_SHARES, _STANDARD), "strong": (_STRONG_SHARES, _STRONG)}


def _restained(images: Tensor, colourful: Tensor, red: Tensor, green: Tensor, blue: Tensor, sign: Tensor) -> Tensor:
    """Each channel by its factor, the same for all where the image is grey (`colourful` 0); then, where `sign` is -1, inverted."""
    factors = torch.where(colourful == 0, green, torch.cat((red, green, blue), 1))
    images = images.mul_(factors).clamp_(0, 1)
    return images.mul_(sign).add_((1 - sign) / 2)


def _flipped(images: Tensor, masks: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    chosen = torch.rand((2, len(images), 1, 1, 1), device=images.device, generator=generator) < 0.5
    for dimension, which in zip((3, 2), chosen.unbind(0), strict=True):
        images = torch.where(which, images.flip(dimension), images)
        masks = torch.where(which, masks.flip(dimension), masks)
    return images, masks
