"""Phantoms: drawn images with exact masks for six modalities, so that the bench runs without real data.

Each modality has three domains, which differ in device and population by the few numbers of its `DOMAINS` table. Every
image has its own random generator, seeded by (seed, modality, domain, index): it is the same bit for bit whatever else
is drawn, before or after. (Another NumPy or SciPy may round differently; the manifest's hashes then say so.)
"""

from __future__ import annotations

import csv
import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from harness.data.phantoms import colonoscopy, dermoscopy, fundus, microscopy, ultrasound, xray
from harness.data.phantoms.canvas import BoolArray, Canvas, Domain, generator
from harness.data.phantoms.optics import acquire
from harness.errors import UserError, did_you_mean
from harness.files import explain_disk_errors, sha256_file

GENERATOR_VERSION = 1
MARKER = "phantoms.json"
SMALLEST_IMAGE = 32
_COLUMNS = (
    "modality", "domain", "id", "image", "mask", "width", "height", "foreground_fraction", "sha256_image", "sha256_mask",
    "subject",
)  # fmt: skip
_PAINTERS: dict[str, tuple[dict[str, Any], Callable[..., Any]]] = {
    "dermoscopy": (dermoscopy.DOMAINS, dermoscopy.draw),
    "xray": (xray.DOMAINS, xray.draw),
    "ultrasound": (ultrasound.DOMAINS, ultrasound.draw),
    "fundus": (fundus.DOMAINS, fundus.draw),
    "microscopy": (microscopy.DOMAINS, microscopy.draw),
    "colonoscopy": (colonoscopy.DOMAINS, colonoscopy.draw),
}


def modalities() -> list[str]:
    """The modalities that can be drawn."""
    return list(_PAINTERS)


def domains(modality: str) -> dict[str, Domain]:
    """The domains of a modality and what makes each: name -> parameters.

    Raises:
        UserError: there are no phantoms of this modality.
    """
    if modality not in _PAINTERS:
        raise UserError(f"There are no phantoms of the modality '{modality}'.{did_you_mean(modality, _PAINTERS)}")
    return dict(_PAINTERS[modality][0])


def draw_phantom(
    modality: str, domain: str, index: int, image_size: int, seed: int = 0
) -> tuple[NDArray[np.uint8], BoolArray, str | None]:
    """Draws one phantom.

    Returns:
        image (H, W, 3) or, where the device is monochrome, (H, W) uint8; mask (H, W) bool; subject, None if unknown.

    Raises:
        UserError: unknown modality or domain.
    """
    known = domains(modality)
    if domain not in known:
        raise UserError(f"There is no phantom domain '{domain}' of {modality}.{did_you_mean(domain, known)}")
    parameters = known[domain]
    canvas = Canvas.of(parameters, image_size)
    rng = generator(seed, modality, domain, index)
    if parameters.images_per_subject is None:
        subject, person = None, generator(seed, modality, domain, index, "person")
    else:
        number = index // parameters.images_per_subject
        subject, person = f"{domain}_subject_{number:04d}", generator(seed, modality, domain, "subject", number)
    scene, mask = _PAINTERS[modality][1](rng, person, canvas, parameters)
    return acquire(rng, scene.astype(np.float32), parameters, canvas), mask, subject


def write_phantoms(
    root: Path, *, images_per_domain: int, image_size: int, seed: int = 0, modalities: Sequence[str] | None = None
) -> None:
    """Writes a canonical dataset of phantoms with its manifest; all of it or nothing.

    A folder that already holds exactly these phantoms is kept as it is; other phantoms are replaced.

    Args:
        root: the dataset's folder.
        images_per_domain: at least 1.
        image_size: pixels of a side; some domains deviate from it by up to an eighth. At least 32.
        modalities: a selection; None = all.

    Raises:
        UserError: bad arguments, `root` holds something else than phantoms, or the disk can't be written to.
    """
    for modality in modalities or ():
        domains(modality)
    chosen = [modality for modality in _PAINTERS if modalities is None or modality in modalities]
    if not chosen:
        raise UserError(f"Expected at least one modality of phantoms; found none. Choose from {', '.join(_PAINTERS)}.")
    if images_per_domain < 1:
        raise UserError(f"Expected images_per_domain to be 1 or more; found {images_per_domain}.")
    if image_size < SMALLEST_IMAGE:
        raise UserError(f"Expected the image_size of phantoms to be {SMALLEST_IMAGE} or more; found {image_size}.")
    wanted = {
        "generator_version": GENERATOR_VERSION,
        "images_per_domain": images_per_domain,
        "image_size": image_size,
        "seed": seed,
        "modalities": chosen,
    }
    root = Path(root).absolute()
    if _is_complete(root, wanted):
        return
    _refuse_foreign(root)
    with explain_disk_errors(root):
        root.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=root.parent, prefix=f".{root.name}.", suffix=".tmp"))
        try:
            _write_all(temporary, wanted)
            temporary.chmod(0o755)
            _put_in_place(temporary, root, wanted)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _write_all(folder: Path, wanted: dict[str, Any]) -> None:
    rows = []
    for modality in wanted["modalities"]:
        for domain in domains(modality):
            for part in ("images", "masks"):
                (folder / modality / domain / part).mkdir(parents=True)
            for index in range(wanted["images_per_domain"]):
                image, mask, subject = draw_phantom(modality, domain, index, wanted["image_size"], wanted["seed"])
                name = f"{domain}_{index:04d}"
                paths = [f"{modality}/{domain}/{part}/{name}.png" for part in ("images", "masks")]
                Image.fromarray(image).save(folder / paths[0], compress_level=1)
                Image.fromarray(mask.astype(np.uint8) * 255).save(folder / paths[1], compress_level=1)
                hashes = [sha256_file(folder / path) for path in paths]
                height, width = mask.shape
                rows.append(
                    [modality, domain, name, *paths, width, height, f"{mask.mean():.6f}", *hashes, subject or ""]
                )
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        writer.writerows(sorted(rows))
    (folder / MARKER).write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")


def _is_complete(root: Path, wanted: dict[str, Any]) -> bool:
    """Whether `root` holds these phantoms and none of their files is gone."""
    try:
        if json.loads((root / MARKER).read_text("utf-8")) != wanted:
            return False
        with (root / "manifest.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        expected = sum(len(domains(modality)) for modality in wanted["modalities"]) * wanted["images_per_domain"]
        return len(rows) == expected and all((root / row[part]).is_file() for row in rows for part in ("image", "mask"))
    except (OSError, ValueError, KeyError):
        return False


def _refuse_foreign(root: Path) -> None:
    """Phantoms can be drawn again, other people's files can't: only a folder of phantoms is ever replaced."""
    if not root.exists():
        return
    if not root.is_dir():
        raise UserError(f"Expected {root} to be a folder for phantoms; found a file. Choose another folder.")
    names = {entry.name for entry in root.iterdir() if not entry.name.startswith(".")}
    foreign = sorted(names - set(_PAINTERS) - {"manifest.csv", MARKER})
    if names and (foreign or MARKER not in names):
        found = foreign[0] if foreign else f"a dataset without {MARKER}"
        raise UserError(f"Expected {root} to be empty or to hold phantoms only; found {found}. Choose another folder.")


def _put_in_place(temporary: Path, root: Path, wanted: dict[str, Any]) -> None:
    # Another process may have written the same phantoms meanwhile, and may be reading them: then they stay.
    if _is_complete(root, wanted):
        return
    old = temporary.with_suffix(".old")
    if root.exists():
        root.replace(old)
    try:
        temporary.replace(root)
    except OSError:
        if not _is_complete(root, wanted):
            if old.exists():
                old.replace(root)
            raise
    finally:
        shutil.rmtree(old, ignore_errors=True)
