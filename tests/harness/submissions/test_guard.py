"""The process that reads submissions: it may die, and its memory is bounded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.submissions.guard import Guarded


def test_a_process_that_dies_costs_one_file(honest: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(honest)
    with Guarded() as guarded:
        assert guarded.judge(tmp_path / "a.zip", None).state == "unverified"
        assert guarded._pool is not None
        guarded._pool.submit(os._exit, 1)
        verdict = guarded.judge(tmp_path / "a.zip", None)
        assert verdict.state == "refused" and "died" in verdict.reason
        assert guarded.judge(tmp_path / "a.zip", None).state == "unverified"


def test_what_a_function_raises_comes_back() -> None:
    with Guarded() as guarded:
        assert guarded.call(int, "7") == 7
        with pytest.raises(ValueError, match="invalid literal"):
            guarded.call(int, "seven")


def test_its_memory_is_bounded() -> None:
    """In a process of its own: the bound can't be taken back."""
    code = (
        "from harness.submissions import guard; guard.MEMORY = 1 << 28; guard.bound_memory()\n"
        "try:\n    bytes(1 << 30)\nexcept MemoryError:\n    print('bounded')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "bounded"
