"""Mixed precision where it is native, a spec that says what was chosen, and memory that is not asked for again and again."""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.cleared_pages import BLOCK, BLOCKS, watch

from harness.config import RunConfig
from harness.hardware import native_amp
from harness.planning.plan import build_plan


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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no mallopt")
@pytest.mark.parametrize("error", [False, True])
def test_a_freed_block_is_taken_again_and_goes_back_at_the_end(error: bool) -> None:
    seen = watch("cpu", error=error)
    assert seen["taken_again_before"] == 0
    assert seen["taken_again"] >= BLOCKS // 3
    assert seen["resident"] > BLOCK // 2
    assert seen["resident_at_the_end"] < BLOCK // 2
    # A hole between small blocks stays: at most those that were not taken again.
    assert seen["resident_later"] < (BLOCKS - seen["taken_again"] + 1) * BLOCK


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no mallopt")
def test_a_gpus_process_keeps_no_memory() -> None:
    seen = watch("cuda")
    assert seen["taken_again_before"] == seen["taken_again"] == 0
    assert seen["resident_later"] < BLOCK
