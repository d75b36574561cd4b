"""What commands that take a configuration share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

_WORDS = """\
Words are key=value, in any order. A group takes the name of a YAML file; a key changes one setting in it:
  suite=NAME  method=NAME,NAME  protocol=NAME  training=NAME  data=NAME  executor=NAME
  data.root=DIR  store.root=DIR  seeds=0,1,2  training.epochs=3  methods.unet.model.encoder_name=resnet34
`python -m harness list` shows the names, with --config-dir yours as well.
"""
_EXAMPLE = """\
example:
  {prog} suite=domain_generalization training=quick method=unet,otsu data.root=/path/to/data

`run` with the same words goes on where it stopped: what is finished is never run again.
"""


_quiet = False


def set_quiet(quiet: bool) -> None:
    """Whether the command was called with -q: standard error then has no progress."""
    global _quiet
    _quiet = quiet


def terminal(*, stderr: bool = False) -> Console:
    """Where commands print. Names are shown as they are: `[red]` in one is no colour, `:smile:` no picture."""
    from rich.console import Console

    return Console(stderr=stderr, markup=False, emoji=False, highlight=False, quiet=_quiet and stderr)


def unquoted(value: str) -> str:
    """A word's value without the quotes that Hydra asks for around blanks and brackets."""
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" else value


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the words, `--config-dir` and, below the command's own description, what both can be."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = f"{parser.description}\n\n{_WORDS}" if parser.description else _WORDS
    parser.epilog = _EXAMPLE.format(prog=parser.prog)
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="what to change; none: the default suite"
    ).completer = _complete  # type: ignore[attr-defined]
    parser.add_argument(
        "--config-dir",
        type=Path,
        metavar="DIR",
        help="a folder of your own YAML files, laid out as suites/ (method/mine.yaml)",
    )


def _complete(prefix: str, parsed_args: argparse.Namespace, **_: object) -> list[str]:
    from harness.cli.completion import words

    return words(prefix, parsed_args)


def config_folder_argument(args: argparse.Namespace) -> Path | None:
    """The checked `--config-dir`.

    Raises:
        UserError: it is no folder, or not laid out as the shipped tree.
    """
    from harness.config.yaml_tree import check_own_tree

    folder: Path | None = args.config_dir
    if folder is not None:
        check_own_tree(folder)
    return folder


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal's error stream, with the time that is left; nothing when that is no terminal.

    Gives a function of (done, total).
    """
    from rich.progress import Progress

    with Progress(console=terminal(stderr=True), transient=True, disable=not terminal(stderr=True).is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
