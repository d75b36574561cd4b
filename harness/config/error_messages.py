"""What Hydra and OmegaConf complain of, in the user's terms: the word, the key or the file to fix."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

from harness.config.checks import all_keys
from harness.config.overrides import without_quotes
from harness.config.schema import RunConfig
from harness.config.validation import expectation, mismatch
from harness.config.yaml_tree import GROUPS, file_of, option_names, unknown_name

# Groups whose files each become an entry of `<group>s`.
_NAMED = ("method", "algorithm")


def unknown_key(key: str) -> str:
    """A message with what was meant: a group (`suit=`), or a key whose last part is this one's (`epochs=`)."""
    keys = all_keys()
    known = sorted({*GROUPS, *keys})
    group, _, rest = key.partition(".")
    if group in _NAMED and rest:
        near = [f"{group}s.{rest}"]
    else:
        alike = [k for k in keys if _last(key) in (_last(k), _initials(_last(k)))]
        near = difflib.get_close_matches(key, alike, n=5, cutoff=0.0)
        near = near or difflib.get_close_matches(key, known, n=1)
    if not near:
        lasts = difflib.get_close_matches(_last(key), sorted({_last(k) for k in keys}), n=1)
        near = [k for k in keys if _last(k) in lasts]
    if near:
        return f"Unknown key '{key}'. Did you mean {' or '.join(repr(k) for k in near)}?"
    nearest = difflib.get_close_matches(key, known, n=5, cutoff=0.0)
    return f"Unknown key '{key}'. The nearest are: {', '.join(nearest)}."


def wrong_value(key: str, value: str) -> str:
    """A message about a value that Hydra could not put in its place: "training.epochs=ten: expected a whole number, ..."."""
    if key in ("methods", "algorithms"):
        group = key.removesuffix("s")
        one = "an algorithm" if group == "algorithm" else f"a {group}"
        return f"{key}={value}: expected one of its keys, found '{value}'. To choose {one}: {group}={value}."
    return mismatch(RunConfig, key, value)


def _last(key: str) -> str:
    return key.rpartition(".")[2]


def _initials(name: str) -> str:
    """What many write for it: `lr` for `learning_rate`."""
    parts = name.split("_")
    return "".join(part[:1] for part in parts) if len(parts) > 1 else name


def explain(error: Exception, extra_folder: Path | None) -> str:
    """One or two lines for a user from a Hydra or OmegaConf error."""
    text = str(error)
    first = text.splitlines()[0] if text else type(error).__name__
    cause = str(error.__cause__ or "")
    if in_file := re.match(r"In '([^'/]+)/([^']+)': \w+ raised while composing config:\n", text):
        return _explain_in_file(text[in_file.end() :], file_of(in_file[1], in_file[2], extra_folder))
    if missing := re.match(r"Could not override '([^']+)'", text):
        key = missing[1].lstrip("+")
        group = next((name for name in _NAMED if key.startswith(f"{name}s.")), None)
        if group is None:
            return unknown_key(key)
        name, known = key.split(".")[1], option_names(group, extra_folder)
        if name not in known:
            return f"{key}: {unknown_name(group, name, extra_folder)}"
        if _full_key(cause) == f"{group}s.{name}":
            return f"{group.capitalize()} '{name}' in {key} takes no part in this run. Add it to {group}=[...]."
        return f"'{key}' is not in that {group}'s YAML. To add it, write +{key}=..."
    # A value Hydra could not put in its place, or would take for a sweep.
    word = re.match(r"(?:Error merging override |Sweep parameters '|Ambiguous value for argument ')([^\n]*)", text)
    if word:
        key, _, value = word[1].removesuffix("' requires --multirun").removesuffix("'").partition("=")
        if key.lstrip("+") in all_keys():
            return wrong_value(key.lstrip("+"), without_quotes(value))
        if not cause:
            return f"{key}={value}: expected one value. To give a list, write '{key}=[{value}]'."
        return (
            f"{word[1]}: {cause.splitlines()[0]}"
            if key.startswith(("~", "methods.", "algorithms."))
            else unknown_key(key)
        )
    if first.startswith("Could not append to config"):
        return f"{first} Leave the + away."
    where = _full_key(text)
    if first.startswith("Missing mandatory value"):
        return (
            f"{where} has no value of its own: expected {where}=... on the command line. The method's file says which."
        )
    first = first.removeprefix("UserError raised while resolving interpolation: ")
    return f"{where}: {first}" if where else first


def _explain_in_file(text: str, path: Path) -> str:
    key = re.sub(r"\[\d+\]$", "", _full_key(text))
    if text.startswith("Key '"):
        return f"{path}: {unknown_key(key)}"
    found = re.match(r"Value '(.*?)' of type", text)
    if found and key in all_keys():
        return f"{path}: {wrong_value(key, found[1])}"
    first = text.splitlines()[0]
    # One value where a list belongs: OmegaConf does not repeat it.
    if first.startswith("Invalid value assigned") and key in all_keys():
        first = f"expected {expectation(RunConfig, key)}."
    return f"{path}: {key}: {first}"


def _full_key(text: str) -> str:
    found = re.search(r"full_key: (\S+)", text)
    return found[1] if found else ""
