"""Masks of new images, by the method of a finished trial or by a weights file of De-LightSAM."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.data.batches.geometry import Geometry, Layout
from harness.data.batches.loader import Batch
from harness.data.folder.sample import MODALITIES
from harness.errors import UserError, did_you_mean
from harness.inference.predict import Guessed, merged
from harness.methods.adapter import MethodAdapter
from harness.methods.building import build_method
from harness.store.store import Store

AUTO = "auto"
Images = Sequence[NDArray[np.uint8]]
Masks = list[NDArray[np.bool_]]


class Predictor(Protocol):
    """What segments images.

    Attributes:
        title: what it is, for a person.
        batch_size: images that it takes at once.
    """

    title: str
    batch_size: int

    def segment(self, images: Images) -> tuple[Masks, list[str]]:
        """The mask (H, W) bool of each image (H, W, 3) uint8, and the name of the modality each was taken for, or ""."""


@dataclass
class TrialPredictor:
    """The method of a trial, with the trial's own image size, geometry and precision: it gives the masks that the trial stored."""

    title: str
    batch_size: int
    method: MethodAdapter
    modalities: list[str]
    modality: str
    image_size: int
    geometry: Geometry
    amp: str
    device: torch.device
    name: str
    uses_modality: bool | str

    def of_modality(self, modality: str | None) -> TrialPredictor:
        """The same method for images of `modality`: a name, "auto", or None where the method needs none.

        Raises:
            UserError: a modality that the method does not know or needs to be given.
        """
        checked = _checked_modality(modality, self.method.guesses, self.name, self.uses_modality, self.modalities)
        if self.geometry.tiled and checked in ("", AUTO):
            raise UserError(
                f"{self.name} was trained on tiles of {' and '.join(self.geometry.tiled)} and on whole images of other modalities,"
                f" so it needs to know what the images show: --modality {'|'.join(self.modalities)}."
            )
        return replace(self, modality=checked)

    @torch.inference_mode()
    def segment(self, images: Images) -> tuple[Masks, list[str]]:
        layouts = [self._layout(image) for image in images]
        arrays = (array for own, image in zip(layouts, images, strict=True) for array in own.images(image))
        answers = (answer for batch in _batched(arrays, self.batch_size) for answer in self._answers(batch))
        found = list(merged(iter(layouts), answers))
        return [mask for mask, _ in found], [guess or "" for _, guess in found]

    def _layout(self, image: NDArray[np.uint8]) -> Layout:
        height, width = image.shape[:2]
        return self.geometry.layout(self.modality, height, width, self.image_size)

    def _answers(self, arrays: list[NDArray[np.uint8]]) -> Iterator[tuple[Tensor, Guessed]]:
        """Logits of each array and, where the method is given a modality or guesses one, that."""
        pixels = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous().to(self.device).float() / 255
        if self.modality == AUTO:
            numbers = self.method.guess_modality(pixels)
        else:
            number = self.modalities.index(self.modality) if self.modality else 0
            numbers = torch.full((len(arrays),), number, device=self.device)
        names = [self.modalities[number] for number in numbers.tolist()]
        batch = Batch(pixels, torch.zeros_like(pixels[:, :1]), numbers, torch.zeros_like(numbers), names)
        logits = self.method.test_logits(batch, self.amp)
        return zip(logits, names if self.modality else [None] * len(arrays), strict=True)


@dataclass
class LibraryPredictor:
    """A model of the library, which segments at native size itself."""

    title: str
    batch_size: int
    model: Any
    modality: str

    def segment(self, images: Images) -> tuple[Masks, list[str]]:
        masks = self.model.segment_batch(list(images), self.modality, batch_size=self.batch_size)
        return masks, [self.modality] * len(images)


def trial_predictor(store: Store, trial_id: str, modality: str | None, device: str) -> TrialPredictor:
    """The method that a finished trial trained, for images of a modality: see `trained_method` and `of_modality`."""
    return trained_method(store, trial_id, device).of_modality(modality)


def trained_method(store: Store, trial_id: str, device: str) -> TrialPredictor:
    """The method that a finished trial trained, on `device`; `of_modality` says what it is to segment.

    Raises:
        UserError: a trial that has not finished or kept no weights, or a method that is prompted with the true mask.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    asked = store.ids_of(trial_id)
    if not asked or store.trained(asked[0].training) is None:
        state = store.status(trial_id).state
        raise UserError(
            f"Trial {trial_id[:12]} in {store.root} has no result yet ({state}): run its suite to the end first."
        )
    spec, weights = store.spec(asked[0]), store.weights(trial_id)
    settings, name = spec.predicted, spec.method.name
    if spec.method.trainer is not None:
        raise UserError(
            f"{name} is trained by a program of its own, and predicts only the images of its trial. For new images use that"
            f" program itself: its model is in {weights.parent / 'trainer' / 'model'}."
        )
    if not weights.is_file():
        raise UserError(f"{weights} is missing: the trial ran with store.keep_weights=false. Run it again without.")
    if spec.method.prompt != "none":
        raise UserError(f"{name} is prompted with the true mask ({spec.method.prompt}): new images have none.")
    modalities = spec.modalities
    method = build_method(name, spec.method.model, modalities)
    try:
        method.load_state_dict(load_file(weights))
    except (SafetensorError, RuntimeError) as error:
        raise UserError(
            f"{weights} does not fit {name} ({error}). It is damaged, or the method's code changed."
        ) from error
    seen = ", ".join(modalities)
    size = settings.size_words
    title = f"{name} {spec.split.name} seed {spec.seed} (trial {trial_id[:12]}; {size}; {seen})"
    place = torch.device(device)
    adapter = MethodAdapter(method.to(place).eval())
    adapter.accelerate(settings.image_size, settings.batch_size, settings.amp)
    return TrialPredictor(
        title, settings.batch_size, adapter, modalities, "", settings.image_size,
        Geometry(settings.geometry, settings.tiled), settings.amp, place, name, spec.method.card["uses_modality"],
    )  # fmt: skip


def weights_predictor(path: Path, modality: str | None, device: str) -> LibraryPredictor:
    """The model of a file that `delightsam.save` wrote.

    Raises:
        UserError: no such file, a damaged one, or a modality that the model does not know.
    """
    from hydra.utils import get_method

    try:
        # By its name, as every method: the bench knows no model.
        model = get_method("delightsam.load")(path, device)
    except ValueError as error:
        raise UserError(f"{error}") from error
    if modality is None:
        raise UserError(f"{path.name} needs to know what the images show: --modality {'|'.join((*MODALITIES, AUTO))}.")
    predictor = LibraryPredictor(f"{path.name} ({model.config.image_size} px)", 8, model, modality)
    try:
        predictor.segment([np.zeros((8, 8, 3), np.uint8)])
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error
    predictor.model = get_method("delightsam.accelerate")(model, batch_size=predictor.batch_size)
    return predictor


def _batched(arrays: Iterable[NDArray[np.uint8]], size: int) -> Iterator[list[NDArray[np.uint8]]]:
    left = iter(arrays)
    while batch := list(islice(left, size)):
        yield batch


def _checked_modality(
    modality: str | None, guesses: bool, name: str, uses_modality: bool | str, modalities: list[str]
) -> str:
    if modality is None and uses_modality == "inferred" and guesses:
        return AUTO
    if modality == AUTO and not guesses:
        if not uses_modality:
            return ""
        raise UserError(f"{name} can't tell an image's modality. Give it: --modality {'|'.join(modalities)}.")
    if modality is None:
        if uses_modality is True:
            raise UserError(f"{name} needs to know what the images show: --modality {'|'.join(modalities)}.")
        return ""
    if modality != AUTO and modality not in modalities:
        raise UserError(f"{name} was not trained on modality '{modality}'.{did_you_mean(modality, modalities)}")
    return modality
