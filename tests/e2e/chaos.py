"""Kills runs with SIGKILL at random moments, and looks whether the same command ends them as if nothing had happened.

`python -m tests.e2e.chaos 30` is the long version: in each round the driver, a worker or the raylet dies. Only processes are
killed that this one started, found as its descendants.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .conftest import PLAIN, command, environment
from .forked import Forked
from .processes import Process, descendants, still_alive

Driver = subprocess.Popen[bytes] | Forked
VICTIMS = ("driver", "worker", "raylet")
MOST_STARTS = 5
START_SECONDS = 600
TESTS = Path(__file__).resolve().parents[1]
# Trained in seconds, with several epochs reported in each: a kill may fall anywhere.
WORDS = (
    "data.modalities=[dermoscopy,xray]",
    "data.phantoms.images_per_domain=4",
    "data.phantoms.image_size=64",
    "training.image_size=64",
    "training.amp=off",
    "training.epochs=12",
    "method=[tiny,mean_mask]",
    "store.checkpoint_seconds=0",
    "store.keep_weights=false",
    "efficiency_seconds=0.1",
    "efficiency_image_size=32",
)
TINY = """\
# @package methods.tiny
card: {title: Tiny, paper: none, licence: MIT, prompt: none, uses_modality: false, pretrained: none, pretrained_on: []}
version: 1
model: {_target_: toy_dying.Rests, width: 4}
training: {}
"""


def tiny_words(name: str, folder: Path, *words: str) -> list[str]:
    """The words of a command about `method=tiny`, whose file is left in `folder`."""
    tree = folder / "mine" / "method"
    tree.mkdir(parents=True, exist_ok=True)
    (tree / "tiny.yaml").write_text(TINY)
    return [name, "--config-dir", str(tree.parent), *words]


TINY_ENVIRONMENT = {**PLAIN, "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])}


@dataclass(frozen=True)
class Kill:
    """Who dies, and when: `seconds` after this start's first trial runs and the part `progress` of all epochs is done."""

    victim: str
    progress: float
    seconds: float


@dataclass
class Chaos:
    """One folder with a store, and the command that fills it.

    Attributes:
        forked: from a process that has loaded the libraries, to be quick; otherwise by `python -m harness`.
    """

    folder: Path
    cache: Path
    executor: str = "ray"
    words: Sequence[str] = WORDS
    trials: int = 6
    forked: bool = False
    # Result -> when it was written: a trial that is done never runs again.
    finished: dict[Path, int] = field(default_factory=dict)
    family: set[Process] = field(default_factory=set)

    @property
    def store(self) -> Path:
        return self.folder / "runs"

    def start(self) -> Driver:
        words = tiny_words("run", self.folder, *self.words, f"executor={self.executor}", f"data.cache={self.cache}")
        log = self.folder / "log.txt"
        if self.forked:
            return Forked(words, self.folder, log=log, **TINY_ENVIRONMENT)
        with log.open("ab") as file:
            own = {**environment(), **TINY_ENVIRONMENT}
            return subprocess.Popen(command(*words), cwd=self.folder, env=own, stdout=file, stderr=file)

    def look(self, driver: Driver) -> None:
        """Notes what is done and who belongs to the run."""
        for path in self.store.glob("trials/*/result.json"):
            written = path.stat().st_mtime_ns
            assert self.finished.setdefault(path, written) == written, f"{path.parent.name} was done and ran again"
        if driver.poll() is None:
            self.family |= descendants(driver.pid)

    def live(self, kills: Sequence[Kill] = ()) -> tuple[int, list[Kill]]:
        """Starts the command once; returns its exit code and the kills that found their victim."""
        begun, due, todo, hit = time.time(), float("inf"), list(kills), list[Kill]()
        driver = self.start()
        try:
            while driver.poll() is None:
                self.look(driver)
                if todo and due == float("inf") and busy(self.store, begun) and self.progress() >= todo[0].progress:
                    due = time.monotonic() + todo[0].seconds
                if time.monotonic() >= due:
                    kill, due = todo.pop(0), float("inf")
                    hit += [kill] if self._kill(kill.victim, driver) else []
                assert time.time() - begun < START_SECONDS, f"hangs: {self.tail()}"
                time.sleep(0.2)
            self.look(driver)
        finally:
            if driver.poll() is None:
                driver.kill()
            driver.wait()
        assert driver.returncode is not None
        return driver.returncode, hit

    def _kill(self, kind: str, driver: Driver) -> bool:
        """False: no such process is there."""
        self.look(driver)
        if kind == "driver":
            driver.kill()
            return True
        found = [process for process in self.family if process.alive and _is(kind, process)]
        for process in found[:1]:
            process.kill()
        return bool(found)

    def progress(self) -> float:
        """The part of all trials' epochs that is done, 0 to 1."""
        done = 0.0
        for path in self.store.glob("trials/*/status.json"):
            status = json.loads(path.read_text("utf-8"))
            done += 1.0 if status["state"] == "done" else status.get("epoch", 0) / status.get("epochs", 1)
        return done / self.trials

    def until_done(self, kills: Sequence[Sequence[Kill]]) -> tuple[int, list[Kill]]:
        """Repeats the command under these kills until it is done; returns how often it started and which kills hit."""
        hits = list[Kill]()
        for start in range(MOST_STARTS):
            code, hit = self.live(kills[start] if start < len(kills) else ())
            hits += hit
            # 1: trials failed for what was killed, and the command says: try again.
            assert code in (0, 1, -signal.SIGKILL), f"exit code {code}: {self.tail()}"
            if code == 1:
                words = ("To try again", "the same command goes on")
                assert any(word in self.tail() for word in words), f"ended without a word: {self.tail()}"
            if code == -signal.SIGKILL:
                assert "driver" in [kill.victim for kill in hit], f"killed by somebody else: {self.tail()}"
            if code == 0 and start >= len(kills) - 1:
                return start + 1, hits
        raise AssertionError(f"not done after {MOST_STARTS} starts: {self.tail()}")

    def samples(self) -> dict[str, str]:
        """Trial id -> SHA-256 of its samples, of all finished trials."""
        return {
            path.parts[-6]: hashlib.sha256((path.parent / "samples.parquet").read_bytes()).hexdigest()
            for path in self.store.glob("trials/*/predictions/*/measurements/*/result.json")
        }

    def outlived(self, seconds: float = 90.0) -> list[str]:
        """Ends what of the run's processes is still there after that time, by id; returns their names.

        An agent of a killed raylet tells the cluster's control service of it first; where that is gone too, Ray waits for
        it for a minute.
        """
        left = still_alive(self.family, seconds)
        names = [Path(process.title).name for process in left]
        for process in left:
            process.kill()
        return names

    def tail(self) -> str:
        return (self.folder / "log.txt").read_text("utf-8", "replace")[-3000:]


def _is(kind: str, process: Process) -> bool:
    if kind == "raylet":
        return Path(process.title).name == "raylet"
    return process.title.startswith("ray::ImplicitFunc")  # Ray's name for what runs a trial


def busy(store: Path, since: float) -> bool:
    """Whether a trial has said, later than `since`, that it runs."""
    for path in store.glob("trials/*/status.json"):
        try:
            if '"running"' in path.read_text("utf-8") and path.stat().st_mtime > since:
                return True
        except FileNotFoundError:  # moved aside
            continue
    return False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rounds", type=int, nargs="?", default=30)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    draw, failures = random.Random(args.seed), 0
    with tempfile.TemporaryDirectory(prefix="chaos-") as place:
        folder = Path(place)
        (folder / "whole").mkdir()
        whole = Chaos(folder / "whole", folder / "cache")
        whole.until_done([])
        expected = whole.samples()
        assert len(expected) == whole.trials
        print(f"undisturbed: {len(expected)} trials", flush=True)
        number = 0
        while number < args.rounds:
            victim = draw.choice(VICTIMS)
            # The driver has work after the last trial, too: costs, and the report.
            kill = Kill(victim, draw.uniform(0.0, 1.0 if victim == "driver" else 0.9), draw.uniform(0.0, 1.0))
            bench = Chaos(folder / "round", folder / "cache")
            bench.folder.mkdir()
            began = time.monotonic()
            try:
                starts, hits = bench.until_done([[kill]])
                fault = "" if bench.samples() == expected else "other bytes, or other trials, than the undisturbed run"
            except AssertionError as error:
                starts, hits, fault = 0, [kill], str(error)
            left = bench.outlived()
            seconds = time.monotonic() - began
            if not hits and not fault:
                print(f"  the run was over before its {kill.victim} could be killed: not counted", flush=True)
            else:
                number += 1
                failures += bool(fault)
                outcome = f"FAILED: {fault}" if fault else f"complete, same bytes, {starts} starts"
                outcome += f", outlived by {', '.join(left)}" if left else ""
                print(f"{number:3d} {kill.victim:6s} at {kill.progress:4.0%}: {outcome} ({seconds:.0f} s)", flush=True)
            subprocess.run(["rm", "-rf", str(bench.folder)], check=True)
    print(f"{args.rounds - failures} of {args.rounds} rounds ended complete and with the same bytes", flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
