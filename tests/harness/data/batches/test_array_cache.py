"""Arrays are decoded once, are what the files show, and are rebuilt when damaged."""

from __future__ import annotations

import dataclasses
import errno
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.data.batches import array_cache as cache_module
from harness.data.batches.array_cache import ArrayCache
from harness.data.dataset import Dataset, Sample
from harness.data.reading import read_mask
from harness.errors import UserError


@pytest.fixture
def samples(small_dataset: Path) -> list[Sample]:
    return list(Dataset.open(small_dataset, verify=False).samples)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of all samples that are decoded."""
    keys: list[str] = []
    original = cache_module._decode
    monkeypatch.setattr(
        cache_module, "_decode", lambda sample, layout: (keys.append(sample.key), original(sample, layout))[1]
    )
    return keys


def test_content(samples: list[Sample], tmp_path: Path) -> None:
    cache = ArrayCache.open(samples, 32, tmp_path / "cache")
    assert cache.images.shape == (24, 32, 32, 3) and cache.images.dtype == np.uint8
    assert cache.masks.shape == (24, 32, 32) and cache.masks.dtype == np.uint8
    assert set(np.unique(cache.masks)) == {0, 1}
    assert cache.image_size == 32
    for sample in samples:
        row = cache.index[sample.key]
        with Image.open(sample.image) as image:
            expected = image.resize((32, 32), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(cache.images[row], np.asarray(expected))
        y = ((np.arange(32) + 0.5) * sample.height / 32).astype(int)
        x = ((np.arange(32) + 0.5) * sample.width / 32).astype(int)
        np.testing.assert_array_equal(cache.masks[row], read_mask(sample.mask)[np.ix_(y, x)])


def test_reduced_images_are_antialiased(samples: list[Sample], tmp_path: Path) -> None:
    """A fine checkerboard becomes grey, not a moiré of black and white."""
    y, x = np.mgrid[: samples[0].height, : samples[0].width]
    Image.fromarray(((x + y) % 2 * 255).astype(np.uint8)).save(samples[0].image)
    cache = ArrayCache.open(samples[:1], 32, tmp_path / "cache")
    inner = cache.images[0, 4:-4, 4:-4].astype(int)
    assert abs(inner.mean() - 127) < 8 and inner.std() < 30


def test_mapped_read_only(samples: list[Sample], tmp_path: Path) -> None:
    cache = ArrayCache.open(samples, 32, tmp_path)
    assert isinstance(cache.images, np.memmap) and isinstance(cache.masks, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        cache.images[0] = 0


def test_built_once_whatever_the_order(samples: list[Sample], tmp_path: Path, decoded: list[str]) -> None:
    first = ArrayCache.open(samples, 32, tmp_path)
    again = ArrayCache.open(samples[::-1], 32, tmp_path)
    assert sorted(decoded) == sorted(sample.key for sample in samples)
    assert (first.folder, first.index) == (again.folder, again.index)


def test_key_is_content_and_size(samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = ArrayCache.open(samples, 32, tmp_path).folder
    assert ArrayCache.open(samples, 64, tmp_path).folder != folder
    assert ArrayCache.open(samples[1:], 32, tmp_path).folder != folder
    changed = [dataclasses.replace(samples[0], sha256_mask="0" * 64), *samples[1:]]
    assert ArrayCache.open(changed, 32, tmp_path).folder != folder
    monkeypatch.setattr(cache_module, "VERSION", cache_module.VERSION + 1)
    assert ArrayCache.open(samples, 32, tmp_path).folder != folder


def damage(folder: Path, how: str) -> None:
    file = folder / "images.npy"
    if how == "short":
        file.write_bytes(file.read_bytes()[:-100])
    elif how == "empty":
        file.write_bytes(b"")
    elif how == "missing":
        file.unlink()
    elif how == "no array":
        file.write_bytes(b"\x00" * file.stat().st_size)
    elif how == "other shape":
        np.save(file, np.zeros((3, 32, 32, 3), np.uint8))
    else:
        np.save(file, np.zeros((24, 32, 32, 3), np.float32))


@pytest.mark.parametrize("how", ["short", "empty", "missing", "no array", "other shape", "other type"])
def test_damage_is_repaired(
    samples: list[Sample], tmp_path: Path, how: str, decoded: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    expected = np.array(ArrayCache.open(samples, 32, tmp_path).images)
    folder = next(path for path in tmp_path.iterdir() if (path / "images.npy").exists())
    damage(folder, how)
    decoded.clear()
    np.testing.assert_array_equal(ArrayCache.open(samples, 32, tmp_path).images, expected)
    assert len(decoded) == 24
    assert str(folder) in caplog.text and "is built again" in caplog.text


def test_several_at_once_build_once(samples: list[Sample], tmp_path: Path, decoded: list[str]) -> None:
    barrier = threading.Barrier(4)

    def build(_: int) -> ArrayCache:
        barrier.wait()
        return ArrayCache.open(samples, 32, tmp_path)

    with ThreadPoolExecutor(4) as pool:
        caches = list(pool.map(build, range(4)))
    assert len(decoded) == 24
    for cache in caches[1:]:
        np.testing.assert_array_equal(cache.images, caches[0].images)


@pytest.mark.parametrize("size", [0, -32, 31, 100])
def test_unfit_size(samples: list[Sample], tmp_path: Path, size: int) -> None:
    with pytest.raises(UserError, match=f"multiple of 32, found {size}"):
        ArrayCache.open(samples, size, tmp_path)


def test_no_or_repeated_samples(samples: list[Sample], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="found none"):
        ArrayCache.open([], 32, tmp_path)
    with pytest.raises(UserError, match="found some of them twice"):
        ArrayCache.open([*samples, samples[0]], 32, tmp_path)


def test_unknown_key(samples: list[Sample], tmp_path: Path) -> None:
    cache = ArrayCache.open(samples, 32, tmp_path)
    with pytest.raises(UserError, match="found 'xray/a/b'"):
        cache.rows([samples[0].key, "xray/a/b"])


def test_an_unreadable_image_leaves_nothing_behind(samples: list[Sample], tmp_path: Path) -> None:
    samples[5].image.write_bytes(b"")
    with pytest.raises(UserError, match=r"case_1\.png: expected an image, found a damaged"):
        ArrayCache.open(samples, 32, tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache").iterdir() if path.suffix != ".lock"] == []


def test_sizes_that_differ(samples: list[Sample], tmp_path: Path) -> None:
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(samples[0].mask)
    with pytest.raises(UserError, match=r"masks/case_0\.png: expected a mask of \d+ x \d+ pixels .* found 9 x 9"):
        ArrayCache.open(samples, 32, tmp_path / "cache")


def test_what_a_killed_build_left_is_cleared(samples: list[Sample], tmp_path: Path) -> None:
    name = ArrayCache.open(samples, 32, tmp_path).folder.name
    (tmp_path / name).rename(tmp_path / f".{name}.killed")
    ArrayCache.open(samples, 32, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir() and name in path.name) == [name]


def test_full_disk(samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache_module, "_write_header", full)
    with pytest.raises(UserError, match=r"Could not write .*: the disk is full"):
        ArrayCache.open(samples, 32, tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache").iterdir() if path.suffix != ".lock"] == []


def test_really_full_disk(samples: list[Sample], tmp_path: Path) -> None:
    """On a file that the kernel itself refuses to let grow: an error to read, not a process killed by SIGBUS."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises((UserError, OSError)) as caught:
            ArrayCache.open(samples, 32, tmp_path / "cache")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert isinstance(caught.value, UserError) or caught.value.errno == errno.EFBIG
    assert [path.name for path in (tmp_path / "cache").iterdir() if path.suffix != ".lock"] == []


def test_a_file_where_the_folder_should_be(samples: list[Sample], tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    with pytest.raises(UserError, match="a file stands where a folder is needed"):
        ArrayCache.open(samples, 32, tmp_path / "cache")


def test_progress(samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "_AT_ONCE", 10)
    steps: list[tuple[int, int]] = []
    ArrayCache.open(samples, 32, tmp_path, progress=lambda done, total: steps.append((done, total)))
    assert steps == [(10, 24), (20, 24), (24, 24)]
