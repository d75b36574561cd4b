"""A run whose record is damaged is named; no command ends in a traceback over it."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import UserError
from harness.store.store import Store


@pytest.mark.parametrize(
    "content", [b"\xff\xfe", b"a: [", b"- 1", b"", b"\0", b"a: !!python/object:os.system 1", b"&a [*a"]
)
def test_a_damaged_configuration_is_named(tmp_path: Path, content: bytes) -> None:
    store = Store(tmp_path)
    store.prepare()
    folder = store.start_suite("toys", "name: toys\n", [])
    (folder / "config.yaml").write_bytes(content)
    with pytest.raises(UserError, match=r"config\.yaml: expected .*Move this run's folder away"):
        store.suites()
