"""An outside trainer for tests: calls every fault by its name. `python toy_trainer.py STAGE [FAULT]`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from PIL import Image

stage, fault = sys.argv[1], (sys.argv[2:] or [""])[0]
work = Path(os.environ["BENCH_WORK"])
task = json.loads((work / "task.json").read_text())
with (work / "model" / "calls.txt").open("a") as calls:
    calls.write(f"{stage} {os.environ['BENCH_RESUME']}\n")


def wait_with_a_child() -> None:
    """Never ends; its child neither, in a process group of its own, and both are deaf to SIGTERM."""
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    child = subprocess.Popen([sys.executable, "-c", code], process_group=0)
    (work / "model" / "pids.txt").write_text(f"{os.getpid()} {child.pid}")
    time.sleep(600)


if stage == "train":
    if fault == "code":
        print("about to fail\na reason in words")
        sys.exit(3)
    if fault == "hang" and os.environ["BENCH_RESUME"] == "0":
        wait_with_a_child()
    if fault == "hang_always":
        wait_with_a_child()
    (work / "model" / "summary.json").write_text(json.dumps({"epochs": 7, "images_seen": 70}))
else:
    names = [(role, image["name"]) for role in ("validation", "test") for image in task["images"][role]]
    for role, name in names:
        image = Image.open(work / role / "images" / name).convert("L")
        image.point(lambda value: 255 if value < 90 else 0).save(work / "predictions" / name)
    first = work / "predictions" / names[-1][1]
    if fault == "missing":
        first.unlink()
    elif fault == "extra":
        shutil.copy(first, first.with_name("another.png"))
    elif fault == "size":
        Image.new("L", (5, 7)).save(first)
    elif fault == "grey":
        Image.effect_noise((Image.open(first).size), 50).save(first)
    elif fault == "no_picture":
        first.write_text("no picture")
