"""Many trials that train nothing, through the real executor, store, status and resume: what does bookkeeping cost?

`python tests/simulation/scale.py 10000 /scratch/folder` prints a line every tenth of the way and at last one JSON object.
"""

from __future__ import annotations

import io
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from harness.config import ExecutorConfig
from harness.execution import make_executor
from harness.execution.progress import ProgressDisplay
from harness.store.records import TrialEntry
from harness.store.store import Store
from harness.trial import TrialContext
from harness.trial_spec import TrialSpec
from tests.e2e.processes import descendants

HERE = Path(__file__).resolve().parent
# As the real images that the bench was first run on: six modalities of three domains with 40 images each.
IMAGES = [f"modality{m}/domain{d}/{i:04d}" for m in range(6) for d in range(3) for i in range(40)]


def make_trials(count: int) -> list[TrialSpec]:
    """Ten methods, three folds, as many seeds as it takes; the specs are as large as real ones."""
    trials = []
    for number in range(count):
        method, fold, seed = number % 10, number // 10 % 3, number // 30
        test = [key for key in IMAGES if f"domain{fold}" in key]
        train = [key for key in IMAGES if f"domain{fold}" not in key]
        spec = {
            "method": {
                "name": f"method{method}", "version": 1, "model": {"_target_": "nowhere.Nothing"}, "files": {},
                "card": {"title": f"Method {method}", "paper": "none", "licence": "MIT", "prompt": "none",
                         "uses_modality": False, "pretrained": "none", "pretrained_on": []},
            },
            "training": {"image_size": 128, "epochs": 3, "cpu_threads": 1, "selection": "last"},
            "versions": {"training": 1, "arrays": 1},
            "protocol": {"name": "leave_one_domain_out", "scope": "universal"},
            "split": {"name": f"fold{fold}", "held_out": [f"modality{m}/domain{fold}" for m in range(6)],
                      "fingerprint": f"{fold:064d}", "train": train[72:], "validation": train[:72], "test": test},
            "data": {"root": "/nowhere", "name": "nowhere"}, "seed": seed,
            "metrics": {"version": 1, "empty": "diagonal", "nsd_tolerance": 2.0},
        }  # fmt: skip
        trials.append(TrialSpec.from_json(spec))
    return trials


@dataclass
class Watch:
    """Follows the run as a tracker would, and notes time and memory."""

    total: int
    began: float = field(default_factory=time.monotonic)
    ended: int = 0
    seconds: list[float] = field(default_factory=list)
    driver: list[float] = field(default_factory=list)
    others: dict[str, float] = field(default_factory=dict)

    def start(self, trial_id: str) -> None: ...

    def update(self, trial_id: str, event: dict[str, Any]) -> None: ...

    def end_trial(self, trial_id: str, state: str) -> None:
        assert state == "done", f"{trial_id} {state}"
        self.ended += 1
        if self.ended % max(1, self.total // 10) == 0:
            self.seconds.append(time.monotonic() - self.began)
            self.driver.append(resident(os.getpid()))
            self.others = ray_processes()
            others = ", ".join(f"{name} {size:.0f}" for name, size in sorted(self.others.items()))
            print(
                f"{self.ended:6d} trials {self.seconds[-1]:7.1f} s  driver {self.driver[-1]:.0f} MiB, {others}",
                flush=True,
            )


def resident(pid: int) -> float:
    """MiB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20


def ray_processes() -> dict[str, float]:
    """MiB of the gcs_server and raylet that this process started."""
    named = {Path(child.title).name: child.pid for child in descendants(os.getpid())}
    return {name: resident(named[name]) for name in ("gcs_server", "raylet") if name in named}


def timed(call: Any) -> float:
    began = time.monotonic()
    call()
    return time.monotonic() - began


def simulate(count: int, folder: Path) -> dict[str, Any]:
    """Runs `count` trials below `folder` and measures; see the module."""
    paths = [str(HERE), str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    trials = make_trials(count)
    store = Store(folder / "runs")
    store.prepare()
    entries = [TrialEntry.of(trial) for trial in trials]
    suite = store.start_suite("scale", "name: scale\nmethods: {}\n", entries)
    context = TrialContext(store_root=str(store.root), cache_folder=str(folder / "cache"))
    config = ExecutorConfig(name="ray", device="cpu")
    make_executor(config)  # sets Ray's environment
    from harness.execution.ray.executor import RayTuneExecutor

    executor = RayTuneExecutor(config, "synthetic_trial.run")
    before, watch, used = resident(os.getpid()), Watch(count), time.process_time()
    with ProgressDisplay(count, Console(file=io.StringIO()), [watch]) as progress:
        outcomes = executor.run(trials, context, progress)
    whole = time.monotonic() - watch.began
    assert [outcome.state for outcome in outcomes] == ["done"] * count
    after, cpu = resident(os.getpid()), time.process_time() - used
    resume = timed(lambda: [store.result(trial.ids) for trial in trials])
    words = [sys.executable, "-m", "harness", "status", f"store.root={store.root}"]
    subprocess.run(words, check=True, capture_output=True)  # its files are in memory now
    used = os.times()
    wall = timed(lambda: subprocess.run(words, check=True, capture_output=True))
    then = os.times()
    status = then.children_user + then.children_system - used.children_user - used.children_system
    tenths = [b - a for a, b in zip(watch.seconds, watch.seconds[1:], strict=False)]
    return {
        "trials": count,
        "seconds": round(whole, 1),
        "seconds_per_trial_by_tenths": [round(tenth / (count // 10), 4) for tenth in tenths],
        "driver_mib_before": round(before),
        "driver_mib_by_tenths": [round(size) for size in watch.driver],
        "driver_mib_after": round(after),
        "driver_cpu_seconds_per_trial": round(cpu / count, 4),
        "ray_mib": {name: round(size) for name, size in watch.others.items()},
        "finding_what_is_done_seconds": round(resume, 2),
        "status_seconds": round(wall, 2),
        "status_cpu_seconds": round(status, 2),
        "report_seconds": round(timed(lambda: _report(store, suite)), 1),
        "driver_mib_peak_with_report": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "store_mib": round(sum(path.stat().st_size for path in store.root.rglob("*") if path.is_file()) / 2**20),
    }


def _report(store: Store, suite: Path) -> None:
    from reports.build import build_report

    build_report(store.root, suite, suite / "report")


if __name__ == "__main__":
    place = Path(sys.argv[2])
    place.mkdir(parents=True, exist_ok=True)
    try:
        print(json.dumps(simulate(int(sys.argv[1]), place)))
    finally:
        if "keep" not in sys.argv:
            shutil.rmtree(place / "runs", ignore_errors=True)
