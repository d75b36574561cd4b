"""`report`: the leaderboard of one run that is in a store, or of several together."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.common import terminal
from harness.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from harness.store.records import SuiteRecord
    from harness.store.store import Store


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "report", help="make the report of a suite's latest run, of an earlier one, or of several"
    )
    add_run_arguments(parser)
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write; default: `report` in the run's folder")
    for name, what in (
        ("method", "methods"),
        ("modality", "modalities"),
        ("domain", "domains (modality/domain)"),
        ("prompt", "kinds of prompt"),
    ):
        parser.add_argument(
            f"--{name}", action="append", default=[], metavar="NAME", help=f"only these {what}; * and ? fit"
        )
    parser.add_argument("--seed", action="append", default=[], type=int, metavar="N", help="only these seeds")
    parser.add_argument(
        "--published",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="YAML of results that papers report, or a file of `submit`; again: several. Shown in grey, never ranked",
    )
    parser.add_argument("--figures", action="store_true", help="also write every figure as SVG, PDF and PNG")
    parser.set_defaults(run=run)


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what names one run or several: `chosen_runs` reads it."""
    parser.add_argument("overrides", nargs="*", metavar="store.root=DIR", help="the store, as for `run`; default: runs")
    parser.add_argument(
        "--store",
        type=Path,
        action="append",
        metavar="DIR",
        help="the same as store.root=DIR; again: a run of each store",
    )
    parser.add_argument("--suite", metavar="NAME", help="the suite; default: whichever ran last")
    parser.add_argument(
        "--run",
        dest="times",
        action="append",
        metavar="TIME",
        help="the run's time, as its folder is named; again: runs in one report; default: the last with a finished trial",
    )


def chosen_runs(args: argparse.Namespace) -> list[tuple[Store, SuiteRecord]]:
    """The runs that the words name.

    Raises:
        UserError: there is none, or several runs of several stores.
    """
    from harness.store.store import Store
    from reports.records.runs import find_suite

    stores = [Store(root) for root in _store_roots(args.overrides, args.store or [])]
    if args.times and len(args.times) > 1 and len(stores) > 1:
        raise UserError("Expected several runs of one store, or one run each of several stores; found several of both.")
    return [(store, find_suite(store, args.suite, time)) for store in stores for time in args.times or [None]]


def run(args: argparse.Namespace) -> int:
    from reports.build import build_report_of
    from reports.records.selection import Selection

    runs = chosen_runs(args)
    selection = Selection(
        tuple(args.method), tuple(args.modality), tuple(args.domain), tuple(args.prompt), tuple(args.seed)
    )
    if args.out is None and (str(selection) or len(runs) > 1):
        # The run's own report stays what it is: of this run, and of all of it.
        raise UserError("A report of several runs, or of a part of one, needs a place of its own: --out DIR")
    out = args.out or runs[0][1].folder / "report"
    paths = build_report_of(runs, out, selection=selection, published=args.published, figure_files=args.figures)
    console = terminal()
    paths.print_table(console)
    console.print(paths.words, soft_wrap=True, highlight=False)
    return 0


def _store_roots(overrides: list[str], options: list[Path]) -> list[Path]:
    from harness.config import StoreConfig

    roots = list(options)
    for word in overrides:
        key, equals, value = word.partition("=")
        if key != "store.root" or not equals or not value:
            hint = did_you_mean(key, ["store.root"]) if equals else f" Of a store write store.root={word}"
            raise UserError(f"Expected store.root=DIR, found '{word}'.{hint}")
        if options:
            raise UserError("The store is given twice: use either store.root=DIR or --store DIR.")
        roots.append(Path(value))
    return roots or [Path(StoreConfig().root)]
