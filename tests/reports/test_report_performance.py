"""A report of a large store stays within its time, memory and size; `pytest tests/reports -m performance -s`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reports.build import build_report
from tests.reports import big_store
from tests.reports.big_store import write_big_store

SECONDS, MEBIBYTES, BYTES, FIRST_PAINT_MS, LOADED_MS = 90, 2048, 8_000_000, 2000, 1000

MEASURED = """
import json, resource, sys, time
from reports.build import build_report
start = time.perf_counter()
page = build_report(*sys.argv[1:]).html
print(json.dumps({
    "seconds": time.perf_counter() - start, "cpu": time.process_time(), "bytes": page.stat().st_size,
    "mebibytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
}))
"""


def measure(store: Path, run: Path, out: Path) -> dict[str, float]:
    words = [sys.executable, "-c", MEASURED, str(store), str(run), str(out)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.performance
def test_a_thousand_trials_of_a_thousand_images(tmp_path: Path, open_page: Callable[..., Any]) -> None:
    large, run = write_big_store(tmp_path / "large", methods=20, seeds=5)
    small, small_run = write_big_store(tmp_path / "small", methods=20, seeds=1)
    found = measure(large, run, tmp_path / "out")
    fewer = measure(small, small_run, tmp_path / "fewer")
    page = open_page(tmp_path / "out" / "leaderboard.html")
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    loaded = page.evaluate("performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd")
    print(f"\n1,000 trials: {found}\n  200 trials: {fewer}\nfirst paint: {paint:.0f} ms, loaded: {loaded:.0f} ms")
    assert found["seconds"] <= SECONDS and found["mebibytes"] <= MEBIBYTES
    assert found["bytes"] <= BYTES and paint < FIRST_PAINT_MS and loaded < LOADED_MS
    # Five times as many trials of the same methods and domains take at most five times as long.
    assert found["cpu"] <= 5 * fewer["cpu"]


def test_more_seeds_make_no_larger_page(tmp_path: Path, without_figures: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The light one: what is on the page grows with methods and domains, not with trials and images."""
    monkeypatch.setattr(big_store, "FOLDS", 3)
    pages = []
    for seeds, images in ((1, 40), (2, 80)):
        store, run = write_big_store(tmp_path / str(seeds), methods=2, seeds=seeds, images=images)
        pages.append(build_report(store, run, tmp_path / f"out{seeds}").html.read_text("utf-8"))
    row = len("<tr><td><code>0123456789ab</code></td><td><bdi>method_00</bdi></td><td>fold0</td>") + 100
    assert len(pages[1]) - len(pages[0]) < 6 * row + 6_000
