"""The forms in which a method predicts: as it is or accelerated, in the number formats of a device."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from harness.hardware import native_amp

AMP = {"float32": "off", "tf32": "off", "bfloat16": "bfloat16", "float16": "float16"}
"""Number format -> training.amp with which a method predicts in it."""


@dataclass(frozen=True)
class Form:
    """One way to predict.

    Attributes:
        kind: "plain": the method as it is, operation by operation; "accelerated": what it offers as `accelerated`;
            "compiled": the method as `torch.compile` merges its operations.
        dtype: "float32", "bfloat16" or "float16" (by autocast), or "tf32": float32 of which products take 10 bits.
    """

    kind: str
    dtype: str


PLAIN = Form("plain", "float32")
"""In which every method can predict: the one that methods are compared in."""


def number_formats(device: torch.device) -> list[str]:
    """Those that the device has instructions for."""
    if device.type == "cuda":
        half = ["bfloat16"] if native_amp("cuda") == "bfloat16" else []
        return ["float32", "tf32", *half, "float16"]
    return ["float32", *(["bfloat16"] if native_amp("cpu") == "bfloat16" else [])]


@contextmanager
def precision(dtype: str, device: torch.device) -> Iterator[None]:
    """Computes in a number format within the block. By default PyTorch uses tf32 for float32 convolutions: not here."""
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = products.allow_tf32, convolutions.allow_tf32
    products.allow_tf32 = convolutions.allow_tf32 = dtype == "tf32"
    half = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(dtype)
    try:
        with torch.autocast(device.type, half, enabled=half is not None):
            yield
    finally:
        products.allow_tf32, convolutions.allow_tf32 = before


def why_not_compiled(device: torch.device) -> str:
    """What `torch.compile` lacks on this machine, and how to get it; "" where nothing is missing."""
    wanted = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++"]
    if not any(map(shutil.which, wanted)):
        return f"torch.compile needs a C++ compiler, and {' and '.join(wanted)} can't be found: install g++, or set CXX"
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        return "torch.compile needs triton on a GPU: pip install triton"
    return ""
