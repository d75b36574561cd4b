"""Preparing takes at most twice the time of decoding and hashing the same files on the same cores."""

from __future__ import annotations

import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.data.folder.sample import Pair
from harness.data.reading import read_image, read_mask
from harness.data.sources.public import prepare_public
from harness.data.sources.recipe import recipe
from harness.data.validation.examine import in_threads
from harness.files import sha256_file

PAIRS, SIDE, ROUNDS = 100, 1000, 5
MOST = 2.0


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Kvasir-SEG as it is packed: JPEG images and masks of 1 megapixel, which look like photographs to a codec."""
    folder = tmp_path_factory.mktemp("kvasir")
    random = np.random.default_rng(0)
    path = folder / "kvasir-seg.zip"
    with zipfile.ZipFile(path, "w") as zipped:
        for n in range(PAIRS):
            coarse = Image.fromarray(random.integers(0, 255, (SIDE // 16, SIDE // 16, 3), dtype=np.uint8))
            image = np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC)).astype(np.int16)
            image = np.clip(image + random.normal(0, 6, image.shape), 0, 255).astype(np.uint8)
            y, x = np.ogrid[:SIDE, :SIDE]
            mask = ((y - 400 - n) ** 2 + (x - 500) ** 2 < (150 + n) ** 2).astype(np.uint8) * 255
            for part, values in (("images", image), ("masks", mask)):
                (folder / part).mkdir(exist_ok=True)
                Image.fromarray(values).save(folder / part / f"c{n:03d}.jpg", quality=92)
                zipped.write(folder / part / f"c{n:03d}.jpg", f"Kvasir-SEG/{part}/c{n:03d}.jpg")
    return path


def _decode_and_hash(pair: Pair) -> None:
    read_image(pair.image)
    read_mask(pair.mask)
    sha256_file(pair.image)
    sha256_file(pair.mask)


@pytest.mark.performance
def test_prepare_against_bare_decoding(archive: Path, tmp_path: Path) -> None:
    folder = archive.parent
    pairs = [
        Pair("colonoscopy", "kvasir_seg", f"c{n:03d}", folder / f"images/c{n:03d}.jpg", folder / f"masks/c{n:03d}.jpg")
        for n in range(PAIRS)
    ]
    ratios = []
    for number in range(ROUNDS):
        began = time.perf_counter()
        in_threads(_decode_and_hash, pairs)
        between = time.perf_counter()
        result = prepare_public(recipe("kvasir_seg"), [archive], tmp_path / f"{number}")
        ratios.append((time.perf_counter() - between) / (between - began))
        assert len(result.outcome.taken) == PAIRS
    ratio = sorted(ratios)[ROUNDS // 2]
    print(f"\npreparing {PAIRS} pairs of {SIDE}x{SIDE}: {ratio:.2f} times bare decoding and hashing (rounds {ratios})")
    assert ratio <= MOST
