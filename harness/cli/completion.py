"""What a shell's TAB offers for the words key=value: groups, names of files, keys and the values they take."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from harness.config.yaml_tree import GROUPS, option_names
from harness.errors import UserError


def complete(parser: argparse.ArgumentParser) -> None:
    """Answers the shell and ends the process, where a shell asks (argcomplete sets _ARGCOMPLETE); else does nothing."""
    import argcomplete

    argcomplete.autocomplete(parser)


def words(prefix: str, parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    """What a word that begins with `prefix` may become.

    Args:
        parsed_args: its `config_dir`, if given, adds a user's own names.
    """
    from harness.config.checks import all_keys
    from harness.config.overrides import PATH_KEYS
    from harness.config.schema import RunConfig
    from harness.config.validation import OneOf, rule_of

    key, equals, value = prefix.partition("=")
    if not equals:
        return [f"{name}=" for name in [*GROUPS, *all_keys()] if name.startswith(key)]
    if key in PATH_KEYS:
        from argcomplete.completers import FilesCompleter

        return [f"{key}={path}" for path in FilesCompleter()(value)]
    # Lists: what stands before the last comma stays.
    before, comma, last = value.rpartition(",")
    if not comma and value.startswith("["):
        before, last = "[", value[1:]
    if key in GROUPS:
        names = _names(key, getattr(parsed_args, "config_dir", None))
    else:
        rule = rule_of(RunConfig, key) if key in all_keys() else None
        names = [str(choice) for choice in rule.choices] if isinstance(rule, OneOf) else []
    return [f"{key}={before}{comma}{name}" for name in names if name.startswith(last)]


def _names(group: str, folder: Path | None) -> list[str]:
    try:
        return option_names(group, folder)
    except (UserError, OSError):  # nobody reads a message that comes between two letters
        return []
