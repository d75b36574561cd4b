"""`make gpu-check` where there is no GPU: every step runs, on small images."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.efficiency.forms import why_not_compiled
from tests.performance.gpu_check import gpu_test_files

from .forked import finished

ROOT = Path(__file__).parents[2]
INFERENCE = ["inference, float32, batch 1", "inference, bfloat16, batch 2"]
TRAINING = ["bare loop", "unet", "delightsam from scratch", "decode on kept embeddings"]


def check(out: Path, *words: str) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    command = ["--out", str(out), *words]
    done = finished(command, out.parent, 3600, program="tests.performance.gpu_check", CUDA_VISIBLE_DEVICES="")
    return done, json.loads(out.read_text("utf-8"))


@pytest.mark.e2e
def test_every_step_runs_without_a_gpu(tmp_path: Path) -> None:
    done, found = check(tmp_path / "check.json", "--without-tests")
    assert done.returncode == 0, done.stderr
    assert {row["form"] for row in found["inference"]} >= {"model", "accelerated"}
    assert all(row["largest_difference"] < 0.1 for row in found["inference"])
    rows = {row["method"]: row for row in found["training"]}
    assert list(rows) == ["unet, bare loop", *TRAINING[1:]]
    assert all(row["median"] > 0 for row in rows.values())
    ratio = rows["unet"]["times_bare_loop"]
    assert ratio == rows["unet"]["median"] / rows["unet, bare loop"]["median"]
    assert f"{ratio:.2f} times the bare loop" in done.stdout
    assert found["sharing"]["trials"] == 2 and found["sharing"]["times_sooner"] > 0
    assert found["left_out"] == [] and "tests" not in found


@pytest.mark.e2e
def test_what_no_longer_fits_is_named(tmp_path: Path) -> None:
    done, found = check(tmp_path / "check.json", "--seconds", "0.01")
    assert done.returncode == 1  # without its tests the check says nothing
    names = [*INFERENCE, *(f"training, {name}" for name in TRAINING), "sharing", "tests"]
    assert found["left_out"] == names
    assert (found["inference"], found["training"], found["sharing"], found["tests"]) == ([], [], None, None)
    assert done.stdout.splitlines()[-2].endswith("; ".join(names))


@pytest.mark.e2e
@pytest.mark.slow
def test_tests_marked_gpu_need_none_of_what_other_tests_need(tmp_path: Path) -> None:
    """They are found and skipped where there is neither a GPU nor hypothesis, as a machine with carried wheels may be."""
    (tmp_path / "hypothesis.py").write_text("raise ModuleNotFoundError('hypothesis')")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider"]
    command += ["-p", "no:hypothesispytest", *map(str, gpu_test_files())]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path.name for path in gpu_test_files()} >= {
        "test_on_gpu.py",
        "test_graphs_on_gpu.py",
        "test_sharing_a_gpu.py",
    }
    assert "skipped" in done.stdout and "passed" not in done.stdout


@pytest.mark.e2e
@pytest.mark.slow
def test_compiled_forms_and_tests_are_run_too(tmp_path: Path) -> None:
    if why_not_compiled(torch.device("cpu")):
        pytest.skip(why_not_compiled(torch.device("cpu")))
    # On a busy machine the compiler alone takes longer than eight minutes.
    done, found = check(tmp_path / "check.json", "--compiled", "--seconds", "3000")
    assert done.returncode == 0, done.stdout + done.stderr
    assert found["left_out"] == [] and found["tests"] == 0
    compiled = [row for row in found["inference"] if row["form"] == "compiled"]
    assert [row["dtype"] for row in compiled] == ["float32", "bfloat16"]
    assert all(row["largest_difference"] < 0.1 for row in compiled)
