"""The words of a command line, written so that Hydra reads what the user meant."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Sequence
from pathlib import Path

from harness.config.checks import all_keys
from harness.config.schema import RunConfig
from harness.config.validation import takes_list
from harness.config.yaml_tree import GROUPS, option_names
from harness.errors import UserError

# Their values are taken as they stand: Hydra's grammar knows neither ~ nor commas, spaces or brackets in a path.
PATH_KEYS = ("data.root", "data.cache", "store.root", "pretrained")


@functools.cache
def list_keys() -> frozenset[str]:
    """Keys of which a single value, or several with commas, can only mean a list."""
    return frozenset(["method", "algorithm", *(key for key in all_keys() if takes_list(RunConfig, key))])


def refuse_lists_given_twice(words: Sequence[str]) -> None:
    """Of `method=unet method=otsu` Hydra keeps the last alone. That is its rule for one value; here both are meant.

    Raises:
        UserError: names the words, and the one to write for all of them.
    """
    given: dict[str, dict[str, str]] = {}
    for word in words:
        key, equals, value = word.partition("=")
        # A function of Hydra's, such as extend_list(...), and null say themselves what they do with what was there.
        if equals and (name := key.lstrip("+")) in list_keys() and not re.match(r"null$|\w+\(", value):
            given.setdefault(name, {})[value] = word
    for name, different in given.items():
        if len(different) > 1:
            items = [item.strip() for value in different for item in value.strip("[]").split(",") if item.strip()]
            raise UserError(
                f"{name}= is given more than once ({' '.join(different.values())}), and the last would replace the others."
                f" Write all of it in one word, '{name}=[{','.join(dict.fromkeys(items))}]', or leave out what is not meant."
            )


def for_hydra(word: str, extra_folder: Path | None) -> str:
    """A word of the command line, written so that Hydra reads what the user meant."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    key, equals, value = word.partition("=")
    name = key.lstrip("+")
    if not (equals and name) and not word.startswith("~"):
        raise UserError(
            f"Expected key=value, for example suite=domain_generalization; found '{word}'.{_bare_word_hint(word, extra_folder)}"
        )
    if re.match(r"~?hydra\b", name):
        raise UserError(
            f"{word}: Hydra only reads the words here, and none of its own settings has an effect. Leave it out."
        )
    if name in PATH_KEYS and value != "null":
        return f"{key}={quoted(without_quotes(value))}"
    if name in GROUPS:
        if value == "null":
            raise UserError(
                f"{word}: expected a name; `python -m harness list` shows all. Leave the word out for the suite's own."
            )
        value = _names(value)
        word = f"{key}={value}"
    if name in list_keys() and value not in ("", "null") and not re.match(r"[\[{]|\w+\(", value):
        word = f"{key}=[{value}]"
    try:
        OverridesParser.create().parse_override(word)
    except HydraException as error:
        home = " Write $HOME for ~." if value.startswith("~") else ""
        raise UserError(
            f"Could not read the command line at '{word}'. Brackets are closed, and a value with spaces,"
            f" '=' or other signs takes quotes of its own: '{key}=\"...\"'.{home}"
        ) from error
    return word


def _names(value: str) -> str:
    """Names of files, where Hydra would take some for numbers, and knows no letters but a to z: `12` and `größe` are quoted."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    def name(item: str) -> str:
        try:
            is_text = not item or isinstance(OverridesParser.create().parse_override(f"x={item}").value(), str)
        except HydraException:
            is_text = False
        return item if is_text else quoted(item)

    if not re.fullmatch(r"\[?[\w.,@ +-]*\]?", value):
        return value  # not plain names: Hydra says what it makes of them
    inner = ",".join(name(item.strip()) for item in value.strip("[]").split(","))
    return f"[{inner}]" if value.startswith("[") else inner


def _bare_word_hint(word: str, extra_folder: Path | None) -> str:
    for group in GROUPS:
        if word in option_names(group, extra_folder):
            return f" Did you mean '{group}={word}'?"
    near = difflib.get_close_matches(word, [*GROUPS, *all_keys()], n=1)
    return f" Did you mean '{near[0]}='?" if near else ""


def quoted(value: str) -> str:
    from hydra.core.override_parser.types import Quote, QuotedString

    return QuotedString(text=value, quote=Quote.single).with_quotes()


def without_quotes(value: str) -> str:
    """Quotes that a user put there for Hydra are not part of the path."""
    quote = value[:1]
    if len(value) >= 2 and quote in "'\"" and value.endswith(quote):
        return value[1:-1].replace(f"\\{quote}", quote)
    return value


def expanded(key: str, value: str | None) -> str | None:
    if value == "":
        raise UserError(f"{key}= has no path: expected a folder.")
    if value is None or not value.startswith("~"):
        return value
    try:
        return str(Path(value).expanduser())
    except RuntimeError as error:
        raise UserError(f"{key}={value}: {error}") from error
