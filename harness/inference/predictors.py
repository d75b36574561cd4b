"""Masks of new images, by the method of a finished trial or by a weights file of De-LightSAM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from harness.data.batches.array_cache import stretched
from harness.data.batches.loader import Batch
from harness.data.folder.sample import MODALITIES
from harness.errors import TrialFailed, UserError, did_you_mean
from harness.evaluation.measure import native_mask
from harness.methods.building import build_method
from harness.store.store import Store
from harness.training.validation import predicted_logits

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
    """The method of a trial, with the trial's own image size and precision: it gives the masks that the trial stored."""

    title: str
    batch_size: int
    method: torch.nn.Module
    modalities: list[str]
    modality: str
    image_size: int
    amp: str
    device: torch.device

    @torch.inference_mode()
    def segment(self, images: Images) -> tuple[Masks, list[str]]:
        squares = np.stack([stretched(image, self.image_size) for image in images])
        pixels = torch.from_numpy(squares).permute(0, 3, 1, 2).contiguous().to(self.device).float() / 255
        if self.modality == AUTO:
            numbers = self._guessed(pixels)
        else:
            number = self.modalities.index(self.modality) if self.modality else 0
            numbers = torch.full((len(images),), number, device=self.device)
        names = [self.modalities[number] for number in numbers.tolist()]
        batch = Batch(pixels, torch.zeros_like(pixels[:, :1]), numbers, torch.zeros_like(numbers), names)
        logits = predicted_logits(self.method, batch, self.amp, adapting=True)
        if not torch.isfinite(logits).all():
            raise TrialFailed(f"{type(self.method).__name__}.predict gave NaN or infinite logits.")
        masks = [native_mask(one, *image.shape[:2]) for one, image in zip(logits, images, strict=True)]
        return masks, names if self.modality else [""] * len(images)

    def _guessed(self, pixels: torch.Tensor) -> torch.Tensor:
        numbers: torch.Tensor = self.method.guess_modality(pixels)  # type: ignore[operator]
        return numbers


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
    """The method that a finished trial trained, on `device`.

    Args:
        modality: a name, "auto", or None where the method needs none.

    Raises:
        UserError: a trial that has not finished or kept no weights, a method that is prompted with the true mask, or a
            modality that the method does not know or needs to be told.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if store.result(trial_id) is None:
        state = store.status(trial_id)["state"]
        raise UserError(
            f"Trial {trial_id[:12]} in {store.root} has no result yet ({state}): run its suite to the end first."
        )
    spec = store.spec(trial_id)
    training, name = spec.trained, spec.method.name
    weights = store.trial_folder(trial_id) / "checkpoint" / "model.safetensors"
    if not weights.is_file():
        raise UserError(f"{weights} is missing: the trial ran with store.keep_weights=false. Run it again without.")
    if spec.method.prompt != "none":
        raise UserError(f"{name} is prompted with the true mask ({spec.method.prompt}): new images have none.")
    modalities = spec.modalities
    method = build_method(name, spec.method.model, modalities)
    modality = _checked_modality(modality, method, name, spec.method.card["uses_modality"], modalities)
    try:
        method.load_state_dict(load_file(weights))
    except (SafetensorError, RuntimeError) as error:
        raise UserError(
            f"{weights} does not fit {name} ({error}). It is damaged, or the method's code changed."
        ) from error
    seen = ", ".join(modalities)
    title = f"{name} {spec.split.name} seed {spec.seed} (trial {trial_id[:12]}; {training.image_size} px; {seen})"
    place = torch.device(device)
    return TrialPredictor(
        title, training.batch_size, method.to(place).eval(), modalities, modality, training.image_size,
        training.amp, place,
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
        raise UserError(
            f"{path.name} needs to be told what the images show: --modality {'|'.join((*MODALITIES, AUTO))}."
        )
    predictor = LibraryPredictor(f"{path.name} ({model.config.image_size} px)", 8, model, modality)
    try:
        predictor.segment([np.zeros((8, 8, 3), np.uint8)])
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error
    return predictor


def find_trial(store: Store, prefix: str) -> str:
    """The id that begins with `prefix`.

    Raises:
        UserError: none does, or several do.
    """
    ids = store.trial_ids()
    found = [trial_id for trial_id in ids if trial_id.startswith(prefix)]
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(trial_id[:12] for trial_id in found[:4])
        raise UserError(f"'{prefix}' begins {len(found)} trials of {store.root}: {listed} ... Give more of the id.")
    raise UserError(
        f"Expected a weights file (.safetensors) or the id of a trial in {store.root}, found '{prefix}', which is neither"
        f" ({len(ids)} trials there). `python -m harness plan` shows ids; --method NAME takes the latest run's best one."
    )


def best_trial(store: Store, method: str | None) -> tuple[str, str]:
    """The trial of the latest run that has finished trials of `method`: the one with the best validation Dice.

    Returns:
        Its id, and why it was taken.

    Raises:
        UserError: no run has a finished trial of it; names the methods that have.
    """
    available: set[str] = set()
    for suite in reversed(store.suites()):
        done = [entry for entry in suite.trials if store.result(entry["id"]) is not None]
        available |= {entry["method"] for entry in done}
        chosen = [entry["id"] for entry in done if entry["method"] == method]
        if chosen:
            scores = {trial_id: _validation_dice(store, trial_id) for trial_id in chosen}
            best = max(chosen, key=lambda trial_id: scores[trial_id])
            why = f"the best of {len(chosen)} by validation Dice" if len(chosen) > 1 else "the only one finished"
            return best, f"{why} of {method} in {suite.name} {suite.time}"
    where = f"in {store.root}"
    if not available:
        raise UserError(f"There is no finished trial {where}. Run a suite first, or name its store: --store DIR.")
    if method is None:
        raise UserError(
            f"Give a trial's id, a weights file, or --method. Finished {where}: {', '.join(sorted(available))}."
        )
    raise UserError(f"There is no finished trial of '{method}' {where}.{did_you_mean(method, available)}")


def _validation_dice(store: Store, trial_id: str) -> float:
    """Mean over a domain's images, then over domains; -1 without validation images. Never looks at test images."""
    samples = store.load(trial_id).samples
    assert samples is not None
    validation = samples[samples["role"] == "validation"]
    if validation.empty:
        return -1.0
    return float(validation.groupby(["modality", "domain"])["dice"].mean().mean())


def _checked_modality(
    modality: str | None, method: Any, name: str, uses_modality: bool | str, modalities: list[str]
) -> str:
    guesses = hasattr(method, "guess_modality")
    if modality is None and uses_modality == "inferred" and guesses:
        return AUTO
    if modality == AUTO and not guesses:
        if not uses_modality:
            return ""
        raise UserError(f"{name} can't tell an image's modality. Give it: --modality {'|'.join(modalities)}.")
    if modality is None:
        if uses_modality is True:
            raise UserError(f"{name} needs to be told what the images show: --modality {'|'.join(modalities)}.")
        return ""
    if modality != AUTO and modality not in modalities:
        raise UserError(f"{name} was not trained on modality '{modality}'.{did_you_mean(modality, modalities)}")
    return modality
