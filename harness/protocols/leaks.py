"""The guard before every trial: nothing of the test images reaches training or selection.

It compares names, subjects and the content of files. It can't see inside pretrained weights, nor does it recognise an
image that was stored again in another format or size: `python -m harness data verify` searches for those.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from harness.errors import UserError

if TYPE_CHECKING:
    from harness.data.dataset import Sample
    from harness.protocols.split import Split

_ROLES = ("train", "validation", "test")


def check_split(split: Split, samples: Mapping[str, Sample]) -> None:
    """Refuses a split in which training, validation and test images are not apart.

    Args:
        samples: sample key -> sample, for every key of the split.

    Raises:
        UserError: an image in two roles or twice in one; equal files in two roles; a subject in two roles; training or
            validation images from a held-out domain; test images from outside it; no training or test images; a key
            that the dataset lacks. The message names the files, the kind of leak and how to mend it.
    """
    for role in _ROLES:
        for key in getattr(split, role):
            if key not in samples:
                raise UserError(
                    f"Split '{split.name}': {role} image '{key}' is not in the dataset. The split was made from other"
                    " data: point data.root at that data, or make the split again from this."
                )
    for role in ("train", "test"):
        if not getattr(split, role):
            raise UserError(f"Split '{split.name}' has no {role} images. Check the protocol and data.modalities.")

    # In this order because the first finding explains the later ones: an image in two roles shares its subject, too.
    _refuse_shared(
        split,
        [(role, samples[key], key) for role, key in _entries(split)],
        "the same image is listed in both",
        "Each image may have one role only: make the split again, or correct it by hand",
        within_role=True,
    )
    _refuse_held_out_in_training(split, samples)
    _refuse_shared(
        split,
        [(role, samples[key], samples[key].sha256_image) for role, key in _entries(split)],
        "the files are equal (same SHA-256)",
        "Delete one of the two with its mask and its line in manifest.csv, or keep both under one domain, where copies"
        " stay together",
    )
    _refuse_shared(
        split,
        [
            (role, samples[key], f"{samples[key].modality}/{samples[key].domain}: {samples[key].subject}")
            for role, key in _entries(split)
            if samples[key].subject
        ],
        "they show the same subject",
        "Keep a subject's images in one role: make the split again with the `subject` column of manifest.csv filled in",
    )


def _entries(split: Split) -> Iterator[tuple[str, str]]:
    for role in _ROLES:
        for key in getattr(split, role):
            yield role, key


def _refuse_held_out_in_training(split: Split, samples: Mapping[str, Sample]) -> None:
    if not split.held_out:
        return
    for role, key in _entries(split):
        sample = samples[key]
        inside = f"{sample.modality}/{sample.domain}" in split.held_out
        if role != "test" and inside:
            raise UserError(
                f"Leak in split '{split.name}': {sample.image} is used for {role}, yet its domain"
                f" {sample.modality}/{sample.domain} is held out for testing. Take the domain out of training, or use"
                " protocol=in_domain to test on domains that were trained on."
            )
        if role == "test" and not inside:
            raise UserError(
                f"Split '{split.name}': test image {sample.image} is of {sample.modality}/{sample.domain}, which is not"
                f" among the held-out domains ({', '.join(split.held_out)}). Add the domain to held_out, or take the"
                " image out of the test set."
            )


def _refuse_shared(
    split: Split,
    entries: list[tuple[str, Sample, str]],
    kind: str,
    remedy: str,
    within_role: bool = False,
) -> None:
    """Refuses entries (role, sample, mark) of equal mark in different roles; with `within_role` in one role, too."""
    first: dict[str, tuple[str, Sample]] = {}
    pairs: list[tuple[str, Sample, str, Sample]] = []
    for role, sample, mark in entries:
        if mark not in first:
            first[mark] = (role, sample)
        elif within_role or first[mark][0] != role:
            pairs.append((*first[mark], role, sample))
    if pairs:
        role, sample, other_role, other = pairs[0]
        more = f" ({len(pairs)} such pairs)" if len(pairs) > 1 else ""
        raise UserError(
            f"Leak in split '{split.name}': {role} image {sample.image} and {other_role} image {other.image}:"
            f" {kind}{more}. {remedy}."
        )
