"""Writes a corrupted copy of a dataset: canonical layout, the same masks, a domain for each corruption and severity."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from harness.data.corruptions.registry import corrupted, corruption_named, corruptions_of
from harness.data.folder.manifest import manifest_text
from harness.data.folder.sample import MANIFEST, Progress, Sample
from harness.data.reading import read_image, read_mask
from harness.errors import UserError
from harness.files import atomic_write_text, explain_disk_errors, sha256_file


def write_corrupted(
    samples: Sequence[Sample],
    out: Path,
    *,
    names: Sequence[str] | None,
    severities: Sequence[int],
    seed: int = 0,
    progress: Progress | None = None,
) -> list[Sample]:
    """Writes corrupted images of all `samples` into the new or empty folder `out`, all of them or nothing.

    A domain "busi" becomes "busi+noise3". Images are corrupted at their own size. Ids and subjects stay.

    Args:
        names: of corruptions; None: all that occur in a sample's modality. One that does not is left out for that sample.
        severities: of 1 to 5.
        progress: called with (done, total) images.

    Returns:
        The samples that were written.

    Raises:
        UserError: an unknown corruption, none that occurs in the data, files in `out`, or a disk that can't be written.
    """
    check_request(out, names)
    planned = [
        (sample, each.name, severity)
        for sample in samples
        for each in corruptions_of(sample.modality)
        if names is None or each.name in names
        for severity in severities
    ]
    if not planned:
        found = ", ".join(sorted({sample.modality for sample in samples}))
        raise UserError(f"None of {', '.join(names or ['the corruptions'])} occurs in {found}. Name another one.")
    out = out.expanduser().absolute()
    with explain_disk_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}.", suffix=".tmp"))
        try:
            written = []
            for done, (sample, name, severity) in enumerate(planned, start=1):
                written.append(_write(sample, temporary, name, severity, seed))
                if progress is not None:
                    progress(done, len(planned))
            atomic_write_text(temporary / MANIFEST, manifest_text(temporary, written))
            temporary.chmod(0o755)
            temporary.replace(out)  # an empty folder there is replaced
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return [
        replace(each, image=out / each.image.relative_to(temporary), mask=out / each.mask.relative_to(temporary))
        for each in written
    ]


def check_request(out: Path, names: Sequence[str] | None) -> None:
    """Raises UserError where a name is unknown or `out` holds files: before much work is done."""
    for name in names or ():
        corruption_named(name)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(
            f"{out}: expected a new or empty folder for the corrupted copy, found files. Give another --out."
        )


def _write(sample: Sample, root: Path, name: str, severity: int, seed: int) -> Sample:
    domain = f"{sample.domain}+{name}{severity}"
    image, mask = (root / sample.modality / domain / part / f"{sample.id}.png" for part in ("images", "masks"))
    for path in (image, mask):
        path.parent.mkdir(parents=True, exist_ok=True)
    pixels = corrupted(read_image(sample.image, sample.white_level), name, severity, seed)
    Image.fromarray(pixels).save(image, compress_level=1)
    Image.fromarray(read_mask(sample.mask).astype(np.uint8) * 255).save(mask)
    return replace(
        sample, domain=domain, image=image, mask=mask, sha256_image=sha256_file(image), sha256_mask=sha256_file(mask),
        white_level=None,
    )  # fmt: skip
