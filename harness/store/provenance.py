"""What produced a result: code, libraries, machine, settings of the run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from harness import __version__
from harness.hardware import describe_machine

_LIBRARIES = (
    "torch", "torchvision", "numpy", "scipy", "pandas", "timm",
    "segmentation-models-pytorch", "ray", "hydra-core", "medpy", "pillow",
)  # fmt: skip
# The commit of the driver's checkout, for workers of a cluster, whose copy of the code has none.
REVISION_VARIABLE = "DELIGHTSAM_BENCH_REVISION"


@lru_cache
def code_revision() -> dict[str, Any]:
    """The commit of the checkout this package runs from; {} for an installed wheel."""
    if given := os.environ.get(REVISION_VARIABLE):
        return dict(json.loads(given))
    folder = Path(__file__).resolve().parent.parent.parent
    if not (folder / ".git").exists():
        return {}
    try:
        commit = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "-C", str(folder), "status", "--porcelain"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return {}
    return {"commit": commit, "uncommitted_changes": bool(changed)}


@lru_cache
def library_versions() -> dict[str, str]:
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def describe(device: str, command: list[str] | None = None) -> dict[str, Any]:
    """Everything about code and machine that stands beside a result."""
    return {
        "bench": __version__,
        "code": code_revision(),
        "python": sys.version.split()[0],
        "libraries": library_versions(),
        "machine": describe_machine(device),
        "command": command or [],
    }
