"""Decodes and resizes every image once, and keeps the arrays where every process can map them into memory."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from harness.data.batches.geometry import STRETCH, TILES, Geometry, Layout, window_key
from harness.data.folder.sample import Progress, Sample
from harness.data.reading import read_image, read_mask
from harness.errors import UserError
from harness.files import explain_disk_errors, sha256_json

VERSION = 2
"""Raised when the arrays of the same files come out otherwise (decoding rules, resizing, any geometry); a part of the ids."""

_AT_ONCE = 64
_BYTES_AT_ONCE = 1 << 28

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ArrayCache:
    """Decoded, square arrays of a set of samples, memory-mapped, keyed by content: see harness/data/batches/geometry.py.

    With tiles an image has a row for each of its windows; overlapping as they are, they take four times the bytes of the
    images' own pixels.

    Attributes:
        images: (N, S, S, 3) uint8, RGB, mapped read-only.
        masks: (N, S, S) uint8, 0 or 1, mapped read-only.
        index: row of each array's key: a sample's key, or one of `windows`.
        folder: where the arrays lie.
        layouts: sample key -> where its arrays lie; of one that is not there the whole image became one array.
    """

    images: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    index: dict[str, int]
    folder: Path
    layouts: Mapping[str, Layout] = field(default_factory=dict)

    @classmethod
    def open(
        cls,
        samples: Sequence[Sample],
        image_size: int,
        folder: str | Path,
        progress: Progress | None = None,
        geometry: Geometry = Geometry(),  # noqa: B008 (frozen)
    ) -> ArrayCache:
        """Opens the arrays of `samples`; builds them first if they are missing or damaged.

        The order of `samples` doesn't matter. Several processes may ask at once: one builds, the others wait.

        Args:
            image_size: side of the square in pixels, a multiple of 32.
            folder: the folder of all caches; each set of samples, size and geometry gets its own folder within.
            progress: called with (done, total) while building.
            geometry: how images become squares.

        Raises:
            UserError: no samples, an unfit size, a file that can't be read, a full or read-only disk.
        """
        if image_size < 32 or image_size % 32:
            raise UserError(
                f"Expected an image size that is a multiple of 32, found {image_size}. Try 128, 256 or 1024."
            )
        ordered = sorted(samples, key=lambda sample: sample.key)
        layouts = {one.key: geometry.layout(one.modality, one.height, one.width, image_size) for one in ordered}
        if not ordered or len(layouts) != len(ordered):
            found = "none" if not ordered else "some of them twice"
            raise UserError(f"Expected at least one sample, each once, to make arrays of; found {found}.")
        content = [[sample.image_content, sample.sha256_mask] for sample in ordered]
        named = {"version": VERSION, "size": image_size, "content": content}
        rules = [one.rule for one in layouts.values()]
        if {*rules} != {STRETCH}:  # which came first, and whose caches keep their names
            named["geometry"] = rules[0] if len({*rules}) == 1 else rules
        place = Path(folder).expanduser().absolute() / sha256_json(named)[:32]
        keys = [key for sample in ordered for key in _array_keys(sample.key, layouts)]
        arrays = _load(place, len(keys), image_size)
        if arrays is None:
            with explain_disk_errors(place):
                place.parent.mkdir(parents=True, exist_ok=True)
                with FileLock(place.with_suffix(".lock")):
                    arrays = _load(place, len(keys), image_size)  # another process may have built it meanwhile
                    if arrays is None:
                        _build(place, ordered, layouts, image_size, progress)
                        arrays = _load(place, len(keys), image_size)
        if arrays is None:
            raise UserError(
                f"{place}: expected the arrays just written, found others. Remove the folder and try again."
            )
        index = {key: row for row, key in enumerate(keys)}
        return cls(*arrays, index, place, layouts)

    @property
    def image_size(self) -> int:
        return int(self.images.shape[1])

    def windows(self, key: str) -> list[str]:
        """The keys of a sample's arrays: its own, but for tiles."""
        return _array_keys(key, self.layouts)

    def layout_of(self, sample: Sample) -> Layout:
        return self.layouts.get(sample.key) or Geometry().layout(
            sample.modality, sample.height, sample.width, self.image_size
        )

    def rows(self, keys: Sequence[str]) -> list[int]:
        """The rows of the arrays `keys`.

        Raises:
            UserError: a key is not in the cache.
        """
        try:
            return [self.index[key] for key in keys]
        except KeyError as error:
            raise UserError(
                f"Expected every key among the {len(self.index)} samples of the array cache {self.folder}, "
                f"found {error}. Open the cache with all samples of the dataset."
            ) from error


def _array_keys(key: str, layouts: Mapping[str, Layout]) -> list[str]:
    if key not in layouts or layouts[key].rule != TILES:
        return [key]
    return [window_key(key, number) for number in range(layouts[key].count)]


def _load(place: Path, count: int, size: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]] | None:
    """The mapped arrays, or nothing when they are missing or not what they should be."""
    try:
        images = np.load(place / "images.npy", mmap_mode="r", allow_pickle=False)
        masks = np.load(place / "masks.npy", mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        if place.is_dir():
            logger.warning("The array cache %s is incomplete and is built again.", place)
        return None
    except (OSError, ValueError, EOFError) as error:
        logger.warning("The array cache %s is damaged (%s) and is built again.", place, error)
        return None
    fits = images.shape == (count, size, size, 3) and masks.shape == (count, size, size)
    if not fits or images.dtype != np.uint8 or masks.dtype != np.uint8:
        logger.warning("The array cache %s holds other arrays than it should and is built again.", place)
        return None
    return images, masks


def _build(
    place: Path, samples: Sequence[Sample], layouts: Mapping[str, Layout], size: int, progress: Progress | None
) -> None:
    """Writes both arrays to a temporary folder and renames it: what is there under its name is whole.

    The arrays are written through files rather than through a memory map: on a full disk a write to a map kills the
    process with SIGBUS, a write to a file raises an error that can be explained.
    """
    count, done = sum(one.count for one in layouts.values()), 0
    logger.info("Decoding %d pairs to %d arrays of %d x %d pixels (once).", len(samples), count, size, size)
    for left_behind in place.parent.glob(f".{place.name}.*"):  # by a build that was killed: we hold the lock
        shutil.rmtree(left_behind)
    temporary = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}."))
    try:
        with (
            (temporary / "images.npy").open("wb") as images,
            (temporary / "masks.npy").open("wb") as masks,
            ThreadPoolExecutor(max_workers=min(16, os.cpu_count() or 1)) as pool,
        ):
            _write_header(images, (count, size, size, 3))
            _write_header(masks, (count, size, size))
            for part in _parts(samples, layouts):
                for image, mask in pool.map(lambda sample: _decode(sample, layouts[sample.key]), part):
                    images.write(image.tobytes())
                    masks.write(mask.tobytes())
                done += len(part)
                if progress is not None:
                    progress(done, len(samples))
            for file in (images, masks):
                file.flush()
                os.fsync(file.fileno())
        temporary.chmod(0o755)
        if place.exists():
            shutil.rmtree(place)
        temporary.replace(place)
    finally:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(temporary)


def _write_header(file: IO[bytes], shape: tuple[int, ...]) -> None:
    description = np.lib.format.dtype_to_descr(np.dtype(np.uint8))
    np.lib.format.write_array_header_1_0(file, {"descr": description, "fortran_order": False, "shape": shape})


def _parts(samples: Sequence[Sample], layouts: Mapping[str, Layout]) -> Iterator[list[Sample]]:
    """Samples that are decoded together: not too many, nor more bytes of arrays than a machine has to spare."""
    part: list[Sample] = []
    held = 0
    for sample in samples:
        own = layouts[sample.key]
        needed = own.count * own.size**2 * 4
        if part and (len(part) == _AT_ONCE or held + needed > _BYTES_AT_ONCE):
            yield part
            part, held = [], 0
        part.append(sample)
        held += needed
    yield part


def _decode(sample: Sample, layout: Layout) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    image, mask = read_image(sample.image, sample.white_level), read_mask(sample.mask)
    if image.shape[:2] != mask.shape:
        raise UserError(
            f"{sample.mask}: expected a mask of {image.shape[1]} x {image.shape[0]} pixels (width x height), as its image, "
            f"found {mask.shape[1]} x {mask.shape[0]}. Restore the mask that was drawn on this image."
        )
    if mask.shape != layout.native:
        raise UserError(
            f"{sample.image}: expected {sample.width} x {sample.height} pixels (width x height), as the manifest says, "
            f"found {mask.shape[1]} x {mask.shape[0]}. Restore the image, or remove the manifest."
        )
    return layout.images(image), layout.masks(mask)
