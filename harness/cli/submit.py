"""`submit`: packs the results of a run into one file, for a leaderboard that ranks those of many labs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.common import terminal
from harness.cli.report import add_run_arguments, chosen_runs
from harness.errors import UserError, counted

if TYPE_CHECKING:
    from reports.submissions.packing import Packed

_DESCRIPTION = """\
Packs the results of a finished run into one file: numbers of every image, settings, cards, provenance, checksums, and the
predicted masks, so that others can recompute the numbers. It holds no image, no reference mask, no path and no host name.
Methods that lack a trial are left out. The same results give the same bytes.
"""
_EXAMPLE = """\
example:
  python -m harness submit --out ours.zip --name 'Our lab' --licence CC-BY-4.0
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "submit",
        help="pack the results of a run for a leaderboard",
        description=_DESCRIPTION,
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_run_arguments(parser)
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="where to write it: a name that ends in .zip"
    )
    parser.add_argument("--method", action="append", default=[], metavar="NAME", help="only these methods; * and ? fit")
    parser.add_argument("--seed", action="append", default=[], type=int, metavar="N", help="only these seeds")
    parser.add_argument(
        "--add",
        type=Path,
        metavar="FILE",
        help="also what this earlier file of yours holds: methods, and other seeds of the same methods",
    )
    for name, what in (
        ("name", "who submits: a person, a lab"),
        ("contact", "how to reach you; it is shown on the site"),
        ("licence", "of the masks and numbers, for example CC-BY-4.0"),
        ("note", "what a reader should know"),
    ):
        parser.add_argument(f"--{name}", default="", metavar="TEXT", help=what)
    parser.add_argument(
        "--without-masks", action="store_true", help="numbers alone: a leaderboard then marks them as unverified"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from harness.files import atomic_write_bytes
    from harness.submissions.layout import LONGEST_LINE, LONGEST_TEXT
    from harness.submissions.manifest import check_text
    from harness.submissions.reading import read_chosen
    from reports.records.runs import read_runs
    from reports.records.selection import Selection, select
    from reports.submissions.packing import pack_records

    if args.out.suffix != ".zip":
        raise UserError(f"--out {args.out}: expected a name that ends in .zip: leaderboards read no others.")
    runs = chosen_runs(args)
    records = select(read_runs(runs), Selection(methods=tuple(args.method), seeds=tuple(args.seed)))
    submitter = {key: getattr(args, key) for key in ("name", "contact", "licence", "note")}
    for key, text in submitter.items():
        check_text(text, f"--{key}", LONGEST_TEXT if key == "note" else LONGEST_LINE)
    earlier = (str(args.add), read_chosen(args.add)) if args.add else None
    packed = pack_records(
        records, [suite for _, suite in runs], submitter, with_masks=not args.without_masks, earlier=earlier
    )
    atomic_write_bytes(args.out.expanduser(), packed.content)
    _tell(packed, args.out, terminal())
    return 0


def _tell(packed: Packed, out: Path, console: Any) -> None:
    for title, why in packed.left_out.items():
        print(f"Left out of the run: {title}: {why}.", file=sys.stderr)
    masks = counted(packed.masks, "mask") if packed.masks else "no masks: a leaderboard marks it as unverified"
    counts = (
        f"{counted(packed.trials, 'trial')}, {counted(packed.images, 'image')}, {counted(packed.rows, 'row')}, {masks}"
    )
    console.print(f"{out}: {len(packed.content) / 1e6:.2f} MB", soft_wrap=True)
    console.print(f"  methods: {', '.join(packed.methods)}\n  {counts}", soft_wrap=True)
    console.print("  no images, no reference masks, no paths, no host names", soft_wrap=True)
    console.print(
        "Next: look at it as a leaderboard shows it (python -m harness leaderboard build FOLDER --out SITE, with this file in"
        " FOLDER),\nthen add it to a leaderboard's folder of submissions by a pull request.",
        soft_wrap=True,
    )
