"""`report`: the leaderboard of a run that is in the store."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.errors import UserError, did_you_mean


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("report", help="make the report of a suite's latest run, or of an earlier one")
    parser.add_argument("overrides", nargs="*", metavar="store.root=DIR", help="the store, as for `run`; default: runs")
    parser.add_argument("--store", type=Path, metavar="DIR", help="the same as store.root=DIR")
    parser.add_argument("--suite", metavar="NAME", help="the suite; default: whichever ran last")
    parser.add_argument(
        "--run",
        dest="time",
        metavar="TIME",
        help="the run's time, as its folder is named; default: the last with a finished trial",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write; default: `report` in the run's folder")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from rich.console import Console

    from harness.store import Store
    from reports.build import build_report
    from reports.records import find_suite

    store = Store(_store_root(args.overrides, args.store))
    suite = find_suite(store, args.suite, args.time)
    paths = build_report(store.root, suite.folder, args.out or suite.folder / "report")
    console = Console()
    paths.print_table(console)
    console.print(f"Report: {paths.html}", soft_wrap=True, highlight=False)
    return 0


def _store_root(overrides: list[str], option: Path | None) -> Path:
    from harness.config import StoreConfig

    root = option
    for word in overrides:
        key, equals, value = word.partition("=")
        if key != "store.root" or not equals or not value:
            raise UserError(f"report takes store.root=DIR; found '{word}'.{did_you_mean(key, ['store.root'])}")
        if root is not None:
            raise UserError("The store is given twice: use either store.root=DIR or --store DIR.")
        root = Path(value)
    return root if root is not None else Path(StoreConfig().root)
