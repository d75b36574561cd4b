"""Archives: read in place, hostile ones refused by name, nothing written outside the target, memory bounded."""

from __future__ import annotations

import io
import resource
import struct
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import py7zr
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from harness.data.sources import archives
from harness.data.sources.archives import Member, read_sources, unpack_nested
from harness.data.sources.public import prepare_public
from harness.data.sources.recipe import recipe
from harness.errors import UserError

FILES = {"set/images/a.png": b"image a", "set/masks/a.png": b"mask a" * 1000, "set/readme.txt": b""}


def png(values: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(values).save(content, "PNG")
    return content.getvalue()


def content_of(member: Member, folder: Path) -> bytes:
    member.save(folder / "copy")
    return (folder / "copy").read_bytes()


def make_zip(path: Path, files: dict[str, bytes], **options: object) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return path


def make_tar(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def make_7z(path: Path, files: dict[str, bytes], password: str | None = None) -> Path:
    with py7zr.SevenZipFile(path, "w", password=password) as archive:
        for name, content in files.items():
            archive.writestr(content, name)
    return path


def make_folder(path: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


PACKERS: dict[str, Callable[[Path, dict[str, bytes]], Path]] = {
    "x.zip": make_zip,
    "x.tar": make_tar,
    "x.tar.gz": lambda path, files: make_tar(path, files, "w:gz"),
    "x.tgz": lambda path, files: make_tar(path, files, "w:gz"),
    "x.tar.bz2": lambda path, files: make_tar(path, files, "w:bz2"),
    "x.tar.xz": lambda path, files: make_tar(path, files, "w:xz"),
    "x.7z": make_7z,
    "folder": make_folder,
}


@pytest.mark.parametrize("name", PACKERS)
def test_every_kind_gives_the_same_files(name: str, tmp_path: Path) -> None:
    source = PACKERS[name](
        tmp_path / name, FILES | {"__MACOSX/set/._a.png": b"x", "set/.DS_Store": b"x", "set/Thumbs.db": b""}
    )
    members = read_sources([source], tmp_path / "scratch")
    assert {member.path: content_of(member, tmp_path) for member in members} == FILES
    assert {member.path: member.size for member in members} == {path: len(content) for path, content in FILES.items()}


def test_archives_in_archives(tmp_path: Path) -> None:
    inner = make_zip(tmp_path / "inner.zip", FILES).read_bytes()
    outer = make_tar(tmp_path / "outer.tar.gz", {"data/training.zip": inner, "data/readme.txt": b"x"}, "w:gz")
    members = read_sources([outer], tmp_path / "scratch")
    nested = unpack_nested(members, tmp_path / "scratch")
    assert {m.path: content_of(m, tmp_path) for m in nested} == {
        f"data/training/{path}": c for path, c in FILES.items()
    }


def test_windows_names(tmp_path: Path) -> None:
    members = read_sources([make_zip(tmp_path / "x.zip", {"set\\images\\a.png": b"x"})], tmp_path)
    assert [member.path for member in members] == ["set/images/a.png"]


BAD_NAMES = [
    "../evil.png",
    "a/../../evil.png",
    "/etc/evil.png",
    "C:\\evil.png",
    "c:evil.png",
    "..\\evil.png",
    "a/b\x1b[2J.png",
]


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("kind", ["x.zip", "x.tar", "x.tar.gz"])
def test_names_that_lead_elsewhere(name: str, kind: str, tmp_path: Path) -> None:
    source = PACKERS[kind](tmp_path / kind, {"good.png": b"x", name: b"evil"})
    with pytest.raises(UserError, match="refused: its entry"):
        read_sources([source], tmp_path / "scratch")


@given(st.text(min_size=1, max_size=40))
def test_no_name_gives_a_path_outside(name: str) -> None:
    try:
        checked = archives._checked_name(Path("x.zip"), name)
    except UserError:
        return
    parts = checked.split("/")
    assert ".." not in parts and not checked.startswith("/") and "\\" not in checked and checked.isprintable()


LINKS = {
    "symbolic link": (tarfile.SYMTYPE, "/etc/passwd"),
    "hard link": (tarfile.LNKTYPE, "/etc/passwd"),
    "character device": (tarfile.CHRTYPE, ""),
    "block device": (tarfile.BLKTYPE, ""),
    "pipe": (tarfile.FIFOTYPE, ""),
}


@pytest.mark.parametrize("kind", LINKS)
def test_links_and_devices_in_tar(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as archive:
        entry = tarfile.TarInfo("set/images/a.png")
        entry.type, entry.linkname = LINKS[kind]
        archive.addfile(entry)
    with pytest.raises(UserError, match=r"'set/images/a\.png' is a link or a device"):
        read_sources([path], tmp_path / "scratch")


def test_links_in_zip(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        entry = zipfile.ZipInfo("set/images/a.png")
        entry.create_system, entry.external_attr = 3, 0o120777 << 16
        archive.writestr(entry, "/etc/passwd")
    with pytest.raises(UserError, match="is a link or a device"):
        read_sources([path], tmp_path / "scratch")


def test_encrypted(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "x.zip", {"a.png": b"secret"})
    content = bytearray(path.read_bytes())
    for signature, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the bit that says "encrypted", in both headers
        content[content.index(signature) + at] |= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.png is encrypted"):
        read_sources([path], tmp_path / "scratch")
    with pytest.raises(UserError, match="is encrypted"):
        read_sources([make_7z(tmp_path / "x.7z", {"a.png": b"secret"}, password="p")], tmp_path / "scratch")


def zip_that_states(path: Path, bytes: int) -> Path:
    """An archive with a file of 10 MB, which both headers say to be of so many bytes."""
    make_zip(path, {"a.png": b"\0" * 10_000_000})
    content = bytearray(path.read_bytes())
    for signature, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", content, content.index(signature) + at, bytes)
    path.write_bytes(content)
    return path


def zip_of_empty_files(path: Path, count: int) -> None:
    """Built of bytes, as an attacker may: `zipfile` takes seconds for 100 000. One file's data stand for all."""
    one = make_zip(path, {"000000": b""}).read_bytes()
    start, end = one.index(b"PK\x01\x02"), one.index(b"PK\x05\x06")
    row = one[start:end]
    rows = b"".join(row.replace(b"000000", b"%06d" % number) for number in range(count))
    # Where there are more than 65 535, a second trailer states their number, and a pointer leads to it.
    trailer64 = struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, len(rows), start)
    pointer = struct.pack("<4sIQI", b"PK\x06\x07", 0, start + len(rows), 1)
    trailer = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    path.write_bytes(one[:start] + rows + trailer64 + pointer + trailer)


class TestBombs:
    def test_zip_that_states_it(self, tmp_path: Path) -> None:
        path = zip_that_states(tmp_path / "x.zip", bytes=1_180_000_000)
        with pytest.raises(UserError, match=r"refused: it unpacks to 1\.1 GiB"):
            read_sources([path], tmp_path / "scratch")

    def test_zip_that_lies(self, tmp_path: Path) -> None:
        path = zip_that_states(tmp_path / "x.zip", bytes=100)
        (member,) = read_sources([path], tmp_path / "scratch")
        with pytest.raises(UserError, match=r"a\.png: expected a whole archive"):
            member.save(tmp_path / "copy")
        assert (tmp_path / "copy").stat().st_size <= 100

    def test_tar_gz(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(archives, "_SUSPICIOUS_BYTES", 2**20)
        path = make_tar(tmp_path / "x.tar.gz", {"a.png": bytes(50 * 2**20)}, "w:gz")
        with pytest.raises(UserError, match="refused: it unpacks to"):
            read_sources([path], tmp_path / "scratch")
        left = sum(file.stat().st_size for file in (tmp_path / "scratch").rglob("*") if file.is_file())
        assert left < 15 * 2**20  # it stopped long before the end

    def test_7z(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(archives, "_SUSPICIOUS_BYTES", 2**20)
        path = make_7z(tmp_path / "x.7z", {"a.png": bytes(20 * 2**20)})
        with pytest.raises(UserError, match="refused: it unpacks to"):
            read_sources([path], tmp_path / "scratch")
        assert not (tmp_path / "scratch").exists()

    @pytest.mark.parametrize("kind", ["x.zip", "x.tar.gz"])
    def test_too_many_entries(self, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(archives, "MOST_ENTRIES", 99)
        source = PACKERS[kind](tmp_path / kind, {f"{n}": b"" for n in range(100)})
        with pytest.raises(UserError, match="expected at most 99 entries"):
            read_sources([source], tmp_path / "scratch")

    @pytest.mark.parametrize("kind", ["x.zip", pytest.param("x.tar.gz", marks=pytest.mark.slow)])
    def test_100_000_entries(self, kind: str, tmp_path: Path) -> None:
        source = tmp_path / kind
        if kind == "x.zip":
            zip_of_empty_files(source, 100_000)
        else:
            PACKERS[kind](source, {f"{n}": b"" for n in range(100_000)})
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(UserError, match="expected at most 99999 entries"):
            read_sources([source], tmp_path / "scratch")
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * (
            1 if sys.platform == "darwin" else 1024
        )
        assert grown < 400 * 2**20


def test_wrong_checksum(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.png", b"some content here")
    path.write_bytes(path.read_bytes().replace(b"some content", b"SOME content"))
    (member,) = read_sources([path], tmp_path / "scratch")
    with pytest.raises(UserError, match=r"a\.png: expected a whole archive, found a damaged one \(Bad CRC-32"):
        member.save(tmp_path / "copy")


@pytest.mark.parametrize("name", [name for name in PACKERS if name != "folder"])
def test_cut_off(name: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).bytes(20_000)
    source = PACKERS[name](tmp_path / name, {"a.png": noise, "b.png": noise[::-1]})
    source.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    with pytest.raises(UserError, match=r"damaged one|expected a whole archive"):
        for member in read_sources([source], tmp_path / "scratch"):
            member.save(tmp_path / "copy")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("x.rar", "RAR archives are not read. Unpack it"),
        ("x.part1.zip", "a part of one"),
        ("absent.zip", "found nothing"),
    ],
)
def test_what_is_not_read(name: str, words: str, tmp_path: Path) -> None:
    if name != "absent.zip":
        (tmp_path / name).write_bytes(b"Rar!")
    with pytest.raises(UserError, match=words):
        read_sources([tmp_path / name], tmp_path / "scratch")


def test_hostile_names_never_write_outside(tmp_path: Path) -> None:
    """Through the whole preparation: the target holds what it should, nothing else appeared anywhere."""
    image, mask = np.full((8, 8), 90, np.uint8), np.zeros((8, 8), np.uint8)
    mask[2:5, 2:5] = 255
    name = "MCUCXR_0001_0.png"
    good = {
        f"S/CXR_png/{name}": png(image), f"S/ManualMask/leftMask/{name}": png(mask), f"S/ManualMask/rightMask/{name}": png(mask),
    }  # fmt: skip
    (tmp_path / "in").mkdir()
    for number, evil in enumerate(BAD_NAMES):
        source = make_zip(tmp_path / f"in/{number}.zip", good | {evil: b"evil"})
        with pytest.raises(UserError, match="refused"):
            prepare_public(recipe("montgomery"), [source], tmp_path / "out/root")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]
    prepare_public(recipe("montgomery"), [make_zip(tmp_path / "in/good.zip", good)], tmp_path / "out/root")
    written = {
        path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()
    }
    base = "root/xray/montgomery"
    assert written == {
        "root/.prepare.lock", "root/manifest.csv", f"{base}/.prepared.jsonl", f"{base}/SOURCE.yaml", f"{base}/images/{name}",
        f"{base}/masks/{name}",
    }  # fmt: skip
