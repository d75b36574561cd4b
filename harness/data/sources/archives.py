"""Files in folders and archives, by name; an archive is never unpacked by the names in it.

Zip and tar files are read in place. What is compressed as one stream (tar.gz, 7z) is unpacked once, into numbered files in a
scratch folder that the caller removes. So nothing in an archive decides where anything is written.

An archive is refused as a whole, with the entry named, where it holds what no dataset needs and an attack does: names that
lead elsewhere, links, devices, more entries than any dataset has, sizes out of proportion; likewise where it is encrypted.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import re
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any

from harness.errors import UserError, did_you_mean
from harness.files import files_below

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_ENTRIES = 99_999
"""In one archive. The largest set of the catalogue has about 85,000; a folder may hold more."""
MOST_BYTES = 2 * 2**30
"""Of one file."""
_SUSPICIOUS_RATIO, _SUSPICIOUS_BYTES = 200, 2**30
"""An archive that unpacks to so many times its size, and to more than so much, is refused: pictures do not shrink so."""
_CHUNK = 1 << 20

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".7z")
_STREAMS: dict[str, Callable[..., Any]] = {
    ".tar.gz": gzip.open,
    ".tgz": gzip.open,
    ".tar.bz2": bz2.open,
    ".tar.xz": lzma.open,
}
_SYSTEM = {"thumbs.db", "desktop.ini", ".ds_store"}


@dataclass(frozen=True)
class Member:
    """One file of a source.

    Attributes:
        path: within its source, with `/` between its parts.
        size: in bytes, as stated.
        stamp: changes when the file does: its checksum where the archive has one, else its time.
        source: the folder or archive that the user named, for messages.
        open: gives its bytes.
    """

    path: str
    size: int
    stamp: str
    source: Path
    open: Callable[[], IO[bytes]]

    @property
    def name(self) -> str:
        return PurePosixPath(self.path).name

    def __str__(self) -> str:
        return f"{self.source}: {self.path}"

    def save(self, path: Path) -> None:
        """Writes the file's content to `path`.

        Raises:
            UserError: the archive is damaged there, or holds more than it stated.
        """
        with _explained(self.source, self.path), self.open() as file, path.open("wb") as out:
            left = min(self.size, MOST_BYTES)
            while chunk := file.read(min(_CHUNK, left + 1)):
                left -= len(chunk)
                if left < 0:
                    raise UserError(
                        f"{self}: expected at most {min(self.size, MOST_BYTES)} bytes, found more. Download it again."
                    )
                out.write(chunk)


def read_sources(paths: Iterable[Path], scratch: Path) -> list[Member]:
    """The files of all folders and archives, sorted by source and path; hidden files and those of systems are left out.

    Args:
        scratch: a folder for what can only be read when unpacked; made when needed.

    Raises:
        UserError: nothing there, no archive that can be read, or one that is refused (see the top of this file).
    """
    members: list[Member] = []
    for path in paths:
        members += _read_source(path.expanduser(), scratch)
    return members


def unpack_nested(members: Sequence[Member], scratch: Path) -> list[Member]:
    """The files of the archives among `members`, as if each archive was a folder of its name without the suffix."""
    found: list[Member] = []
    for number, member in enumerate(members):
        suffix = archive_suffix(member.name)
        if suffix:
            scratch.mkdir(parents=True, exist_ok=True)
            copy = scratch / f"nested{number}{suffix}"
            member.save(copy)
            folder = member.path[: -len(suffix)]
            found += [
                Member(f"{folder}/{inner.path}", inner.size, inner.stamp, member.source, inner.open)
                for inner in _read_archive(copy, suffix, scratch / f"nested{number}", shown=f"{member}")
            ]
    return found


def archive_suffix(name: str) -> str:
    """The suffix by which an archive is read, "" for what is none."""
    return next((suffix for suffix in ARCHIVES if name.lower().endswith(suffix)), "")


def _read_source(path: Path, scratch: Path) -> list[Member]:
    if path.is_dir():
        return [
            _file_member(file, path)
            for file in files_below(path)
            if file.is_file() and not _is_clutter(file.relative_to(path).as_posix())
        ]
    if not path.is_file():
        near = did_you_mean(path.name, [entry.name for entry in path.parent.iterdir()]) if path.parent.is_dir() else ""
        raise UserError(f"{path}: expected an archive or a folder, found nothing.{near}")
    suffix = archive_suffix(path.name)
    if not suffix:
        if path.suffix.lower() in (".rar", ".r00"):
            raise UserError(
                f"{path}: RAR archives are not read. Unpack it (`unar` or `7z x`), and give the folder instead."
            )
        return [_file_member(path, path.parent)]
    if re.search(r"\.(part\d+|z\d\d|\d{3})\b", path.name.lower()):
        raise UserError(f"{path}: expected a whole archive, found a part of one. Join and unpack it, give the folder.")
    number = len(list(scratch.glob("source*"))) if scratch.is_dir() else 0
    return _read_archive(path, suffix, scratch / f"source{number}", shown=str(path))


def _file_member(file: Path, root: Path) -> Member:
    state = file.stat()
    return Member(
        file.relative_to(root).as_posix(), state.st_size, f"time {state.st_mtime_ns}", root, lambda: file.open("rb")
    )


def _read_archive(path: Path, suffix: str, scratch: Path, shown: str) -> list[Member]:
    reader = {".zip": _zip_members, ".7z": _seven_zip_members}.get(suffix, _tar_members)
    with _explained(path, ""):
        members = reader(path, scratch)
    _check_proportions(path, shown, [member.size for member in members])
    return [member for member in members if not _is_clutter(member.path)]


def _zip_members(path: Path, scratch: Path) -> list[Member]:
    archive = zipfile.ZipFile(path)
    entries = archive.infolist()
    _check_count(path, len(entries))
    members = []
    for entry in entries:
        name = _checked_name(path, entry.filename)
        kind = (entry.external_attr >> 16) & 0o170000
        if kind not in (0, 0o100000, 0o040000):
            raise _refused(path, name, "is a link or a device")
        if entry.is_dir():
            continue
        if entry.flag_bits & 1:
            raise UserError(f"{path}: {name} is encrypted. Unpack it with its password, and give the folder instead.")
        members.append(Member(name, entry.file_size, f"crc {entry.CRC:08x}", path, partial(archive.open, entry)))
    return members


def _tar_members(path: Path, scratch: Path) -> list[Member]:
    plain = path
    opener = next((opener for suffix, opener in _STREAMS.items() if path.name.lower().endswith(suffix)), None)
    if opener is not None:
        scratch.mkdir(parents=True, exist_ok=True)
        plain = scratch / "unpacked.tar"
        with opener(path, "rb") as stream, plain.open("wb") as out:
            _copy_bounded(stream, out, path)
    members = []
    with tarfile.open(plain, "r:") as archive:
        for count, entry in enumerate(archive, 1):
            _check_count(path, count)
            name = _checked_name(path, entry.name)
            if entry.isdir():
                continue
            if not entry.isfile() or entry.issparse():
                raise _refused(path, name, "is a link or a device")
            stamp = f"size {entry.size} time {entry.mtime:.0f}"
            members.append(Member(name, entry.size, stamp, path, _part(plain, entry.offset_data, entry.size)))
    return members


def _seven_zip_members(path: Path, scratch: Path) -> list[Member]:
    try:
        import py7zr
        from py7zr.io import Py7zIO, WriterFactory
    except ImportError as error:
        raise UserError(
            f"{path}: 7z archives are read by py7zr, which is not installed: pip install 'delightsam-bench[prepare]'."
            " Or unpack it, and give the folder instead."
        ) from error
    with py7zr.SevenZipFile(path) as archive:
        if archive.needs_password():
            raise UserError(f"{path}: is encrypted. Unpack it with its password, and give the folder instead.")
        entries = archive.list()
        _check_count(path, len(entries))
        names = {entry.filename: _checked_name(path, entry.filename) for entry in entries}
        files = [entry for entry in entries if not entry.is_directory]
        for entry in files:
            if entry.is_symlink or not entry.is_file:
                raise _refused(path, names[entry.filename], "is a link or a device")
        _check_proportions(path, str(path), [entry.uncompressed for entry in files])
        scratch.mkdir(parents=True, exist_ok=True)
        places = {entry.filename: scratch / f"{number}" for number, entry in enumerate(files)}

        class Numbered(Py7zIO):
            """Writes one entry to its numbered file."""

            def __init__(self, place: Path) -> None:
                self.file = place.open("w+b")

            def write(self, s: bytes | bytearray) -> int:
                return self.file.write(s)

            def read(self, size: int | None = None) -> bytes:
                return self.file.read(-1 if size is None else size)

            def seek(self, offset: int, whence: int = 0) -> int:
                return self.file.seek(offset, whence)

            def flush(self) -> None:
                self.file.flush()

            def size(self) -> int:
                return os.fstat(self.file.fileno()).st_size

            def close(self) -> None:
                self.file.close()

        class Places(WriterFactory):
            def create(self, filename: str) -> Py7zIO:
                return Numbered(places[filename])

        archive.extract(targets=list(places), factory=Places())
    return [
        Member(
            names[entry.filename],
            entry.uncompressed,
            f"crc {entry.crc32 or 0:08x}",
            path,
            _opened(places[entry.filename]),
        )
        for entry in files
    ]


def _opened(place: Path) -> Callable[[], IO[bytes]]:
    return lambda: place.open("rb")


class _Part:
    """Some bytes of a file, read from a handle of its own: threads do not disturb each other."""

    def __init__(self, path: Path, start: int, size: int) -> None:
        self.file, self.left = path.open("rb"), size
        self.file.seek(start)

    def read(self, size: int = -1) -> bytes:
        content = self.file.read(self.left if size < 0 else min(size, self.left))
        self.left -= len(content)
        return content

    def __enter__(self) -> _Part:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()


def _part(path: Path, start: int, size: int) -> Callable[[], Any]:
    return lambda: _Part(path, start, size)


def _copy_bounded(stream: IO[bytes], out: IO[bytes], path: Path) -> None:
    packed, written = path.stat().st_size, 0
    while chunk := stream.read(_CHUNK):
        written += len(chunk)
        if written > max(_SUSPICIOUS_BYTES, _SUSPICIOUS_RATIO * packed):
            raise _too_large(str(path), written, packed)
        out.write(chunk)


def _checked_name(path: Path, name: str) -> str:
    """The name with `/` between its parts; refused where it leads out of the archive or is not printable."""
    plain = name.replace("\\", "/")
    parts = plain.split("/")
    if plain.startswith("/") or re.match(r"[A-Za-z]:", plain) or ".." in parts:
        raise _refused(path, name, "is a name that leads out of the folder it is unpacked to")
    if not plain.isprintable() or len(plain) > 4096:
        raise _refused(path, name[:200], "is a name with control characters, or too long")
    return "/".join(part for part in parts if part not in ("", "."))


def _check_count(path: Path, count: int) -> None:
    if count > MOST_ENTRIES:
        raise UserError(
            f"{path}: expected at most {MOST_ENTRIES} entries in an archive, found more. If it is what you think it is, unpack"
            " it and give the folder instead."
        )


def _check_proportions(path: Path, shown: str, sizes: Sequence[int]) -> None:
    packed, total = path.stat().st_size, sum(sizes)
    if total > _SUSPICIOUS_BYTES and total > _SUSPICIOUS_RATIO * packed:
        raise _too_large(shown, total, packed)


def _too_large(shown: str, total: int, packed: int) -> UserError:
    return UserError(
        f"{shown}: refused: it unpacks to {total / 2**30:.1f} GiB or more from {packed / 2**20:.1f} MiB, as no pictures do."
    )


def _refused(path: Path, name: str, why: str) -> UserError:
    return UserError(f"{path}: refused: its entry {name!r} {why}. No dataset needs that: see where it comes from.")


def _is_clutter(name: str) -> bool:
    parts = name.lower().split("/")
    return any(part.startswith(".") or part == "__macosx" or part in _SYSTEM for part in parts)


@contextmanager
def _explained(path: Path, entry: str) -> Iterator[None]:
    """Decoders of archives raise almost anything on damaged files; a full disk stays an OSError."""
    try:
        yield
    except (UserError, OSError, MemoryError) as error:
        if isinstance(error, OSError) and error.errno is None:  # BadGzipFile and kin
            raise _damaged(path, entry, error) from error
        raise
    except Exception as error:
        raise _damaged(path, entry, error) from error


def _damaged(path: Path, entry: str, error: Exception) -> UserError:
    where = f"{path}: {entry}" if entry else f"{path}"
    message = " ".join(str(error).split())[:200] or type(error).__name__
    return UserError(f"{where}: expected a whole archive, found a damaged one ({message}). Download it again.")
