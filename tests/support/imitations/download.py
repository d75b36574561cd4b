"""`Download`: a tiny imitation of what a user downloads, and what must come out of it."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.support.imitations import encode

HEIGHT, WIDTH = 24, 32


@dataclass(frozen=True)
class Expected:
    """A pair that must come out: its image as bytes where the file is kept as it is, else as (H, W) or (H, W, 3)."""

    modality: str
    id: str
    image: bytes | np.ndarray
    mask: np.ndarray
    subject: str = ""
    split: str = ""
    white_level: str = ""


@dataclass
class Download:
    """Files by archive (the name's suffix says how it is packed, none is a folder), written from the documented names.

    Attributes:
        skipped: files that are named as not taken. All other files that are in no pair must leave no trace.
    """

    archives: dict[str, dict[str, bytes]] = field(default_factory=dict)
    expected: list[Expected] = field(default_factory=list)
    skipped: set[str] = field(default_factory=set)
    seed: int = 0

    def put(self, archive: str, path: str, content: bytes) -> None:
        files = self.archives.setdefault(archive, {})
        assert path not in files, path
        files[path] = content

    def expect(self, modality: str, id: str, image: bytes | np.ndarray, mask: np.ndarray, **more: str) -> None:
        self.expected.append(Expected(modality, id, image, mask, **more))

    def junk(self, archive: str, *paths: str) -> None:
        """Files that no pair holds: pictures that could be taken for images or masks, and texts."""
        writers = {"png": encode.png, "bmp": encode.bmp, "tif": encode.tif, "jpg": encode.jpeg, "gif": encode.gif}
        for path in paths:
            writer = writers.get(path.rpartition(".")[2].lower())
            self.put(archive, path, writer(encode.grey(self.mask())) if writer else b"some text\n")

    def picture(self, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
        """(H, W, 3), no two alike."""
        return self._random().integers(0, 256, (height, width, 3), dtype=np.uint8)

    def mask(self, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
        """(H, W) bool, no two alike, of whole blocks of JPEG: neither empty nor full."""
        blocks = self._random().random((height // 8, width // 8)) < 0.4
        blocks[0, 0], blocks[-1, -1] = True, False
        return np.kron(blocks, np.ones((8, 8), bool)).astype(bool)

    def _random(self) -> np.random.Generator:
        self.seed += 1
        return np.random.default_rng(self.seed)

    def pack(self, folder: Path) -> list[Path]:
        """Writes the archives; their paths."""
        paths = []
        for name, files in self.archives.items():
            path = folder / name
            paths.append(path)
            if name.endswith(".zip"):
                with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
                    for inner, content in files.items():
                        archive.writestr(inner, content)
            elif name.endswith((".tar", ".tar.gz")):
                with tarfile.open(path, "w:gz" if name.endswith("gz") else "w") as tar:
                    for inner, content in files.items():
                        entry = tarfile.TarInfo(inner)
                        entry.size = len(content)
                        tar.addfile(entry, io.BytesIO(content))
            elif "" in files:  # a single file
                path.write_bytes(files[""])
            else:
                for inner, content in files.items():
                    (path / inner).parent.mkdir(parents=True, exist_ok=True)
                    (path / inner).write_bytes(content)
        return paths


@dataclass(frozen=True)
class Imitation:
    """A function that fills a download, and the places of the recipe's layouts that it imitates."""

    dataset: str
    packing: str
    layouts: frozenset[int]
    fill: Callable[[Download], None]

    def download(self) -> Download:
        made = Download(seed=1000 * sum(map(ord, self.dataset)))
        self.fill(made)
        return made

    def __str__(self) -> str:
        return f"{self.dataset}: {self.packing}"


IMITATIONS: list[Imitation] = []


def imitation(dataset: str, packing: str, *layouts: int) -> Callable[[Callable[[Download], None]], None]:
    """Registers an imitation of a dataset, packed in one way.

    Args:
        layouts: places in the recipe's list of layouts, from 0, that pairs must come of.
    """

    def register(fill: Callable[[Download], None]) -> None:
        IMITATIONS.append(Imitation(dataset, packing, frozenset(layouts), fill))

    return register
