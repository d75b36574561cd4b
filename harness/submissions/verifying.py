"""Recomputes the numbers of a submission from its packed masks and the verifier's own copy of the data.

What this shows: that the data are the same, that the splits are those of the protocol, and that the numbers are those of the masks.
It can't show how the masks were made, for example that a method never saw the test images.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import asdict, replace
from io import BytesIO
from typing import Any

import numpy as np
import pandas as pd

from harness.data.dataset import Dataset
from harness.data.folder.sample import Sample
from harness.data.reading import read_mask
from harness.errors import UserError
from harness.files import sha256_json
from harness.metrics import REGISTRY, PixelCounts, evaluate_pair
from harness.metrics.inputs import Mask
from harness.protocols.rules import make_splits
from harness.protocols.split import Split
from harness.submissions.layout import METRICS, MOST_PROTOCOLS, Refused, Submission
from harness.trial_spec import TrialSpec

RELATIVE, ABSOLUTE = 1e-6, 1e-6
"""By how much a number may differ from the recomputed one: sums in another order round otherwise."""
_PNG = b"\x89PNG\r\n\x1a\n"
_HEADER = struct.Struct(">8s4s4s2I2B")
"""Signature, length and kind of the first chunk; width, height, bits, kind of colours."""
_EXACT = ("width", "height", "subject", "reference_pixels", "predicted_pixels", "empty")


def check_data(submission: Submission, dataset: Dataset) -> None:
    """Whether the splits are those that the submission's protocol gives of this dataset, by the content of all their files.

    Raises:
        Refused: other images, masks, subjects or roles.
    """
    part = submission.manifest["data"]
    assert isinstance(part, dict)
    try:
        chosen = dataset.select(part["modalities"], part["max_per_domain"])
        known: dict[str, dict[str, Split]] = {}
        for trial in submission.trials:
            protocol = trial.spec.protocol
            digest = sha256_json(asdict(protocol))
            if digest not in known:
                if len(known) == MOST_PROTOCOLS:
                    raise Refused(
                        f"expected at most {MOST_PROTOCOLS} protocols, found more. Make a submission of each run."
                    )
                known[digest] = {split.name: split for split in make_splits(chosen, protocol)}
            _check_split(trial.spec, known[digest])
    except Refused:
        raise
    except UserError as error:
        raise Refused(f"its protocol does not fit the data of this leaderboard: {str(error)[:300]}") from error


def _check_split(spec: TrialSpec, known: dict[str, Split]) -> None:
    wanted, found = known.get(spec.split.name), spec.split
    if wanted is None:
        raise Refused(f"other data: the protocol gives no split {found.name} of this leaderboard's data.")
    if wanted.fingerprint != found.fingerprint:
        raise Refused(
            f"other data: expected the fingerprint {wanted.fingerprint[:12]} of {found.name}, found"
            f" {found.fingerprint[:12]}. Some image, mask, subject or role differs."
        )
    # Another tool's trial has one domain of the split, under the fingerprint of the whole.
    for role in ("train", "validation", "test"):
        own, whole = set(found.of(role)), set(wanted.of(role))
        if own - whole or (whole - own and not spec.is_external):
            raise Refused(
                f"other data: the {role} images of {found.name} are not those that its fingerprint stands for."
            )
    own, whole = set(found.held_out), set(wanted.held_out)
    if own - whole or (whole - own and not spec.is_external):
        raise Refused(
            f"other data: expected {found.name} to hold out {', '.join(sorted(whole)) or 'nothing'}, found other domains."
        )


def recompute(
    submission: Submission, dataset: Dataset, progress: Callable[[int, int], None] = lambda done, total: None
) -> Submission:
    """The submission with every number computed here from its masks; `check_data` comes before.

    Raises:
        Refused: a mask can't be read or has another size than its reference, or a number differs from its own.
    """
    assert submission.predictions is not None
    samples = dataset.by_key()
    claimed = submission.images.merge(
        submission.predictions, on=["trial", "role", "key"], how="left", validate="1:1", sort=False
    )
    computed = []
    # By image: its reference is read once for all trials.
    references: dict[str, Mask] = {}
    ordered = claimed.sort_values(["key", "trial", "role"], kind="stable")
    columns = (ordered.index, ordered["key"], ordered["trial"], ordered["mask"])
    for done, (place, key, trial, content) in enumerate(zip(*columns, strict=True), start=1):
        if key not in references:
            references = {key: read_mask(samples[key].mask)}
        spec = submission.trials[trial].spec
        mask = decode_mask(content, samples[key])
        computed.append({"row": place, **_measured(samples[key], mask, references[key], spec)})
        progress(done, len(ordered))
    table = pd.DataFrame(computed).set_index("row").sort_index()
    _compare(submission, submission.images, table)
    images = submission.images.assign(**{str(name): table[name].to_numpy() for name in table})
    versions = {name: REGISTRY[name].version for name in METRICS}
    trials = [replace(trial, metrics=versions) for trial in submission.trials]
    return replace(submission, images=images, trials=trials)


def decode_mask(content: bytes, sample: Sample) -> Mask:
    """The predicted mask (H, W) bool in a PNG of one bit, whose size is looked at before it is unpacked.

    Raises:
        Refused: another format or size, or damaged.
    """
    from PIL import Image

    if not content.startswith(_PNG) or len(content) < _HEADER.size:
        raise Refused(f"the mask of {sample.key}: expected a PNG, found other bytes.")
    # Before Pillow sees it: of a large picture it warns or refuses.
    *_, width, height, depth, colours = _HEADER.unpack(content[: _HEADER.size])
    if (width, height, depth, colours) != (sample.width, sample.height, 1, 0):
        raise Refused(
            f"the mask of {sample.key}: expected {sample.width} x {sample.height} pixels of 1 bit, found {width} x {height}"
            f" of {depth}."
        )
    if not _is_plain_png(content):
        raise Refused(
            f"the mask of {sample.key} can't be read: expected a whole PNG of one header and its pixels, found other parts."
        )
    try:
        with Image.open(BytesIO(content), formats=("PNG",)) as picture:
            return np.asarray(picture, dtype=np.uint8) != 0
    except Exception as error:  # what Pillow raises for damaged bytes is not listed anywhere
        raise Refused(f"the mask of {sample.key} can't be read as PNG ({type(error).__name__}).") from error


def _is_plain_png(content: bytes) -> bool:
    """Whether it is one header, pixels and an end: a second header has another size, and a compressed text takes time to unpack."""
    kinds, at = [], len(_PNG)
    while at < len(content):
        kinds.append(content[at + 4 : at + 8])
        at += 12 + int.from_bytes(content[at : at + 4])
    pixels = len(kinds) - 2
    return pixels > 0 and kinds == [b"IHDR", *[b"IDAT"] * pixels, b"IEND"]


def _measured(sample: Sample, predicted: Mask, reference: Mask, spec: TrialSpec) -> dict[str, Any]:
    counts, rules = PixelCounts.of(predicted, reference), spec.evaluation
    metrics = evaluate_pair(predicted, reference, metrics=METRICS, nsd_tolerance=rules.nsd_tolerance, empty=rules.empty)
    facts = {"width": sample.width, "height": sample.height, "subject": sample.subject}
    pixels = {"reference_pixels": counts.reference, "predicted_pixels": counts.predicted, "empty": counts.empty}
    return {**facts, **metrics, **pixels}


def _compare(submission: Submission, claimed: pd.DataFrame, computed: pd.DataFrame) -> None:
    """What a trial did not measure, or measured by an older version of the metric, is not compared: it is replaced."""
    for name in _EXACT:
        first, second = claimed[name], computed[name]
        _refuse_where(~((first == second) | (first.isna() & second.isna())), name, claimed, computed)
    for name in METRICS:
        current = [trial.metrics.get(name) == REGISTRY[name].version for trial in submission.trials]
        compared = np.array(current)[claimed["trial"].to_numpy()]
        close = np.isclose(
            claimed[name].to_numpy(float), computed[name].to_numpy(float), rtol=RELATIVE, atol=ABSOLUTE, equal_nan=True
        )
        _refuse_where(pd.Series(compared & ~close, index=claimed.index), name, claimed, computed)


def _refuse_where(differs: pd.Series, name: str, claimed: pd.DataFrame, computed: pd.DataFrame) -> None:
    if differs.any():
        place = int(np.argmax(differs.to_numpy()))
        raise Refused(
            f"forged or damaged: {int(differs.sum()):,} of {len(differs):,} rows have another {name} than their masks give;"
            f" {claimed['key'].iloc[place]}: expected {computed[name].iloc[place]}, found {claimed[name].iloc[place]}."
        )
