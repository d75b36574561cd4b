"""`leaderboard build`: checks a folder of submissions from many labs and builds the site that ranks them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.common import progress_bar, terminal

if TYPE_CHECKING:
    from reports.submissions.site import Site

_BUILD = """\
Reads every *.zip in FOLDER as what a stranger sent: sizes are bounded, nothing in it is run, every text is escaped. One bad
file never stops the build: the site lists it with the reason. Rows share a ranking only where data, splits and rules are equal.
With --data the splits are compared with your own copy of the data, other data are refused, and numbers are recomputed from the
masks: equal ones are verified, others refused. What nobody could recompute is marked as unverified and ranked apart.

Exit code: 0 all accepted, 1 a submission was refused (the site is built all the same), 2 the command can't be run.
"""
_EXAMPLE = """\
example:
  python -m harness leaderboard build submissions --out site --data /path/to/data
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("leaderboard", help="rank submissions of many labs on a static site")
    parts = parser.add_subparsers(dest="part", metavar="<part>", required=True)
    build = parts.add_parser(
        "build",
        help="check the submissions in a folder and build the site",
        description=_BUILD,
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    build.add_argument("folder", type=Path, metavar="FOLDER", help="the submissions: *.zip, made by `submit`")
    build.add_argument("--out", type=Path, required=True, metavar="SITE", help="where to write the site")
    build.add_argument(
        "--data", type=Path, metavar="ROOT", help="your own copy of the dataset with its masks, to recompute numbers"
    )
    build.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from harness.data.dataset import existing_folder
    from harness.submissions.guard import Guarded
    from reports.submissions.entries import read_entries
    from reports.submissions.site import build_site
    from reports.tables.leaderboard import build_leaderboard

    data = None if args.data is None else existing_folder(args.data)
    with Guarded() as guarded:
        with progress_bar("Checking submissions") as progress:
            entries = read_entries(args.folder.expanduser(), data, guarded.judge, progress)
        site = build_site(entries, args.out.expanduser(), lambda records: guarded.call(build_leaderboard, records))
    return _tell(site)


def _tell(site: Site) -> int:
    console = terminal()
    for entry in site.entries:
        reason = f": {entry.verdict.reason}" if entry.verdict.reason else ""
        console.print(f"{entry.verdict.state}: {entry.file}{reason}", soft_wrap=True)
    console.print(f"Site: {site.index}", soft_wrap=True)
    return 1 if site.refused else 0
