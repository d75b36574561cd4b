"""The command line: one file per command, each imported cheaply and doing its heavy imports when it runs.

Exit codes: 0 done, 1 a trial failed, 2 a mistake of the user's, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from harness import __version__
from harness.errors import UserError, did_you_mean


class _Parser(argparse.ArgumentParser):
    """Says which command was meant, and exits with 2 as argparse does."""

    def error(self, message: str) -> None:  # type: ignore[override]
        self.exit(2, f"Error: {message}\nSee `{self.prog} --help`.\n")


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    from harness.cli import data, list_, plan, report, run

    parser = _Parser(
        prog="python -m harness",
        description="A bench on which medical image segmentation methods prove that they generalise.",
        epilog="Start with: python -m harness run suite=domain_generalization",
    )
    parser.add_argument("--version", action="version", version=f"delightsam-bench {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="<command>", parser_class=_Parser)
    for module in (run, plan, list_, report, data):
        module.add_parser(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = make_parser()
    names = ("run", "plan", "list", "report", "data")
    if arguments and not arguments[0].startswith("-") and arguments[0] not in names:
        print(f"Error: unknown command '{arguments[0]}'.{did_you_mean(arguments[0], names)}", file=sys.stderr)
        return 2
    args = parser.parse_args(arguments)
    if args.command is None:
        parser.print_help()
        return 2
    try:
        return int(args.run(args))
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nStopped. What is finished is kept; the same command goes on from here.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output (`| head`) has seen enough.
        sys.stderr.close()
        return 0
