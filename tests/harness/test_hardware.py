"""Mixed precision where it is native, a spec that says what was chosen, and memory that is not asked for again and again."""

from __future__ import annotations

import contextlib
import platform
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.config import RunConfig
from harness.hardware import memory_kept, native_amp
from harness.planning.plan import build_plan

# Bytes: glibc keeps smaller blocks than 32 MiB by itself.
BLOCK = 33 * 2**20


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ("processor : 0\nflags\t\t: fpu avx2 avx512_bf16 amx_tile\n", "bfloat16"),
        ("processor : 0\nflags\t\t: fpu avx2 avx512f\n", "off"),
        ("Features\t: fp asimd bf16 i8mm\n", "bfloat16"),
        # A processor's name is no instruction.
        ("model name : bf16 wonder\nflags : fpu\n", "off"),
    ],
)
def test_by_the_processors_instructions(facts: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(facts)
    assert native_amp("cpu", tmp_path / "cpuinfo") == expected


def test_a_system_that_does_not_say(tmp_path: Path) -> None:
    assert native_amp("cpu", tmp_path / "nothing") == "off"


@pytest.mark.parametrize("native", [True, False])
def test_by_the_gpu_where_there_is_one(native: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation: native and not including_emulation)
    assert native_amp("auto", tmp_path / "nothing") == ("bfloat16" if native else "off")


@pytest.mark.parametrize("chosen", ["bfloat16", "off"])
def test_a_spec_says_what_was_chosen(
    toy_config: Callable[..., RunConfig], chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.planning.plan.native_amp", lambda device: chosen)
    by_amp: dict[str, Any] = {amp: build_plan(toy_config(amp=amp)).trials[0] for amp in ("auto", chosen)}
    assert by_amp["auto"].trained.amp == chosen
    assert by_amp["auto"].id == by_amp[chosen].id


def _blocks_taken_again(count: int) -> int:
    """How many of so many blocks, each freed before the next is taken, lie in pages that the system need not clear."""
    taken, faults = 0, resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(count):
        torch.ones(BLOCK, dtype=torch.uint8)
        before, faults = faults, resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        taken += faults - before < BLOCK // resource.getpagesize() // 2
    return taken


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no mallopt")
def test_a_freed_block_is_taken_again_and_goes_back_at_the_end() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    began = resident()
    assert _blocks_taken_again(3) == 0
    with memory_kept(torch.device("cpu")):
        assert _blocks_taken_again(30) >= 10
        assert resident() - began > BLOCK // 2
    assert resident() - began < BLOCK // 2
    assert _blocks_taken_again(3) == 0


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no mallopt")
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_memory_goes_back_after_an_error_and_is_never_kept_for_a_gpu(device: str) -> None:
    with contextlib.suppress(ValueError), memory_kept(torch.device(device)):
        assert device == "cpu" or _blocks_taken_again(3) == 0
        raise ValueError
    assert _blocks_taken_again(3) == 0
