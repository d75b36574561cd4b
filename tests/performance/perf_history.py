"""`make perf` ends here: one page that shows what each benchmark took in all kept runs of this machine."""

from __future__ import annotations

import json
import sys
from html import escape
from pathlib import Path

WIDTH, HEIGHT = 240, 36
PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Speed of the bench</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }}
table {{ border-collapse: collapse; width: 100% }}
td, th {{ padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #ccc; text-align: right; white-space: nowrap }}
td:first-child, th:first-child {{ text-align: left }}
svg {{ display: block }} polyline {{ fill: none; stroke: #1b6ca8; stroke-width: 1.5 }} circle {{ fill: #1b6ca8 }}
</style>
<h1>Speed of the bench</h1>
<p>Medians of {count} runs on {machine}, the oldest on the left; each line starts at zero. Clock times of two runs differ by some
percent by themselves: <code>make perf-compare BASE=&lt;revision&gt;</code> tells whether a revision is slower.</p>
<table><tr><th>Benchmark<th>History<th>Latest<th>Against the one before<th>Of the fastest</tr>
{rows}
</table>
"""


def main(folder: Path) -> Path:
    """Draws the runs that pytest-benchmark kept below `folder` into `folder`/history.html."""
    runs = [json.loads(path.read_text("utf-8")) for path in sorted(folder.rglob("*.json"))]
    machine = runs[-1]["machine_info"]
    same = [run for run in runs if run["machine_info"]["cpu"].get("brand_raw") == machine["cpu"].get("brand_raw")]
    series: dict[str, list[tuple[str, float]]] = {}
    for run in same:
        commit = run["commit_info"]["id"][:8] + ("+" if run["commit_info"]["dirty"] else "")
        for one in run["benchmarks"]:
            series.setdefault(one["param"] or one["name"], []).append((commit, one["stats"]["median"]))
    page = PAGE.format(
        count=len(same),
        machine=escape(f"{machine['node']} ({machine['cpu'].get('brand_raw', 'unknown processor')})"),
        rows="\n".join(row(name, values) for name, values in series.items()),
    )
    path = folder / "history.html"
    path.write_text(page, "utf-8")
    return path


def row(name: str, values: list[tuple[str, float]]) -> str:
    seconds = [value for _, value in values]
    against = f"x {seconds[-1] / seconds[-2]:.2f}" if len(seconds) > 1 else "-"
    best = f"x {seconds[-1] / min(seconds):.2f}"
    return f"<tr><td>{escape(name)}<td>{line(values)}<td>{1000 * seconds[-1]:,.1f} ms<td>{against}<td>{best}</tr>"


def line(values: list[tuple[str, float]]) -> str:
    """The medians as a line, with a dot for each run that names its commit."""
    top = max(value for _, value in values)
    step = WIDTH / max(1, len(values) - 1)
    points = [(4 + number * step, 4 + HEIGHT * (1 - value / top)) for number, (_, value) in enumerate(values)]
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5"><title>{escape(commit)}: {1000 * value:,.1f} ms</title></circle>'
        for (x, y), (commit, value) in zip(points, values, strict=True)
    )
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<svg width="{WIDTH + 8}" height="{HEIGHT + 8}"><polyline points="{path}"/>{dots}</svg>'


if __name__ == "__main__":
    print(main(Path(sys.argv[1])))
