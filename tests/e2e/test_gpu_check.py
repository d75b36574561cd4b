"""`make gpu-check` where there is no GPU: every step runs, on small images."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .forked import finished


@pytest.mark.e2e
def test_every_step_runs_without_a_gpu(tmp_path: Path) -> None:
    out = tmp_path / "check.json"
    words = ["--out", str(out), "--without-tests"]
    done = finished(words, tmp_path, 600, program="tests.performance.gpu_check", CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text("utf-8"))
    assert {row["form"] for row in found["inference"]} >= {"model", "accelerated"}
    assert all(row["largest_difference"] < 0.1 for row in found["inference"])
    assert [row["method"] for row in found["training"]][-1] == "unet, bare loop"
    assert all(row["median"] > 0 for row in found["training"])
    assert found["sharing"]["trials"] == 1
