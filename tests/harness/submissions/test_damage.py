"""However a submission is damaged, reading it gives the submission or a reason: never another error."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.submissions import Members, tampered

from harness.submissions.archive import unpack
from harness.submissions.layout import IMAGES, MANIFEST, PREDICTIONS, SPLITS, Refused, Submission
from harness.submissions.manifest import read_manifest
from harness.submissions.reading import parse_submission

_FAST = settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
_CUTS = st.tuples(st.floats(0, 1), st.integers(0, 64), st.binary(max_size=64))
"""Where, how many bytes are taken out, and which come in their place."""


def read(content: bytes) -> Submission | None:
    try:
        return parse_submission(content)
    except Refused as error:
        assert str(error) and "\x1b" not in str(error)
        return None


def damaged(content: bytes, cuts: list[tuple[float, int, bytes]]) -> bytes:
    for place, length, other in cuts:
        at = int(place * len(content))
        content = content[:at] + other + content[at + length :]
    return content


@_FAST
@given(cuts=st.lists(_CUTS, min_size=1, max_size=4))
def test_damaged_bytes_of_the_file(honest: bytes, cuts: list[tuple[float, int, bytes]]) -> None:
    read(damaged(honest, cuts))


@_FAST
@given(content=st.binary(max_size=300))
def test_any_bytes(content: bytes) -> None:
    assert read(content) is None
    assert read(b"PK" + content + b"PK\x05\x06" + content) is None


@_FAST
@given(name=st.sampled_from([SPLITS, IMAGES, PREDICTIONS]), cuts=st.lists(_CUTS, min_size=1, max_size=3))
def test_damaged_tables_with_right_checksums(honest: bytes, name: str, cuts: list[tuple[float, int, bytes]]) -> None:
    def change(members: Members) -> None:
        members[name] = damaged(members[name], cuts)

    read(tampered(honest, members=change))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)


def _places(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The path of every value in a JSON document."""
    found = [path] if path else []
    if isinstance(value, dict):
        found += [place for key, each in value.items() for place in _places(each, (*path, key))]
    elif isinstance(value, list):
        found += [place for at, each in enumerate(value) for place in _places(each, (*path, at))]
    return found


@_FAST
@given(data=st.data())
def test_any_value_anywhere_in_the_manifest(honest: bytes, data: st.DataObject) -> None:
    whole = json.loads(unpack(honest)[MANIFEST])
    path = data.draw(st.sampled_from(_places(whole)))
    value = data.draw(_JSON)

    def change(manifest: dict[str, object]) -> None:
        part: object = manifest
        for step in path[:-1]:
            part = part[step]  # type: ignore[index]
        part[path[-1]] = value  # type: ignore[index]

    read(tampered(honest, manifest=change))


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "1", '"x"', "{", '{"a":1}', "\ufeff{}", "[" * 100_000, "1" * 10_000]
)
def test_no_manifest(text: str) -> None:
    with pytest.raises(Refused):
        read_manifest(text.encode())


def test_an_undamaged_one_is_read(honest: bytes) -> None:
    found = read(honest)
    assert found is not None and len(found.trials) == 6
