"""`make perf-compare BASE=<revision>`: is the working tree slower than BASE? Exits with 1 and names what is.

Each benchmark runs in two processes, one per revision, that take turns, so that what disturbs the machine disturbs both. Two
processes of the same code can differ by some percent (where their memory happens to lie), so this is done with several pairs;
slower is what is slower in every one of them. What seems slower is measured again with new processes before it is said.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

TREE = Path(__file__).parents[2]
KEPT = TREE / ".perf"
"""Where BASE is checked out, and its own environment where its dependencies are others. Ignored by git."""

PAIRS, CONFIRMING_PAIRS = 2, 3
TURNS, SECONDS = 5, 4.0
"""Of one pair of processes: at least so many turns, and so long where these take less."""
EACH_PAIR, OVERALL = 1.04, 1.08
"""A slow-down: the median ratio of every pair of processes, and of all turns, is larger than these."""


@dataclass(frozen=True)
class Comparison:
    """Seconds of a benchmark with BASE and with the working tree: per pair of processes, the (base, new) of each turn."""

    pairs: tuple[tuple[tuple[float, float], ...], ...]

    @property
    def ratios(self) -> list[float]:
        """Of each pair of processes: the median of new / base."""
        return [median(new / base for base, new in turns) for turns in self.pairs]

    @property
    def ratio(self) -> float:
        return median(new / base for turns in self.pairs for base, new in turns)

    @property
    def is_slower(self) -> bool:
        return min(self.ratios) > EACH_PAIR and self.ratio > OVERALL

    def __str__(self) -> str:
        base, new = (median(turn[k] for turns in self.pairs for turn in turns) for k in (0, 1))
        return f"{base:8.3f} s -> {new:8.3f} s  x {self.ratio:.3f}  ({', '.join(f'{r:.3f}' for r in self.ratios)})"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default="HEAD", help="the revision to compare with")
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help="these benchmarks alone")
    options = parser.parse_args(arguments)
    base = checked_out(options.base)
    python = environment_of(base)
    names, base_names = benchmark_names(TREE, Path(sys.executable)), benchmark_names(base, python)
    unknown = sorted(set(options.only) - {*names, *base_names})
    if unknown:
        print(f"Unknown benchmarks: {', '.join(unknown)}. Expected some of: {', '.join(names)}.", file=sys.stderr)
        return 2
    missing = [name for name in base_names if name not in names and (not options.only or name in options.only)]
    shared = [name for name in names if name in base_names and (not options.only or name in options.only)]
    for name in names:
        if name not in base_names:
            print(f"{name}: new, nothing to compare with", flush=True)
    if (base / FILE).read_bytes() != (TREE / FILE).read_bytes():
        print(f"{FILE} differs between the revisions: a ratio may tell of the benchmark, not of the code.", flush=True)
    slower = []
    for name in shared:
        found = judged(lambda pairs, name=name: measured(name, base, python, pairs))  # type: ignore[misc]
        print(f"{name:28}{found}{'   SLOWER' if found.is_slower else ''}", flush=True)
        slower += [name] * found.is_slower
    return print_outcome(options.base, slower, missing, shared)


def print_outcome(base: str, slower: Iterable[str], missing: Iterable[str], shared: Iterable[str]) -> int:
    """Prints what is slower or missing -> the exit status."""
    for name in missing:
        print(
            f"{name} is a benchmark of {base} and is missing here. Name it as it was, or compare with a later revision."
        )
    for name in slower:
        print(f"{name} is slower than in {base}.")
    if not list(shared):
        print(f"Nothing was compared: {base} has none of these benchmarks.")
    if slower or missing or not list(shared):
        return 1
    print(f"Nothing is slower than in {base}.")
    return 0


def judged(measure: Callable[[int], Comparison]) -> Comparison:
    """What `measure` finds with a few pairs of processes; what seems slower is measured again, with others."""
    found = measure(PAIRS)
    return measure(CONFIRMING_PAIRS) if found.is_slower else found


FILE = Path("tests/performance/benchmarks.py")


def measured(name: str, base: Path, python: Path, pairs: int) -> Comparison:
    return Comparison(tuple(tuple(turns_of(name, base, python, swapped=bool(n % 2))) for n in range(pairs)))


def turns_of(name: str, base: Path, python: Path, *, swapped: bool) -> Iterator[tuple[float, float]]:
    """The (base, new) seconds of each turn of one pair of processes; `swapped`: that of BASE starts second."""
    sides = {"base": (base, python), "new": (TREE, Path(sys.executable))}
    with ExitStack() as stack:
        order = list(sides)[:: -1 if swapped else 1]
        ask = {side: stack.enter_context(worker(name, *sides[side])) for side in order}
        began, turn = time.monotonic(), 0
        while turn < TURNS or time.monotonic() - began < SECONDS:
            seconds = {side: ask[side]() for side in order[:: -1 if turn % 2 else 1]}
            yield seconds["base"], seconds["new"]
            turn += 1


@contextmanager
def worker(name: str, tree: Path, python: Path) -> Iterator[Callable[[], float]]:
    """A process that runs the benchmark `name` of `tree`: call it for the seconds of one run."""
    errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed below
    process = subprocess.Popen(
        [python, tree / "tests/performance/perf_worker.py", name],
        cwd=tree, env=environment(tree), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
    )  # fmt: skip

    def answer() -> str:
        line = process.stdout.readline()  # type: ignore[union-attr]
        if not line:
            errors.seek(0)
            raise SystemExit(f"The benchmark {name} failed in {tree}:\n{errors.read()}")
        return line

    def ask() -> float:
        process.stdin.write("\n")  # type: ignore[union-attr]
        process.stdin.flush()  # type: ignore[union-attr]
        return float(answer())

    try:
        answer()
        yield ask
    finally:
        process.kill()
        process.communicate()
        errors.close()


def environment(tree: Path) -> Mapping[str, str]:
    """One thread, hashes that do not vary; `tree`'s own code before what is installed."""
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    return os.environ | one | {"PYTHONPATH": f"{tree}{os.pathsep}{tree / 'tests'}", "PYTHONHASHSEED": "0"}


def checked_out(revision: str) -> Path:
    """A folder with the files of `revision`."""
    git = ["git", "-C", str(TREE)]
    found = subprocess.run([*git, "rev-parse", "--verify", f"{revision}^{{commit}}"], capture_output=True, text=True)
    if found.returncode:
        raise SystemExit(
            f"Expected a revision of this repository, found {revision!r}. `git log` shows which there are."
        )
    folder = KEPT / found.stdout.strip()
    if not folder.exists():
        subprocess.run([*git, "worktree", "prune"], check=True)
        subprocess.run([*git, "worktree", "add", "--quiet", "--detach", folder, found.stdout.strip()], check=True)
    return folder


def environment_of(tree: Path) -> Path:
    """The Python to run `tree` with: this one, or one of its own where its dependencies are others."""
    if (tree / "pyproject.toml").read_bytes() == (TREE / "pyproject.toml").read_bytes():
        return Path(sys.executable)
    print(f"The dependencies differ: installing those of {tree.name[:12]}.", flush=True)
    subprocess.run(["make", "setup"], cwd=tree, check=True, stdout=subprocess.DEVNULL)
    return tree / ".venv/bin/python"


def benchmark_names(tree: Path, python: Path) -> list[str]:
    if not (tree / FILE).exists():
        return []
    code = "from tests.performance.benchmarks import BENCHMARKS; print(*BENCHMARKS)"
    words = subprocess.run(
        [python, "-c", code], cwd=tree, env=environment(tree), check=True, capture_output=True, text=True
    )
    return words.stdout.split()


if __name__ == "__main__":
    sys.exit(main())
