"""Takes the README's picture of the newest leaderboard below runs/: `make picture`. Needs Chromium on the machine."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

OUT = Path(__file__).with_name("leaderboard.png")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


def main() -> int:
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    reports = sorted(Path("runs").glob("suites/domain_generalization/*/report/leaderboard.html"))
    if browser is None or not reports:
        print("Needs Chromium, and a run: make demo", file=sys.stderr)
        return 2
    with sync_playwright() as play, tempfile.TemporaryDirectory() as profile:
        context = play.chromium.launch_persistent_context(
            profile, executable_path=browser, headless=True, args=FLAGS, viewport={"width": 1440, "height": 1000}
        )
        page = context.new_page()
        page.goto(reports[-1].resolve().as_uri())
        page.screenshot(path=OUT)
        context.close()
    print(OUT)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
