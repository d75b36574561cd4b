"""What an attacker may send to a leaderboard, each as a change of an honest submission with masks."""

from __future__ import annotations

import io
import pickle
import stat
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from harness.submissions.archive import unpack
from harness.submissions.layout import COLUMNS, IMAGES, MANIFEST, MOST_ROWS, PREDICTIONS, SPLITS
from support.submissions import Manifest, Members, tampered

SCRIPT = "<script>document.title='owned'</script>"
ATTRIBUTE = '"><img src=x onerror="document.title=\'owned\'">'
_HEADER = 33
"""Bytes of a PNG up to the end of its header."""
TRIPWIRE = "a_pickle_was_loaded"


@dataclass(frozen=True)
class Attack:
    """One file of an attacker.

    Attributes:
        make: honest submission -> hostile one.
        state: what becomes of it where the site's builder has the data.
        reason: part of the reason that the site gives.
        without_data: what becomes of it where he has not.
    """

    make: Callable[[bytes], bytes]
    state: str
    reason: str
    without_data: str = "refused"


class Pickled:
    """Unpickling it would leave a mark."""

    def __reduce__(self) -> tuple[Any, ...]:
        return print, (TRIPWIRE,)


def _raw(content: bytes, change: Callable[[zipfile.ZipFile], None]) -> bytes:
    """The honest members but the masks, and what `change` adds."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a name twice is meant
        for name, part in unpack(content).items():
            if name != PREDICTIONS:
                archive.writestr(name, part)
        change(archive)
    return buffer.getvalue()


def _with_member(name: str, mode: int = stat.S_IFREG | 0o644) -> Callable[[bytes], bytes]:
    entry = zipfile.ZipInfo(name)
    entry.external_attr = mode << 16
    return lambda content: _raw(content, lambda archive: archive.writestr(entry, b"/etc/passwd"))


def _replaced(name: str, part: bytes | Callable[[], bytes]) -> Callable[[bytes], bytes]:
    def change(members: Members) -> None:
        members[name] = part() if callable(part) else part

    return lambda content: tampered(content, members=change)


def _manifest(change: Callable[[Manifest], object]) -> Callable[[bytes], bytes]:
    def apply(whole: Manifest) -> None:
        change(whole)

    return lambda content: tampered(content, manifest=apply)


def _images(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[bytes], bytes]:
    return lambda content: tampered(content, tables={IMAGES: change})


def _set(column: str, value: Any) -> Callable[[bytes], bytes]:
    def change(table: pd.DataFrame) -> pd.DataFrame:
        table = table.astype({column: object})
        table.loc[0, column] = value
        return table

    return _images(change)


def better(table: pd.DataFrame) -> pd.DataFrame:
    """Numbers as if every smaller mask lay inside the larger one: they contradict nothing in their row."""
    shared = np.minimum(table["predicted_pixels"], table["reference_pixels"])
    both = table["predicted_pixels"] + table["reference_pixels"]
    return table.assign(
        dice=2 * shared / both, precision=shared / table["predicted_pixels"], recall=shared / table["reference_pixels"]
    )


def _without_masks(content: bytes) -> bytes:
    return tampered(content, tables={IMAGES: better}, members=lambda members: members.pop(PREDICTIONS))  # type: ignore[arg-type, return-value]


def _scripts(whole: Manifest) -> None:
    whole["submitter"] = dict.fromkeys(("name", "contact", "licence", "note"), ATTRIBUTE)
    whole["runs"] = [{"suite": SCRIPT, "time": ATTRIBUTE}]
    for method in whole["methods"]:
        method["card"] |= {
            "title": SCRIPT, "paper": ATTRIBUTE, "licence": "{{ 7919 * 7907 }}", "pretrained_on": [SCRIPT], "note": "</style>" + SCRIPT,
            "pretrained": ATTRIBUTE, "start": "medical images",
        }  # fmt: skip
        method["model"] = {"_target_": "os.system", "command": "touch owned"}
        method["name"] = "<img src=x onerror=alert(1)>"
    for each in whole["provenances"]:
        each |= {"command": ["$(touch owned)", SCRIPT], "machine": {SCRIPT: ATTRIBUTE}, "python": ATTRIBUTE}


def scripts_in_data(content: bytes) -> bytes:
    """Names of domains and images that are markup: such data may exist."""
    evil = "<img src=x onerror=alert(1)>"

    def renamed(table: pd.DataFrame) -> pd.DataFrame:
        parts = table["key"].str.split("/")
        return table.assign(key=parts.str[0] + "/" + evil + parts.str[1] + "/" + evil + parts.str[2])

    def held_out(whole: Manifest) -> None:
        whole["data"]["name"] = SCRIPT
        for split in whole["splits"]:
            split["name"] = ATTRIBUTE + split["name"]
            split["held_out"] = [name.replace("/", "/" + evil) for name in split["held_out"]]

    return tampered(content, manifest=held_out, tables=dict.fromkeys((SPLITS, IMAGES, PREDICTIONS), renamed))


def _table(name: str, rows: int, **changed: Any) -> bytes:
    """The member `name` as Parquet of equal rows, written without the care that `submit` takes."""
    values = {"int": pa.scalar(0), "float": pa.scalar(0.5), "text": pa.scalar("test"), "bytes": pa.scalar(b"")}
    columns = {key: changed.get(key, pa.repeat(values[kind.rstrip("?")], rows)) for key, kind in COLUMNS[name].items()}
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, compression=changed.get("compression", "NONE"), store_schema=False)
    return buffer.getvalue()


def _long_texts(rows: int) -> pa.Array:
    """10 gigabytes of text in a column of 200 kB."""
    return pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), rows), pa.array(["x" * 100_000]))


def _lying_about_size(content: bytes) -> bytes:
    """A bomb whose directory says that it is small."""
    whole = _raw(content, lambda archive: None)
    big = zlib.compressobj(9, zlib.DEFLATED, -15)
    squeezed = big.compress(bytes(1 << 26)) + big.flush()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, part in unpack(whole).items():
            archive.writestr(name, squeezed if name == SPLITS else part)
    found = bytearray(buffer.getvalue())
    for signature, method, size in ((b"PK\x03\x04", 8, 22), (b"PK\x01\x02", 10, 24)):
        at = found.index(signature)
        while SPLITS.encode() not in found[at : at + 80]:
            at = found.index(signature, at + 4)
        struct.pack_into("<H", found, at + method, zipfile.ZIP_DEFLATED)
        struct.pack_into("<I", found, at + size, 100)
    return bytes(found)


def _mask_of_other_size(table: pd.DataFrame) -> pd.DataFrame:
    """A PNG of 100 bytes that says that it has 2.5 gigapixels."""

    header = struct.pack(">2I5B", 50_000, 50_000, 1, 0, 0, 0, 0)
    picture = (
        b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(b"\0")) + _chunk(b"IEND", b"")
    )
    return table.assign(mask=[picture] * len(table))


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _in_masks(chunks: bytes) -> Callable[[bytes], bytes]:
    """Puts chunks of PNG behind the header of every mask."""

    def change(table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(mask=[mask[:_HEADER] + chunks + mask[_HEADER:] for mask in table["mask"]])

    return lambda content: tampered(content, tables={PREDICTIONS: change})


def _many_members_of_zip64(content: bytes) -> bytes:
    """The last record says that there are 4 members; the one before it, which `zipfile` believes, says 100,000."""
    count, start = 100_000, b"PK\x03\x04" + bytes(100)
    directory = (b"PK\x01\x02" + bytes(24) + struct.pack("<H", 1) + bytes(16) + b"a") * count
    large = struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, len(directory), len(start))
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, len(start) + len(directory), 1)
    return start + directory + large + locator + struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 4, 4, 200, 0, 0)


def _json(text: Callable[[str], str]) -> Callable[[bytes], bytes]:
    """A manifest as text, checksums left to themselves."""
    return lambda content: _whole(unpack(content) | {MANIFEST: text(unpack(content)[MANIFEST].decode()).encode()})


def _whole(members: Members) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, part in members.items():
            archive.writestr(name, part)
    return buffer.getvalue()


def _extension_column() -> bytes:
    """A column of an extension type whose metadata is a pickle, as pyarrow once loaded them."""
    table = pq.read_table(io.BytesIO(_table(SPLITS, 2)))
    evil = {b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": pickle.dumps(Pickled())}
    field = pa.field("role", pa.string(), metadata=evil)
    schema = pa.schema([table.schema.field("split"), field, table.schema.field("key")])
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_arrays(table.columns, schema=schema), buffer, compression="NONE")
    return buffer.getvalue()


def _empty_record(count: int) -> bytes:
    return b"PK" + bytes(40) + struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, count, count, 46 * count, 0, 0)


ATTACKS = {
    "scripts in names": Attack(_manifest(_scripts), "verified", "", "unverified"),
    "scripts in the data's names": Attack(scripts_in_data, "refused", "other data", "unverified"),
    "traversal": Attack(_with_member("../../evil.py"), "refused", "expected the members"),
    "absolute name": Attack(_with_member("/etc/cron.d/evil"), "refused", "expected the members"),
    "name with a null byte": Attack(
        lambda content: _with_member("submission.json_x")(content).replace(b"json_x", b"json\0x"), "refused", "members"
    ),
    "link": Attack(
        lambda content: _whole_with_link(content, SPLITS), "refused", "found a link"
    ),
    "member twice": Attack(lambda content: _raw(content, lambda a: a.writestr(SPLITS, b"x")), "refused", "member"),
    "many members": Attack(lambda content: _empty_record(60_000), "refused", "60,000"),
    "nested archive": Attack(_with_member("inner.zip"), "refused", "inner.zip"),
    "archive for a table": Attack(lambda content: _replaced(IMAGES, content)(content), "refused", "expected Parquet"),
    "no zip": Attack(lambda content: b"hello " * 100, "refused", "expected a zip"),
    "nothing": Attack(lambda content: b"", "refused", "expected a zip"),
    "cut off": Attack(lambda content: content[: len(content) // 2], "refused", "expected a zip"),
    "forged Dice with masks": Attack(_images(better), "refused", "forged or damaged", "unverified"),
    "forged Dice without masks": Attack(_without_masks, "unverified", "no masks", "unverified"),
    "clumsily forged Dice": Attack(_set("dice", 0.99), "refused", "shared pixels"),
    "Dice above 1": Attack(_set("dice", 1.5), "refused", "from 0 to 1"),
    "negative HD95": Attack(_set("hd95", -1.0), "refused", "diagonal"),
    "Dice as a text": Attack(_replaced(IMAGES, lambda: _table(IMAGES, 3, dice=pa.array(["a", "b", "c"]))), "refused", "column dice"),
    "no number": Attack(_replaced(IMAGES, lambda: _table(IMAGES, 2, dice=pa.array([float("nan"), 0.5]))), "refused", "NaN or infinity"),
    "infinity": Attack(_replaced(IMAGES, lambda: _table(IMAGES, 2, nsd=pa.array([float("inf"), 0.5]))), "refused", "NaN or infinity"),
    "hole for a Dice": Attack(_set("dice", None), "refused", "expected dice a number"),
    "NaN in the manifest": Attack(_json(lambda text: text.replace('"seed":0', '"seed":NaN', 1)), "refused", "NaN"),
    "1e999 in the manifest": Attack(_json(lambda text: text.replace('"seed":0', '"seed":1e999', 1)), "refused", "finite"),
    "a key twice": Attack(_json(lambda text: text.replace('"seed":0', '"seed":0,"seed":1', 1)), "refused", "once"),
    "deep manifest": Attack(lambda content: _whole({**unpack(content), MANIFEST: b"[" * 200_000}), "refused", "expected JSON"),
    "manifest deeper than said": Attack(_manifest(lambda whole: whole["methods"][0]["model"].update(a=_nested(20))), "refused", "inside each other"),
    "other data": Attack(
        _manifest(lambda whole: whole["splits"][0]["content"]["test"].update(masks="0" * 64)), "refused", "other data", "unverified"
    ),
    "easy images only": Attack(
        lambda content: tampered(content, tables=dict.fromkeys((SPLITS, IMAGES, PREDICTIONS), _first_images)),
        "refused", "other data", "unverified",
    ),
    "said to hold nothing out": Attack(
        _manifest(lambda whole: [split.update(held_out=[]) for split in whole["splits"]]), "refused", "to hold out", "unverified"
    ),
    "trained on what is held out": Attack(
        _manifest(lambda whole: whole["splits"][0].update(held_out=["dermoscopy/clinic_b"])), "refused", "holds out"
    ),
    "bomb that lies about its size": Attack(_lying_about_size, "refused", "expected a zip"),
    "a million rows": Attack(_replaced(IMAGES, lambda: _table(IMAGES, 1_000_000)), "refused", "found 1,000,000"),
    "one row too many": Attack(_replaced(SPLITS, lambda: _table(SPLITS, MOST_ROWS + 1)), "refused", f"found {MOST_ROWS + 1:,}"),
    "too many domains": Attack(_replaced(SPLITS, lambda: _table(SPLITS, 301, key=pa.array([f"a/{i}/b" for i in range(301)]))), "refused", "at most 300 domains"),
    "too many images": Attack(_replaced(SPLITS, lambda: _table(SPLITS, 50_001, key=pa.array([f"a/b/{i}" for i in range(50_001)]))), "refused", "at most 50,000 images"),
    "one long text in every row": Attack(
        _replaced(SPLITS, lambda: _table(SPLITS, 100_000, key=_long_texts(100_000))), "refused", "100,000"
    ),
    "compressed pages": Attack(_replaced(SPLITS, lambda: _table(SPLITS, 5, compression="zstd")), "refused", "no compression"),
    "rows twice": Attack(_images(lambda table: pd.concat([table, table.tail(1)])), "refused", "once"),
    "rows left out": Attack(_images(lambda table: table.iloc[1:]), "refused", "expected the 8 test images"),
    "rows of another trial": Attack(_images(lambda table: table.assign(trial=table["trial"] + 100)), "refused", "expected trial"),
    "other columns": Attack(_replaced(SPLITS, _table(PREDICTIONS, 1)), "refused", "expected the columns"),
    "wrong checksum": Attack(
        _json(lambda text: text.replace('"note":""', '"note":"x"', 1)), "refused", "does not match its checksum"
    ),
    "table swapped": Attack(lambda content: _whole({**unpack(content), SPLITS: b"PAR1"}), "refused", "does not match its checksum"),
    "huge text": Attack(_manifest(lambda whole: whole["submitter"].update(note="x" * 1_000_000)), "refused", "1,000,000"),
    "turned text": Attack(_manifest(lambda whole: whole["submitter"].update(name="\u202efdp.exe")), "refused", "U+202E"),
    "control character": Attack(_manifest(lambda whole: whole["submitter"].update(name="a\x1b[31m")), "refused", "U+001B"),
    "pickle for a table": Attack(_replaced(IMAGES, pickle.dumps(Pickled())), "refused", "expected Parquet"),
    "pickles in a column": Attack(
        _replaced(SPLITS, lambda: _table(SPLITS, 2, key=pa.array([pickle.dumps(Pickled())] * 2, pa.binary()))), "refused", "column key"
    ),
    "pickle in a type": Attack(_replaced(SPLITS, _extension_column), "refused", ""),
    "mask of gigapixels": Attack(
        lambda content: tampered(content, tables={PREDICTIONS: _mask_of_other_size}), "refused", "50000 x 50000", "unverified"
    ),
    "masks that are none": Attack(
        lambda content: tampered(content, tables={PREDICTIONS: lambda table: table.assign(mask=[b"GIF89a"] * len(table))}),
        "refused", "expected a PNG", "unverified",
    ),
    "mask with a second header": Attack(
        _in_masks(_chunk(b"IHDR", struct.pack(">2I5B", 8, 8, 1, 0, 0, 0, 0))), "refused", "one header", "unverified"
    ),
    "mask with megabytes of text": Attack(
        _in_masks(_chunk(b"zTXt", b"key\0\0" + zlib.compress(bytes(1_000_000)))), "refused", "one header", "unverified"
    ),
    "many members of a zip64": Attack(_many_members_of_zip64, "refused", "zip64"),
    "fraction for a place": Attack(_manifest(lambda whole: [each.update(method=0.0) for each in whole["trials"]]), "refused", "'integer'"),
    "many methods": Attack(
        _manifest(lambda whole: whole.update(methods=whole["methods"][:1] * 101)), "refused", "at most 100, found 101"
    ),
    "trainer of many keys": Attack(
        _manifest(lambda whole: whole["methods"][0].update(trainer={f"trains{at}": 1 for at in range(5_000)})), "refused", "trainer"
    ),
    "trainer of many faults": Attack(
        _manifest(lambda whole: whole["methods"][0].update(trainer={"train": [1] * 1_000, "predict": ["x"]})), "refused", "trainer"
    ),
    "invisible character": Attack(_manifest(lambda whole: whole["submitter"].update(name="Our\u200b lab")), "refused", "U+200B"),
    "end of a line in a name": Attack(_manifest(lambda whole: whole["submitter"].update(name="a\n::error::b")), "refused", "name"),
    "newer schema": Attack(_manifest(lambda whole: whole.update(schema_version=99)), "refused", "Update the bench"),
    "unknown key": Attack(_manifest(lambda whole: whole.update(hook="rm -rf")), "refused", "hook"),
    "unknown setting": Attack(_manifest(lambda whole: whole["trials"][0]["training"].update(hook="x")), "refused", "training.hook"),
    "setting of another type": Attack(_manifest(lambda whole: whole["trials"][0]["training"].update(epochs="x")), "refused", "training.epochs"),
    "pairs that are none": Attack(
        _manifest(lambda whole: whole["trials"][0]["protocol"].update(name="seen_to_unseen", pairs=[1])), "refused", "pairs"
    ),
    "metric of a later version": Attack(_manifest(lambda whole: whole["trials"][0]["metrics"].update(dice=99)), "refused", "version 99"),
    "place that points nowhere": Attack(_manifest(lambda whole: whole["trials"][0].update(method=7)), "refused", "there are"),
}  # fmt: skip
"""Name -> attack. What an attack that is not refused does to the pages, `test_site` looks at."""


def _nested(depth: int) -> Any:
    return [] if not depth else [_nested(depth - 1)]


def _first_images(table: pd.DataFrame) -> pd.DataFrame:
    return table[~table["key"].str.endswith("case_3")]


def _whole_with_link(content: bytes, name: str) -> bytes:
    entry = zipfile.ZipInfo(name)
    entry.create_system, entry.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for member, part in unpack(content).items():
            archive.writestr(entry if member == name else member, b"/etc/passwd" if member == name else part)
    return buffer.getvalue()


def _bomb(content: bytes) -> bytes:
    return _whole({**unpack(content), MANIFEST: b" " * (1 << 26)})


ATTACKS["bomb"] = Attack(_bomb, "refused", "at most 16 MiB")
