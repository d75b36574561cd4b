"""The order in which an epoch shows its images, and how it is cut into batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest

import numpy as np

from harness.errors import UserError


def fill(keys: Sequence[str], places: int, random: np.random.Generator) -> list[str]:
    """Passes over `keys`, each in another order, until `places` are taken."""
    passes = -(-places // len(keys))
    return [key for _ in range(passes) for key in shuffled(keys, random)][:places]


def shuffled(keys: Sequence[str], random: np.random.Generator) -> list[str]:
    return [keys[position] for position in random.permutation(len(keys))]


def dealt(images: Mapping[str, Sequence[str]]) -> list[str]:
    """All images in one list, one of each modality by turns: each part of it has of every modality as many as of any other, give
    or take one, and which have one more changes from part to part.

    Args:
        images: modality -> keys, as many for each, give or take one: those with one more stand first.
    """
    return [key for turn in zip_longest(*images.values()) for key in turn if key is not None]


def check_shares(batching: str, sampling: str) -> None:
    """Raises UserError where batches shall show all modalities equally, and the epoch does not."""
    if batching == "modality_balanced" and sampling != "equal":
        raise UserError(
            "training.batching=modality_balanced gives every modality the same share of each batch: expected"
            f" training.sampling=equal, found {sampling}."
        )


def cut(
    keys: Sequence[str], sizes: Sequence[int], fewest: int, random: np.random.Generator, *, in_turns: bool = False
) -> list[list[str]]:
    """Batches of these sizes. One with less than `fewest` images, 1 or 2, borrows another of the list, or repeats the only one.

    Args:
        in_turns: the list was `dealt`: the image before is borrowed, of another modality where there are several.
    """
    batches, start = [], 0
    for count in sizes:
        batch = list(keys[start : start + count])
        if count < fewest:
            others = [*keys[:start], *keys[start + 1 :]] or batch
            batch.append(others[start - 1] if in_turns else others[random.integers(len(others))])
        batches.append(batch)
        start += count
    return batches
