"""Reads and writes the tables of a submission: Parquet of a stranger, of known columns, types and sizes.

Compression happens in the zip, so that a table is as large as its member: a compressed page could unpack to anything. Texts are
read as dictionaries, so that a long text is in the memory once however many rows name it.
"""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from harness.submissions.layout import COLUMNS, LARGEST_MASK, LONGEST_NAME, MOST_ROWS, Refused
from harness.submissions.manifest import check_text

if TYPE_CHECKING:
    import pyarrow as pa

_ENCODINGS = frozenset({"PLAIN", "RLE", "RLE_DICTIONARY", "PLAIN_DICTIONARY", "BIT_PACKED"})
"""Of pages. Others build long texts from short ones, and so hide how long they are."""


def write_table(name: str, table: pd.DataFrame) -> bytes:
    """The member `name` as Parquet: equal tables give equal bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {"int": pa.int64(), "float": pa.float64(), "text": pa.string(), "bytes": pa.binary()}
    fields = [
        pa.field(key, types[kind.rstrip("?")], nullable=kind.endswith("?")) for key, kind in COLUMNS[name].items()
    ]
    arrays = [
        pa.array([None if pd.isna(value) else value for value in table[field.name].tolist()], field.type)
        if field.nullable
        else pa.array(table[field.name].tolist(), field.type)
        for field in fields
    ]
    buffer = BytesIO()
    texts = [key for key, kind in COLUMNS[name].items() if kind.startswith("text")]
    pq.write_table(
        pa.Table.from_arrays(arrays, schema=pa.schema(fields)), buffer, compression="NONE", use_dictionary=texts,
        store_schema=False,
    )  # fmt: skip
    return buffer.getvalue()


def read_table(name: str, content: bytes) -> pd.DataFrame:
    """The member `name`, with exactly its columns: whole numbers as int64, others as float64 with NaN where there is none.

    Raises:
        Refused: no Parquet, other columns or types, compressed, too many rows, texts too long, holes where none may be, NaN.
    """
    try:
        table = _read(name, content)
        return pd.DataFrame({key: _column(name, key, kind, table.column(key)) for key, kind in COLUMNS[name].items()})
    except Refused:
        raise
    except (MemoryError, RecursionError):
        raise Refused(f"{name}: expected a table that fits the memory, found a larger one.") from None
    except Exception as error:  # what pyarrow raises for damaged bytes is not listed anywhere
        raise Refused(
            f"{name}: expected Parquet as `submit` writes it, found other bytes ({str(error)[:120]})."
        ) from error


def _read(name: str, content: bytes) -> pa.Table:
    import pyarrow.parquet as pq

    kinds = COLUMNS[name]
    # Thrift's own bounds: what the footer says of its size is not to be believed.
    bounds: dict[str, Any] = {"thrift_string_size_limit": 1 << 20, "thrift_container_size_limit": 1 << 20}
    texts = [key for key, kind in kinds.items() if kind.rstrip("?") in ("text", "bytes")]
    file = pq.ParquetFile(BytesIO(content), read_dictionary=texts, **bounds)
    facts = file.metadata
    if facts.num_rows > MOST_ROWS:
        raise Refused(f"{name}: expected at most {MOST_ROWS:,} rows, found {facts.num_rows:,}. Submit fewer methods.")
    if facts.num_columns != len(kinds) or list(file.schema.names) != list(kinds):
        raise Refused(f"{name}: expected the columns {', '.join(kinds)}; found {', '.join(file.schema.names)[:300]}.")
    if facts.num_row_groups > MOST_ROWS // 1000:
        raise Refused(f"{name}: expected at most {MOST_ROWS // 1000:,} row groups, found {facts.num_row_groups:,}.")
    physical = {"int": "INT64", "float": "DOUBLE", "text": "BYTE_ARRAY", "bytes": "BYTE_ARRAY"}
    logical = {"text": "STRING"}
    for place, (key, kind) in enumerate(kinds.items()):
        column, plain = file.schema.column(place), kind.rstrip("?")
        found = (column.physical_type, column.logical_type.type, column.max_repetition_level)
        if found != (physical[plain], logical.get(plain, "NONE"), 0):
            raise Refused(
                f"{name}: column {key}: expected {kind}, found {column.physical_type} {column.logical_type.type}."
            )
    rows = 0
    for group in range(facts.num_row_groups):
        rows += facts.row_group(group).num_rows
        for place, key in enumerate(kinds):
            chunk = facts.row_group(group).column(place)
            if chunk.compression != "UNCOMPRESSED":
                raise Refused(f"{name}: column {key}: expected no compression inside, found {chunk.compression}.")
            if not set(chunk.encodings) <= _ENCODINGS:
                raise Refused(f"{name}: column {key}: expected plain or dictionary pages, found {chunk.encodings}.")
    if rows != facts.num_rows:
        raise Refused(f"{name}: expected as many rows as it says ({facts.num_rows:,}), found {rows:,}.")
    return file.read(use_threads=False)


def _column(name: str, key: str, kind: str, column: pa.ChunkedArray) -> Any:
    plain, where = kind.rstrip("?"), f"{name}: column {key}"
    if not kind.endswith("?") and column.null_count:
        raise Refused(f"{where}: expected a value in every row, found {column.null_count} without.")
    if plain == "int":
        return column.to_numpy().astype(np.int64)
    if plain == "float":
        import pyarrow.compute as pc

        if pc.sum(pc.invert(pc.is_finite(column))).as_py():
            raise Refused(f"{where}: expected finite numbers, found NaN or infinity.")
        return column.to_pandas().to_numpy(float)
    return _texts(where, plain, column)


def _texts(where: str, plain: str, column: pa.ChunkedArray) -> Any:
    """An object array whose rows share equal texts; None where there is none."""
    import pyarrow as pa

    if not pa.types.is_dictionary(column.type):
        raise Refused(f"{where}: expected a text, found {column.type}.")
    parts = []
    for chunk in column.chunks:
        values = chunk.dictionary.to_pylist()
        for value in values:
            if plain == "text":
                check_text(value, where, LONGEST_NAME)
            elif len(value) > LARGEST_MASK:
                raise Refused(f"{where}: expected masks of at most {LARGEST_MASK:,} bytes, found {len(value):,}.")
        lookup = np.array([*values, None], dtype=object)
        parts.append(lookup[chunk.indices.fill_null(len(values)).to_numpy(zero_copy_only=False).astype(np.int64)])
    return np.concatenate(parts) if parts else np.array([], dtype=object)
