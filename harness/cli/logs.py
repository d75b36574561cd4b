"""What a command says beside its result: on the terminal, more or less of it by -v and -q, and in a run's `run.log`."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from harness.files import explain_disk_errors

if TYPE_CHECKING:
    from rich.console import Console

_PACKAGES = ("harness", "reports", "delightsam", "baselines")
_TERMINAL = "delightsam-bench terminal"
EVENTS = logging.getLogger("harness.events")
"""Lines that the terminal shows by itself: they go to log files alone."""
EVENTS.addHandler(logging.NullHandler())


def add_log_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds -v and -q to a command and to its sub-commands."""
    group = parser.add_mutually_exclusive_group()
    # Without defaults: a sub-command must not take back what stands before it.
    nothing = argparse.SUPPRESS
    group.add_argument(
        "-v", "--verbose", action="store_true", default=nothing, help="say more of what is done, and when"
    )
    group.add_argument(
        "-q", "--quiet", action="store_true", default=nothing, help="no progress: the result, warnings and errors only"
    )
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                add_log_arguments(command)


def log_to_terminal(*, verbose: bool) -> None:
    """Warnings on standard error; with `verbose` every step and its time."""
    root = logging.getLogger()
    if not root.handlers:
        own = logging.StreamHandler()
        own.set_name(_TERMINAL)
        own.addFilter(lambda record: record.name != EVENTS.name)
        root.addHandler(own)
    words = "%(asctime)s %(levelname)s %(name)s: %(message)s" if verbose else "%(levelname)s: %(message)s"
    for handler in (each for each in root.handlers if each.name == _TERMINAL):
        handler.setLevel(logging.INFO if verbose else logging.WARNING)
        handler.setFormatter(logging.Formatter(words, "%H:%M:%S"))
    for name in _PACKAGES:
        logging.getLogger(name).setLevel(logging.INFO if verbose else logging.NOTSET)


@contextmanager
def log_to_file(path: Path) -> Iterator[None]:
    """Also writes what happens in the block into `path`, and the traceback of what ends it."""
    with explain_disk_errors(path):
        handler = _FileHandler(path, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%Y-%m-%d %H:%M:%S"))
    loggers = [logging.getLogger(name) for name in _PACKAGES]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.INFO)
        logger.addHandler(handler)
    try:
        yield
    except KeyboardInterrupt:
        EVENTS.error("Stopped by Ctrl-C.")
        raise
    except Exception:
        EVENTS.exception("Ended by an error.")
        raise
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)
        handler.close()


class _FileHandler(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:
        """A full disk must not end a run, nor fill the terminal: what can't be logged is lost."""


def tell(console: Console, text: str) -> None:
    """Shows a line, and logs it."""
    console.print(text, soft_wrap=True, highlight=False, markup=False)
    EVENTS.info(text)
