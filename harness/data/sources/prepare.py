"""Writes pairs into a canonical folder: resumable, on all cores, nothing outside of it.

    <root>/<modality>/<domain>/images/<id>.<suffix>, masks/<id>.png
                              SOURCE.yaml            whose the data is, and what it was made of
                              .prepared.jsonl        one line a finished pair, by which a stopped preparation goes on
    <root>/manifest.csv                              of all domains

Files get names of ours and never those of an archive.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psutil
import yaml
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from PIL import Image

from harness.data.folder.sample import Problem, Progress, fault_of_name
from harness.data.reading import read_image
from harness.data.sources.archives import Member
from harness.data.sources.images import SourceImage, gunzipped, read_source_image
from harness.data.sources.manifest import Prepared, known_rows, merge_manifest
from harness.data.sources.masks import union_of
from harness.data.sources.pairing import SourcePair
from harness.data.validation.examine import in_threads
from harness.errors import UserError
from harness.files import atomic_write_text, explain_disk_errors, sha256_file

VERSION = 1
"""Raised when the same files come out otherwise: pairs are then prepared again."""
JOURNAL = ".prepared.jsonl"
SCRATCH = ".prepare"


@dataclass
class Outcome:
    """What became of the pairs.

    Attributes:
        taken: prepared now.
        kept: prepared before.
        failed: could not be read.
        notes: worth a look: empty masks, other sizes.
    """

    taken: list[Prepared] = field(default_factory=list)
    kept: list[Prepared] = field(default_factory=list)
    failed: list[Problem] = field(default_factory=list)
    notes: list[Problem] = field(default_factory=list)

    @property
    def pairs(self) -> list[Prepared]:
        return [*self.kept, *self.taken]


def prepare_pairs(
    pairs: Sequence[SourcePair], root: Path, about: dict[str, Any], progress: Progress | None = None
) -> Outcome:
    """Writes the pairs and the manifest; what an earlier call wrote from the same files is kept.

    Args:
        root: the canonical folder; other domains in it stay as they are.
        about: what SOURCE.yaml says of the data.
        progress: called with (done, total).

    Raises:
        UserError: nothing to write, a domain that is there and was not written by this, a full disk, or another process
            that prepares into the same folder.
    """
    with explain_disk_errors(root):
        root.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(root / ".prepare.lock", timeout=1):
                outcome = Outcome()
                known = known_rows(root)  # first: a fault in it stops us before any work
                domains = sorted({(pair.modality, pair.domain) for pair in pairs})
                writers = {names: _Writer(root, *names) for names in domains}
                results = in_threads(lambda pair: writers[pair.modality, pair.domain].write(pair), pairs, progress)
                for result in results:
                    result(outcome)
                failed = {problem.file: problem.message for problem in outcome.failed}
                for (modality, domain), writer in writers.items():
                    outcome.kept += writer.of_other_sources({pair.id for pair in pairs})
                    writer.close()
                    count = sum((one.modality, one.domain) == (modality, domain) for one in outcome.pairs)
                    _write_about(writer.folder, about | {"pairs": count, "failed": failed})
                merge_manifest(root, outcome.pairs, domains, known)
        except Timeout as error:
            raise UserError(
                f"{root}: another process prepares data into it. Wait for it, or give another --root."
            ) from error
        finally:
            shutil.rmtree(root / SCRATCH, ignore_errors=True)
    return outcome


class _Writer:
    """One domain: writes its pairs, from several threads, and a line of the journal after each."""

    def __init__(self, root: Path, modality: str, domain: str) -> None:
        self.root, self.folder = root, root / modality / domain
        journal = self.folder / JOURNAL
        known = journal.read_text("utf-8", errors="replace").splitlines() if journal.is_file() else []
        self.before = {one.id: one for line in known if (one := _prepared(line)) is not None}
        if not journal.is_file() and any(self.folder.glob("*/*")):
            raise UserError(
                f"{self.folder}: holds files that `data prepare` did not write. Give another --root or --domain, or move them away."
            )
        for part in ("images", "masks"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        self.journal, self.lock = journal.open("a", encoding="utf-8"), threading.Lock()
        if journal.stat().st_size and not journal.read_bytes().endswith(b"\n"):
            self.journal.write("\n")  # a kill cut the last line

    def write(self, pair: SourcePair) -> Callable[[Outcome], None]:
        """Writes the pair; what is to be noted of it in the outcome."""
        stamp = [VERSION, *(f"{member.path} {member.size} {member.stamp}" for member in (pair.image, *pair.masks))]
        stamp += [pair.layout.foreground, pair.layout.fit, pair.layout.masks_as, pair.layout.crop_left]
        before = self.before.get(pair.id)
        if before is not None and before.stamp == stamp and before.is_there(self.root):
            # A table of subjects may have come with this call, and may be missing in the next.
            kept = replace(before, subject=pair.subject or before.subject, split=pair.split or before.split)
            if kept != before:
                self._note(kept)
            return lambda outcome: outcome.kept.append(kept)
        try:
            if fault := fault_of_name(pair.id):
                raise UserError(
                    f"{pair.image}: expected a file name that paths keep as it is, found {fault}. Rename it."
                )
            prepared, notes = self._convert(pair, stamp)
        except UserError as error:
            problem = Problem("unreadable pair", pair.image.path, _without_scratch(str(error), self.root))
            return lambda outcome: outcome.failed.append(problem)
        self._note(prepared)
        if before is not None and before.image != prepared.image:
            (self.root / before.image).unlink(missing_ok=True)

        def note(outcome: Outcome) -> None:
            outcome.taken.append(prepared)
            outcome.notes.extend(notes)

        return note

    def _note(self, prepared: Prepared) -> None:
        with self.lock:
            self.journal.write(json.dumps(prepared.to_json(), ensure_ascii=False) + "\n")
            self.journal.flush()

    def _convert(self, pair: SourcePair, stamp: list[Any]) -> tuple[Prepared, list[Problem]]:
        scratch = self.root / SCRATCH / f"{threading.get_ident()}"
        scratch.mkdir(parents=True, exist_ok=True)
        image_file, image, mask, notes = converted(pair, scratch)
        pixels = image.pixels
        target = self.folder / "images" / f"{pair.id}{image_file.suffix.lower()}"
        if pixels is None:
            image_file.replace(target)
        else:
            target = target.with_name(f"{pair.id}{'.tif' if pixels.dtype.kind == 'f' else '.png'}")
            Image.fromarray(pixels).save(scratch / target.name, compress_level=1)
            (scratch / target.name).replace(target)
        mask_target = self.folder / "masks" / f"{pair.id}.png"
        Image.fromarray(mask.astype(np.uint8) * 255).save(scratch / mask_target.name, compress_level=1)
        (scratch / mask_target.name).replace(mask_target)
        if not mask.any():
            notes.append(Problem("empty mask", pair.image.path, "its mask has no foreground."))
        return Prepared(
            modality=pair.modality,
            domain=pair.domain,
            id=pair.id,
            image=target.relative_to(self.root).as_posix(),
            mask=mask_target.relative_to(self.root).as_posix(),
            width=mask.shape[1],
            height=mask.shape[0],
            foreground_fraction=round(float(mask.mean()), 6),
            sha256_image=sha256_file(target),
            sha256_mask=sha256_file(mask_target),
            white_level=image.white,
            subject=pair.subject,
            split=pair.split,
            stamp=stamp,
        ), notes

    def of_other_sources(self, here: Iterable[str]) -> list[Prepared]:
        """Pairs that an earlier call wrote from sources that were not given this time."""
        return [one for id_, one in self.before.items() if id_ not in set(here) and one.is_there(self.root)]

    def close(self) -> None:
        self.journal.close()


def converted(pair: SourcePair, scratch: Path) -> tuple[Path, SourceImage, NDArray[np.bool_], list[Problem]]:
    """A copy of the image's file, its pixels where they are to be written anew, its mask (H, W) bool, and notes.

    Args:
        scratch: a folder for copies of the pair's files.

    Raises:
        UserError: one of the files can't be read, or image and mask differ in size and no rule says what to do.
    """
    image_file = gunzipped(_saved(pair.image, scratch / "image"))
    image = read_source_image(image_file)
    mask_files = [gunzipped(_saved(member, scratch / f"mask{n}")) for n, member in enumerate(pair.masks)]
    layout = pair.layout
    mask = union_of(
        mask_files, image.size, foreground=layout.foreground, masks_as=layout.masks_as, image_name=pair.image.name
    )
    pixels, mask, notes = _fitted(pair, image_file, image.pixels, image.size, mask)
    return image_file, SourceImage((mask.shape[0], mask.shape[1]), pixels, image.white), mask, notes


@contextmanager
def scratch_beside(root: Path) -> Iterator[Path]:
    """A folder for what must be unpacked, on the disk of `root`; removed at the end, or by the next call after a kill."""
    place = root.expanduser().absolute()
    while not place.is_dir():
        place = place.parent
    with explain_disk_errors(place):
        for left in (left for folder in (root, *root.absolute().parents) for left in folder.glob(".unpacked-*-*")):
            if not psutil.pid_exists(int(left.name.split("-")[1])):
                shutil.rmtree(left, ignore_errors=True)
        with TemporaryDirectory(dir=place, prefix=f".unpacked-{os.getpid()}-") as folder:
            yield Path(folder)


def _fitted(
    pair: SourcePair, file: Path, pixels: NDArray[Any] | None, size: tuple[int, int], mask: NDArray[np.bool_]
) -> tuple[NDArray[Any] | None, NDArray[np.bool_], list[Problem]]:
    """Image and mask of one size, by the recipe's word; refused where it says nothing of other sizes."""
    if pair.layout.crop_left and size[1] == 2 * mask.shape[1]:  # a stereo pair, of which the left picture was annotated
        pixels = (read_image(file) if pixels is None else pixels)[:, : mask.shape[1]]
        size = (pixels.shape[0], pixels.shape[1])
    if mask.shape == size:
        return pixels, mask, []
    sizes = f"{size[1]} x {size[0]} pixels, its mask {mask.shape[1]} x {mask.shape[0]}"
    if pair.layout.fit == "image":
        values = read_image(file) if pixels is None else pixels
        resized = np.asarray(Image.fromarray(values).resize(mask.shape[::-1], Image.Resampling.BOX))
        note = Problem(
            "sizes differ", pair.image.path, f"has {sizes}; the image is resized, as this dataset is known for it."
        )
        return resized, mask, [note]
    if pair.layout.fit == "mask":
        resized_mask = Image.fromarray(mask).resize(size[::-1], Image.Resampling.NEAREST)
        note = Problem(
            "sizes differ", pair.image.path, f"has {sizes}; the mask is resized, as this dataset is known for it."
        )
        return pixels, np.asarray(resized_mask), [note]
    raise UserError(f"{pair.image}: expected a mask of its image's size, found the image of {sizes}.")


def _saved(member: Member, place: Path) -> Path:
    """A copy under a name of ours that keeps the suffix, by which it is read."""
    name = member.name.lower()
    suffix = "".join(Path(name).suffixes[-2:]) if name.endswith(".gz") else Path(name).suffix
    target = place.with_name(place.name + "".join(c for c in suffix if c.isalnum() or c == "."))
    member.save(target)
    return target


def _prepared(line: str) -> Prepared | None:
    """A line of the journal; None where a stop cut it off."""
    try:
        return Prepared(**json.loads(line))
    except (ValueError, TypeError):
        return None


def _without_scratch(message: str, root: Path) -> str:
    """The message without our own copies' paths, which tell nobody anything."""
    return re.sub(rf"{re.escape(str(root / SCRATCH))}/\d+/(image|mask)\d*", r"\1", message)


def _write_about(folder: Path, about: dict[str, Any]) -> None:
    text = "# Where this data comes from, by `data prepare`.\n" + yaml.safe_dump(
        about, sort_keys=False, allow_unicode=True
    )
    atomic_write_text(folder / "SOURCE.yaml", text)
