"""Measures masks of other tools and keeps them in the store as trials: one for each split and test domain, marked as external.

A domain with masks for only some of its images has no result: its trial fails, with the missing ones as the reason, and
reports show it as missing. A mean over the images that a tool happened to answer is never made.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from harness.data.batches.array_cache import VERSION as ARRAYS_VERSION
from harness.data.folder.sample import Problem, list_problems
from harness.data.reading import MaskReading
from harness.data.reading.nifti import AFFINE
from harness.data.reading.picture import turned_unseen
from harness.errors import UserError, some
from harness.evaluation.external.mask_files import examine_external_mask
from harness.evaluation.external.matching import SHOWN, ExternalMasks
from harness.evaluation.measure import keep_rows, measure_image, measured_keys
from harness.files import sha256_file
from harness.metrics import REGISTRY
from harness.trial_spec import INFERENCE_VERSION, TRAINING_VERSION, DataSpec, MethodSpec, TrialIds, TrialSpec, Versions

if TYPE_CHECKING:
    from harness.config import MetricsConfig, ProtocolConfig
    from harness.data.dataset import Dataset, Sample
    from harness.metrics.inputs import Mask
    from harness.protocols.split import Split
    from harness.store.store import Store

Progress = Callable[[int, int], None]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExternalTrial:
    """What became of one split and domain. `missing` images without a mask leave it without a result."""

    ids: TrialIds
    fold: str
    domain: str
    images: int
    missing: int


@dataclass(frozen=True)
class _Part:
    """One split's masks of one domain."""

    split: Split
    domain: str
    test: list[str]
    validation: list[str]


def evaluate_external(
    masks: ExternalMasks,
    splits: Sequence[Split],
    dataset: Dataset,
    store: Store,
    *,
    name: str,
    card: dict[str, Any],
    protocol: ProtocolConfig,
    metrics: MetricsConfig,
    data_name: str,
    seed: int = 0,
    keep_predictions: bool = True,
    axes: str = AFFINE,
    resize: bool = False,
    command: Sequence[str] = (),
    progress: Progress = lambda done, total: None,
) -> list[ExternalTrial]:
    """Measures every mask first, and keeps the results only if all could be read.

    Args:
        name: of the method, in tables and in the store.
        card: as in a method's YAML; `external: true` is added.
        data_name: of the dataset, in reports.
        axes: how the axes of NIfTI files are meant, see `harness.data.reading.nifti`.
        resize: bring masks of another size to that of their image, by nearest neighbour. It is written into the card.
        progress: called with (done, total) masks.

    Raises:
        UserError: masks that can't be read, have another size than their image or more than two values; lists them all.
    """
    samples = dataset.by_key()
    parts = [part for split in splits for part in _parts(split, masks)]
    reader = _Reader(samples, axes, resize)
    rows, problems = _measure(masks, parts, reader, metrics, progress)
    if problems:
        count = "a mask" if len(problems) == 1 else f"{len(problems)} masks"
        raise UserError(f"{count[0].upper()}{count[1:]} can't be used, nothing was kept:\n{list_problems(problems)}")
    _warn(reader.notes)
    _warn_of_references(parts, rows)
    card = {**card, "external": True, **({"resized": len(reader.resized)} if reader.resized else {})}
    kept = []
    for part in parts:
        found = masks.files[part.split.name]
        missing = [key for key in part.test if key not in found]
        digests = {key: sha256_file(found[key]) for key in _keys(part) if key in found}
        spec = TrialSpec(
            method=MethodSpec(name, 1, {}, digests, card),
            data=DataSpec(str(dataset.root), data_name),
            split=_own_split(part),
            protocol=protocol,
            # How it was trained is not known here; that it held to the protocol is its maker's word.
            training=None,
            inference=None,
            evaluation=metrics,
            seed=seed,
            versions=Versions(TRAINING_VERSION, ARRAYS_VERSION, INFERENCE_VERSION),
        )
        own = {key: row for (name_, key), row in rows.items() if name_ == part.split.name}
        _keep(store, spec, own, reader if keep_predictions else None, found, missing, command)
        kept.append(ExternalTrial(spec.ids, part.split.name, part.domain, len(part.test), len(missing)))
    return kept


def _parts(split: Split, masks: ExternalMasks) -> list[_Part]:
    """The split's test domains; validation images go along where the split has masks for all of their domain.

    The domains of validation images are others than the tested ones, so they ride with the first of their modality.
    """
    found = masks.files[split.name]
    tests, validations = _by_domain(split.test), _by_domain(split.validation)
    parts = [_Part(split, domain, keys, []) for domain, keys in tests.items()]
    for domain, keys in validations.items():
        host = next((part for part in parts if part.domain.split("/")[0] == domain.split("/")[0]), None)
        if host is not None and all(key in found for key in keys):
            host.validation.extend(keys)
    return parts


def _by_domain(keys: Sequence[str]) -> dict[str, list[str]]:
    domains: dict[str, list[str]] = {}
    for key in keys:
        domains.setdefault(key.rsplit("/", 1)[0], []).append(key)
    return domains


def _keys(part: _Part) -> list[str]:
    return [*part.test, *part.validation]


def _measure(
    masks: ExternalMasks, parts: Sequence[_Part], reader: _Reader, metrics: MetricsConfig, progress: Progress
) -> tuple[dict[tuple[str, str], dict[str, Any]], list[Problem]]:
    """(split, key) -> row without its role, of every mask; a file that serves several splits is measured once."""
    wanted = {
        (masks.files[part.split.name][key], key): None
        for part in parts
        for key in _keys(part)
        if key in masks.files[part.split.name]
    }
    measured: dict[tuple[Path, str], dict[str, Any]] = {}
    problems = []
    for done, (path, key) in enumerate(wanted, start=1):
        try:
            measured[path, key] = measure_image(reader.samples[key], reader.read(path, key), "test", metrics)
        except UserError as error:
            problems.append(Problem("unusable mask", str(path), str(error).removeprefix(f"{path}: ")))
        progress(done, len(wanted))
    rows = {
        (part.split.name, key): measured[masks.files[part.split.name][key], key]
        for part in parts
        for key in _keys(part)
        if key in masks.files[part.split.name] and not problems
    }
    return rows, problems


@dataclass
class _Reader:
    """Reads masks to the size of their images.

    Attributes:
        notes: what is to be said of how a file was read.
        resized: files of another size than their image.
    """

    samples: dict[str, Sample]
    axes: str
    resize: bool
    notes: dict[Path, str] = field(default_factory=dict)
    resized: set[Path] = field(default_factory=set)

    def read(self, path: Path, key: str) -> Mask:
        reading = examine_external_mask(path, self.axes)
        if reading.notes:
            self.notes[path] = " ".join(reading.notes)
        sample = self.samples[key]
        if (orientation := turned_unseen(sample.image)) > 1:
            self.notes[path] = (
                f"its image is stored turned or mirrored (EXIF orientation {orientation}), and is compared as it is shown: see"
                " that the tool read it so."
            )
        if reading.mask.shape == (sample.height, sample.width):
            return reading.mask
        if not self.resize:
            raise _other_size(path, sample, reading)
        self.resized.add(path)
        picture = Image.fromarray(reading.mask.astype("uint8"))
        return np.asarray(picture.resize((sample.width, sample.height), Image.Resampling.NEAREST)) != 0


def _other_size(path: Path, sample: Sample, reading: MaskReading) -> UserError:
    mask = reading.mask
    turned = " Its rows and columns seem to be exchanged." if mask.shape == (sample.width, sample.height) else ""
    return UserError(
        f"{path}: expected {sample.width} x {sample.height} pixels (width x height), the size of {sample.key}, found"
        f" {mask.shape[1]} x {mask.shape[0]}.{turned} Bring predictions to the image's own size before saving them, or have it"
        " done: resize=nearest, which the table marks."
    )


def _warn(notes: dict[Path, str]) -> None:
    """Says each way of reading once, with its files."""
    files: dict[str, list[Path]] = {}
    for path, note in notes.items():
        files.setdefault(note, []).append(path)
    for note, paths in files.items():
        logger.warning("%s: %s", some(paths, SHOWN), note)


def _warn_of_references(parts: Sequence[_Part], rows: dict[tuple[str, str], dict[str, Any]]) -> None:
    """No tool draws every outline of a domain as people did: most often the wrong folder was given."""
    equal = set()
    for part in parts:
        dice = [rows[part.split.name, key].get("dice") for key in part.test if (part.split.name, key) in rows]
        if len(dice) > 1 and set(dice) == {1.0}:
            equal.add(part.domain)
    if equal:
        logger.warning(
            "All masks of %s equal the references, pixel by pixel. See that the references were not given in place of predictions.",
            some(sorted(equal), SHOWN),
        )


def _own_split(part: _Part) -> Split:
    """The split as far as this part of it goes, under the fingerprint of the whole."""
    held_out = (part.domain,) if part.domain in part.split.held_out else ()
    return replace(part.split, held_out=held_out, validation=tuple(part.validation), test=tuple(part.test))


def _keep(
    store: Store,
    spec: TrialSpec,
    rows: dict[str, dict[str, Any]],
    reader: _Reader | None,
    files: dict[str, Path],
    missing: list[str],
    command: Sequence[str],
) -> None:
    """Keeps one trial: `rows` by key, and the masks in `files`, unless they are not to be kept (no reader)."""
    import pandas as pd

    from harness.store import provenance

    ids = spec.ids
    with store.trial_lock(ids.training):
        store.reopen_training(ids)
        store.quarantine_trial(ids)
        store.start_trial(spec)
        if missing:
            domain = spec.split.test[0].rpartition("/")[0]
            reason = f"{len(missing)} of {len(spec.split.test)} masks of {domain} are missing: {some(missing, SHOWN)}"
            store.write_status(ids.training, "failed", reason=reason)
            return
        images = measured_keys(spec)
        store.finish_training(
            ids,
            curves=pd.DataFrame(columns=["epoch", "stage", "train_loss", "learning_rate", "seconds"]),
            provenance=provenance.describe("cpu", list(command)),
            summary={},
        )
        if reader is not None:
            for role, key in images:
                store.write_mask(ids, role, key, reader.read(files[key], key))
        store.finish_prediction(ids, masks=None if reader is None else images, summary={})
        keep_rows(store, spec, [{**rows[key], "role": role} for role, key in images], REGISTRY)
        store.write_status(ids.training, "done")
