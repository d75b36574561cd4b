"""References that a person should look at: all methods agree with one another and disagree with the reference.

For a test image the *consensus* is what more than half of the learned methods call foreground. Their mean Dice with it says how far
they agree; its Dice with the reference, how far that is from the truth as it is on the disk. The first much above the second is
either an error that all methods make alike or one of the person who drew the mask: which, only a look can tell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.data.folder.sample import Progress, Sample
from harness.data.reading import read_mask
from harness.errors import UserError
from harness.metrics import dice
from harness.store.store import Store
from harness.trial_spec import TrialIds, TrialSpec

FEWEST_METHODS = 3
GAP = 0.3
"""Agreement minus Dice with the reference, from which an image is listed."""


@dataclass(frozen=True)
class Doubt:
    """One reference to look at.

    Attributes:
        methods: how many made a mask of the image.
        agreement: their mean Dice with their consensus, 0 to 1.
        dice: of the consensus with the reference, 0 to 1.
        consensus: (H, W) bool.
    """

    sample: Sample
    methods: int
    agreement: float
    dice: float
    consensus: NDArray[np.bool_]


def doubtful_references(
    store: Store, trials: Sequence[TrialIds], samples: Mapping[str, Sample], progress: Progress | None = None
) -> list[Doubt]:
    """The test images of the trials whose reference no method comes near, the most doubtful first.

    Args:
        samples: key -> sample of the dataset as it is now.

    Raises:
        UserError: fewer than three learned methods kept masks of any image.
    """
    masks: dict[str, dict[str, Path]] = {}
    for ids in trials:
        spec = store.spec(ids)
        if not _is_independent(spec) or not store.has_masks(ids):
            continue
        for key in spec.split.test:
            if key in samples:
                masks.setdefault(key, {}).setdefault(spec.method.name, store.mask(ids, "test", key))
    enough = {key: files for key, files in masks.items() if len(files) >= FEWEST_METHODS}
    if not enough:
        found = max((len(files) for files in masks.values()), default=0)
        raise UserError(
            f"{store.root}: expected masks of at least {FEWEST_METHODS} learned methods (without oracle prompts) of an image,"
            f" found {found}. Run more methods, with store.predictions=true."
        )
    doubts = []
    for number, (key, files) in enumerate(sorted(enough.items()), 1):
        doubt = _doubt(samples[key], list(files.values()))
        if doubt.agreement - doubt.dice >= GAP:
            doubts.append(doubt)
        if progress is not None:
            progress(number, len(enough))
    return sorted(doubts, key=lambda doubt: doubt.dice - doubt.agreement)


def _is_independent(spec: TrialSpec) -> bool:
    """Whether the method learned to segment, and was not helped by the reference."""
    return spec.method.prompt == "none" and spec.selection != "oracle" and not spec.method.card.get("trivial_baseline")


def _doubt(sample: Sample, files: Sequence[Path]) -> Doubt:
    votes = np.stack([read_mask(file) for file in files])
    consensus = votes.sum(axis=0) * 2 > len(votes)
    agreement = float(np.mean([dice(vote, consensus) for vote in votes]))
    return Doubt(sample, len(votes), agreement, float(dice(consensus, read_mask(sample.mask))), consensus)
