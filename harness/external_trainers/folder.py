"""The folder that an outside trainer works in, and the masks that it leaves there.

    task.json                       what to do: see `write_task`
    train/images, train/masks       <modality>__<domain>__<id>.png: RGB of 8 bits at native size; masks 0 or 255
    validation/images, /masks
    test/images                     without masks
    model/                          the trainer's own, kept with the trial: what predict needs
    scratch/                        the trainer's own, removed when the trial is done
    predictions/                    <name>.png for each validation and test image, written by predict

Images are decoded by the rules of docs/reading.md and written anew. There are no links: none leads to the data set, where the
test masks are.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import TrialFailed, UserError, some
from harness.files import atomic_path, atomic_write_json, atomic_write_text
from harness.methods.trainer import CONTRACT_VERSION

if TYPE_CHECKING:
    from harness.data.folder.sample import Sample
    from harness.metrics.inputs import Mask
    from harness.trial_spec import TrialSpec

MODEL, SCRATCH, PREDICTIONS = "model", "scratch", "predictions"
_ROLES = ("train", "validation", "test")
_WITH_MASKS = ("train", "validation")
_WRITTEN = ".images_written"
_SHOWN = 5


def file_name(key: str) -> str:
    """Of an image and of its masks.

    >>> file_name("xray/clinic_a/17")
    'xray__clinic_a__17.png'
    """
    return f"{key.replace('/', '__')}.png"


def names_of(spec: TrialSpec) -> dict[str, str]:
    """File name -> key of every image of the trial.

    Raises:
        UserError: two images would have the same name.
    """
    names: dict[str, str] = {}
    for key in spec.split.keys:
        other = names.setdefault(file_name(key), key)
        if other != key:
            raise UserError(
                f"{other} and {key} would have the same file name {file_name(key)} in a trainer's folder. Rename one of them:"
                " domains and ids with '__' in them are ambiguous."
            )
    return names


def write_folder(work: Path, spec: TrialSpec, samples: Mapping[str, Sample], device: str) -> None:
    """Writes the task and, unless an earlier attempt has written them, all images and the masks of training and validation."""
    names_of(spec)
    for name in (MODEL, SCRATCH):
        (work / name).mkdir(parents=True, exist_ok=True)
    write_task(work, spec, device)
    if (work / _WRITTEN).exists():
        return
    for role in _ROLES:
        for key in spec.split.of(role):
            _write_image(work / role, samples[key], with_mask=role in _WITH_MASKS)
    atomic_write_text(work / _WRITTEN, f"{len(spec.split.keys)}\n")


def write_task(work: Path, spec: TrialSpec, device: str) -> None:
    """Writes task.json. It names no folder of the data set."""
    from dataclasses import asdict

    training = spec.trained
    images = {
        role: [{"name": file_name(key), "modality": key.split("/", 1)[0]} for key in spec.split.of(role)]
        for role in _ROLES
    }
    task = {
        "contract": CONTRACT_VERSION,
        "modalities": spec.modalities,
        "split": spec.split.name,
        "seed": spec.seed,
        "device": device,
        "cpu_threads": training.cpu_threads,
        "settings": spec.method.outside.given(asdict(training)),
        "images": images,
    }
    atomic_write_json(work / "task.json", task)


def read_predictions(work: Path, spec: TrialSpec, samples: Mapping[str, Sample]) -> Iterator[tuple[str, str, Mask]]:
    """(role, key, mask) of every test and validation image. All names are checked before the first mask is read.

    Raises:
        TrialFailed: masks are missing, are no masks or have another size than their image; or there are other files.
    """
    wanted = {file_name(key): (role, key) for role in ("test", "validation") for key in spec.split.of(role)}
    folder = work / PREDICTIONS
    found = {path.name for path in folder.iterdir() if not path.name.startswith(".")} if folder.is_dir() else set()
    faults = []
    if missing := sorted(wanted.keys() - found):
        faults.append(f"{len(missing)} of {len(wanted)} masks are missing: {some(missing, _SHOWN)}")
    if extra := sorted(found - wanted.keys()):
        faults.append(f"{len(extra)} files are no mask of a test or validation image: {some(extra, _SHOWN)}")
    if faults:
        raise TrialFailed(f"The predict command left other files in {folder} than expected: {'; '.join(faults)}.")
    for name, (role, key) in wanted.items():
        yield role, key, _read_mask(folder / name, samples[key])


def clean_folder(work: Path, *, keep_model: bool) -> None:
    """Removes what a finished trial needs no more: all but the model, which predicts again; that too if not to be kept."""
    for entry in list(work.iterdir()) if work.is_dir() else []:
        if entry.name == MODEL and keep_model:
            continue
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink(missing_ok=True)
    if not keep_model:
        shutil.rmtree(work, ignore_errors=True)


def _write_image(folder: Path, sample: Sample, *, with_mask: bool) -> None:
    from PIL import Image

    from harness.data.reading import read_image, read_mask

    with atomic_path(folder / "images" / file_name(sample.key)) as temporary:
        Image.fromarray(read_image(sample.image, sample.white_level)).save(temporary, format="PNG")
    if with_mask:
        with atomic_path(folder / "masks" / file_name(sample.key)) as temporary:
            Image.fromarray(read_mask(sample.mask).astype("uint8") * 255).save(temporary, format="PNG")


def _read_mask(path: Path, sample: Sample) -> Mask:
    from harness.data.reading import read_mask

    try:
        mask = read_mask(path)
    except UserError as error:
        raise TrialFailed(f"The predict command left a file that is no mask. {error}") from error
    if mask.shape != (sample.height, sample.width):
        raise TrialFailed(
            f"{path}: expected {sample.width} x {sample.height} pixels (width x height), the size of {sample.key}, found"
            f" {mask.shape[1]} x {mask.shape[0]}. Masks are written at the size of their image."
        )
    return mask


def read_summary(work: Path) -> dict[str, Any]:
    """What the trainer says of itself in model/summary.json: `epochs` and `images_seen`, as far as they are numbers."""
    import json

    try:
        content = json.loads((work / MODEL / "summary.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    known = content if isinstance(content, dict) else {}
    return {key: int(known[key]) for key in ("epochs", "images_seen") if isinstance(known.get(key), int | float)}
