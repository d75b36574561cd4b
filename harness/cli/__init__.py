"""The command line: one file per command, each imported cheaply and doing its heavy imports when it runs.

Exit codes: 0 done, 1 a trial failed, 2 a mistake of the user's, 130 stopped by Ctrl-C, 143 by SIGTERM.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from harness import __version__
from harness.cli.common import set_quiet
from harness.cli.logs import add_log_arguments, log_to_terminal
from harness.config.extensions import load_extensions
from harness.errors import TrialFailed, UserError, did_you_mean, raise_stop_behind

_COMMANDS = (
    "run", "status", "plan", "sweep", "list", "measure", "report", "submit", "leaderboard", "evaluate", "compare",
    "predict", "data", "doctor",
)  # fmt: skip


class _Parser(argparse.ArgumentParser):
    """Takes words before, between and after options, and exits with 2 and one message, as all of the bench does."""

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        # Here and not in `main`: the parser that meets a word it can't place is the command's own, and names its help.
        found, rest = super().parse_known_args(args, namespace)
        unknown = [word for word in rest if word.startswith("-") or "overrides" not in found]
        if unknown:
            hint = did_you_mean(unknown[0].partition("=")[0], self._option_string_actions)
            if "overrides" in found and "Did you mean" not in hint:
                hint += " Settings have no dashes: training.epochs=3."
            self.error(f"unknown: {' '.join(unknown)}.{hint if unknown[0].startswith('-') else ''}")
        if rest:
            # argparse itself takes words at one place only.
            found.overrides = [*found.overrides, *rest]
        return found, []

    def error(self, message: str) -> None:  # type: ignore[override]
        self.exit(2, f"Error: {message}\nSee `{self.prog} --help`.\n")


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    from harness.cli import (
        compare,
        data,
        doctor,
        evaluate,
        leaderboard,
        list_,
        measure,
        plan,
        predict,
        report,
        run,
        status,
        submit,
        sweep,
    )

    parser = _Parser(
        prog="python -m harness",
        description="A bench that measures how medical image segmentation methods generalise.",
        epilog="Start with: python -m harness run suite=domain_generalization",
    )
    parser.add_argument("--version", action="version", version=f"delightsam-bench {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="<command>", parser_class=_Parser)
    modules = (
        run, status, plan, sweep, list_, measure, report, submit, leaderboard, evaluate, compare, predict, data, doctor,
    )  # fmt: skip
    for module in modules:
        module.add_parser(commands)
    add_log_arguments(parser)
    return parser


def _find_modules_here() -> None:
    """Lets the installed command find a method's module in the folder it runs in, as `python -m harness` does."""
    with contextlib.suppress(OSError):  # The folder was deleted.
        here = str(Path.cwd())
        if here not in sys.path:
            sys.path.insert(0, here)


def _run(args: argparse.Namespace) -> int:
    try:
        load_extensions()
        return int(args.run(args))
    except Exception as error:
        raise_stop_behind(error)
        raise


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code."""
    for stream in (sys.stdout, sys.stderr):
        # Names of files may hold bytes that are no text, and a terminal may know ASCII alone: neither ends a command.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if argv is None:
        _find_modules_here()
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = make_parser()
    if "_ARGCOMPLETE" in os.environ:
        from harness.cli.completion import complete

        complete(parser)
    if arguments and not arguments[0].startswith("-") and arguments[0] not in _COMMANDS:
        print(f"Error: unknown command '{arguments[0]}'.{did_you_mean(arguments[0], _COMMANDS)}", file=sys.stderr)
        return 2
    args = parser.parse_args(arguments)
    if args.command is None:
        parser.print_help()
        return 2
    set_quiet(getattr(args, "quiet", False))
    log_to_terminal(verbose=getattr(args, "verbose", False))
    try:
        return _run(args)
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    except TrialFailed as error:  # outside a trial: a metric of one's own that `evaluate` computes
        print(f"Error: {error}", file=sys.stderr)
        return 1
    except RuntimeError as error:
        if not str(error).startswith(("Could not determine home directory", "Symlink loop")):
            raise
        print(f"Error: {str(error).rstrip('.')}. Give the path without ~ or links.", file=sys.stderr)
        return 2
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            # The reader of our output (`| head`) has seen enough.
            sys.stderr.close()
            return 0
        place = f"{error.filename}: " if error.filename else ""
        print(
            f"Error: {place}{error.strerror or error}. See that the file system lets it be read and written.",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("\nStopped. What is finished is kept; the same command goes on from here.", file=sys.stderr)
        return 130
