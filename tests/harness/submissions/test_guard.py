"""The process that reads submissions: it may die, and its memory is bounded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from harness.submissions.guard import Judges


def test_a_process_that_dies_costs_one_file(honest: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(honest)
    with Judges(None) as judges:
        assert judges.judge(tmp_path / "a.zip").state == "unverified"
        assert judges._pool is not None
        judges._pool.submit(os._exit, 1)
        verdict = judges.judge(tmp_path / "a.zip")
        assert verdict.state == "refused" and "died" in verdict.reason
        assert judges.judge(tmp_path / "a.zip").state == "unverified"


def test_its_memory_is_bounded() -> None:
    """In a process of its own: the bound can't be taken back."""
    code = (
        "from harness.submissions import guard; guard.MEMORY = 1 << 28; guard.bound_memory()\n"
        "try:\n    bytes(1 << 30)\nexcept MemoryError:\n    print('bounded')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "bounded"
