"""Opens the zip of a stranger: names from a fixed list, sizes bounded before anything is unpacked."""

from __future__ import annotations

import stat
import struct
import zipfile
from io import BytesIO
from pathlib import Path

from harness.submissions.layout import LARGEST, LARGEST_FILE, MEMBERS, MIB, PREDICTIONS, Refused

_END = struct.Struct("<4s4H2IH")
"""The last record of a zip without a comment."""
_ZIP64_LOCATOR = 20
"""Bytes of the record before the last one in a zip64."""
_LARGEST_DIRECTORY = 4096
_ENCRYPTED = 0x1


def read_file(path: Path) -> bytes:
    """The bytes of a submission's file.

    Raises:
        Refused: it is a link, no file, or too large.
    """
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode):
        raise Refused("expected a file, found a link, a folder or a device. Put the file itself there.")
    if found.st_size > LARGEST_FILE:
        raise Refused(
            f"expected at most {LARGEST_FILE // MIB} MiB, found {found.st_size / MIB:,.0f} MiB. Submit fewer methods at a"
            " time (--method), or leave the masks out (--without-masks)."
        )
    with path.open("rb") as file:
        return file.read(LARGEST_FILE + 1)


def unpack(content: bytes) -> dict[str, bytes]:
    """Member -> its bytes.

    Raises:
        Refused: no zip, other members than those of a submission, too large, damaged, encrypted, or a link.
    """
    _check_directory(content)
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            members = archive.infolist()
            _check_members(members)
            return {member.filename: _read(archive, member) for member in members}
    except Refused:
        raise
    except (
        zipfile.BadZipFile,
        EOFError,
        OSError,
        ValueError,
        NotImplementedError,
        RuntimeError,
        struct.error,
    ) as error:
        raise _no_zip(str(error)) from error
    except Exception as error:  # what zlib and zipfile raise for damaged bytes is not listed anywhere
        raise _no_zip(type(error).__name__) from error


def _check_directory(content: bytes) -> None:
    """Looks at the size of the list of members before `zipfile` reads it: a million of them would fill the memory."""
    if len(content) < _END.size or not content.startswith(b"PK"):
        raise _no_zip("it does not begin and end as one")
    signature, _, _, _, count, size, _, comment = _END.unpack(content[-_END.size :])
    if signature != b"PK\x05\x06" or comment:
        raise _no_zip("it does not end as one, or has a comment")
    # `zipfile` would believe that record, and not the counts that are looked at below.
    if content[: -_END.size][-_ZIP64_LOCATOR:].startswith(b"PK\x06\x07"):
        raise _no_zip("it is a zip64, which only files of 4 GiB need")
    if count > len(MEMBERS) or size > _LARGEST_DIRECTORY:
        raise Refused(f"expected at most {len(MEMBERS)} members, found {count:,}. Make it by `submit`.")


def _check_members(members: list[zipfile.ZipInfo]) -> None:
    names = [member.filename for member in members]
    for member in members:
        # `orig_filename` is what the file says: `filename` has lost what follows a null byte.
        if member.filename not in MEMBERS or member.orig_filename != member.filename:
            raise Refused(f"expected the members {', '.join(MEMBERS)}; found {member.orig_filename[:80]!r}.")
        # What has no kind of file (made on Windows, or by a program) is a plain one.
        if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG):
            raise Refused(f"expected {member.filename} to be a plain file, found a link, a folder or a device.")
        if member.flag_bits & _ENCRYPTED:
            raise Refused(f"expected {member.filename} as it is, found it encrypted.")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise Refused(f"expected {member.filename} deflated or stored, found compression {member.compress_type}.")
        if member.file_size > LARGEST[member.filename]:
            raise Refused(
                f"expected {member.filename} of at most {LARGEST[member.filename] // MIB} MiB, found"
                f" {member.file_size / MIB:,.0f} MiB."
            )
    if len(set(names)) != len(names):
        raise Refused("expected each member once, found one twice.")
    if missing := [name for name in MEMBERS if name not in names and name != PREDICTIONS]:
        raise Refused(f"expected the member {missing[0]}, found none. Make the file by `submit`.")


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """The directory may lie about a size: never more than that is unpacked, and then the checksum does not fit."""
    with archive.open(member) as file:
        content = file.read(LARGEST[member.filename] + 1)
    if len(content) != member.file_size:
        raise Refused(f"expected {member.file_size:,} bytes in {member.filename}, found {len(content):,}.")
    return content


def pack(members: dict[str, bytes]) -> bytes:
    """The zip of these members: equal members give equal bytes."""
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in MEMBERS:
            if name in members:
                entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
                entry.external_attr = (stat.S_IFREG | 0o644) << 16
                entry.create_system = 3
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, members[name], compresslevel=6)
    return buffer.getvalue()


def _no_zip(why: str) -> Refused:
    return Refused(f"expected a zip made by `python -m harness submit`, found none ({why[:120]}).")
