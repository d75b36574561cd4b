"""What trials run as that share a GPU: each waits for the other, and writes down what it was given.

Where there is no GPU, this module puts stand-ins for what torch asks one: a worker imports it before it takes its share.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from harness.trial import TrialContext, run_trial
from harness.trial_spec import TrialSpec

TOTAL = 16 * 2**30
"""Bytes of the stand-in's memory, all of them free."""
PATIENCE = 120.0
fractions: list[float] = []
"""What the stand-in was given: the part of the memory that this process may take."""

if not torch.cuda.is_available():
    torch.cuda.empty_cache = lambda: None
    torch.cuda.mem_get_info = lambda device=None: (TOTAL, TOTAL)
    torch.cuda.set_per_process_memory_fraction = lambda fraction, device=None: fractions.append(fraction)


def folder_of(store_root: str) -> Path:
    """Where the trials write."""
    return Path(store_root) / "beside"


def run_beside_another(spec: TrialSpec, context: TrialContext, report: Any, should_stop: Callable[[], bool]) -> Any:
    """`run_trial`, once another trial has come as far as this one.

    Raises:
        TimeoutError: no other trial runs at the same time.
    """
    folder = folder_of(context.store_root)
    folder.mkdir(parents=True, exist_ok=True)
    facts = {
        "device": context.device,
        "process": os.getpid(),
        "visible": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "fractions": fractions[-1:] if fractions else _largest_part(),
    }
    (folder / f"{spec.id}.json").write_text(json.dumps(facts))
    until = time.monotonic() + PATIENCE
    while len(list(folder.glob("*.json"))) < 2:
        if time.monotonic() > until:
            raise TimeoutError("no other trial runs at the same time")
        time.sleep(0.05)
    return run_trial(spec, replace(context, device="cuda" if torch.cuda.is_available() else "cpu"), report, should_stop)


def _largest_part() -> list[float]:
    """Of the twentieths of the card, the most that this process may take at once."""
    total = torch.cuda.mem_get_info()[1]
    for part in range(20, 0, -1):
        try:
            torch.empty(part * total // 20, dtype=torch.uint8, device="cuda")
        except torch.OutOfMemoryError:
            continue
        torch.cuda.empty_cache()
        return [part / 20]
    return [0.0]
