"""Number formats of a device, and that a precision is left as it was found."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from harness.efficiency import forms
from harness.efficiency.forms import number_formats, precision, why_not_compiled

CPU = torch.device("cpu")


def settings() -> tuple[bool, bool]:
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize("dtype", ["float32", "tf32", "bfloat16", "float16"])
def test_a_precision_holds_within_its_block(dtype: str) -> None:
    before = settings()
    with pytest.raises(KeyError), precision(dtype, CPU):
        assert settings() == (dtype == "tf32", dtype == "tf32")
        half = dtype in ("bfloat16", "float16")
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == (getattr(torch, dtype) if half else torch.float32)
        raise KeyError
    assert settings() == before and not torch.is_autocast_enabled("cpu")


def test_a_cpu_has_bfloat16_where_it_is_native(monkeypatch: pytest.MonkeyPatch) -> None:
    for native, expected in (("off", ["float32"]), ("bfloat16", ["float32", "bfloat16"])):
        monkeypatch.setattr(forms, "native_amp", lambda device, native=native: native)
        assert number_formats(CPU) == expected


def test_without_a_compiler_a_word_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert "g++ and clang++ can't be found: install g++, or set CXX" in why_not_compiled(CPU)
    compiler = tmp_path / "g++"
    compiler.write_text("#!/bin/sh\n")
    compiler.chmod(0o755)
    assert why_not_compiled(CPU) == ""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install triton" in why_not_compiled(torch.device("cuda"))
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "no-such-compiler can't be found" in why_not_compiled(CPU)
