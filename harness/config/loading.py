"""From the words of a command line to a checked `RunConfig`: Hydra composes the YAML tree, mistakes are reported in its terms.

Hydra's own errors speak of its insides. Here each becomes a UserError that names the word, the key or the file to mend.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from harness.config import RunConfig, all_keys, check_config, wrong_type
from harness.config.resolvers import register_resolvers
from harness.config.yaml_tree import (
    GROUPS,
    check_header,
    check_own_tree,
    choices_of_suite,
    config_folder,
    config_folders,
    file_of,
    option_names,
)
from harness.errors import UserError, did_you_mean

# Their values are taken as they stand: Hydra's grammar knows neither ~ nor commas, spaces or brackets in a path.
PATH_KEYS = ("data.root", "data.cache", "store.root", "pretrained")
# Groups whose files each become an entry of `<group>s`.
_NAMED = ("method", "algorithm")
# A single value, or several with commas, can only mean a list.
LIST_KEYS = ("seeds", "data.modalities", "method", "algorithm")


def load_config(overrides: Sequence[str], extra_folder: Path | None = None) -> RunConfig:
    """Composes the YAML tree with command-line words such as `suite=domain_generalization training.epochs=3`.

    Args:
        overrides: Hydra overrides; `suite=...` picks the base, others change it.
        extra_folder: a user's own tree of the same shape (`method/mine.yaml`), searched as well.

    Raises:
        UserError: unknown name, key or value; a value of the wrong type; a word that is no override; a damaged file.
    """
    import yaml
    from hydra import compose, initialize_config_dir
    from hydra.core.config_store import ConfigStore
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if extra_folder is not None:
        check_own_tree(extra_folder)
    words = [_for_hydra(word, extra_folder) for word in overrides]
    _check_chosen_files(words, extra_folder)
    others = ",".join(_quoted(f"file://{folder.resolve()}") for folder in config_folders(extra_folder)[1:])
    search = [f"hydra.searchpath=[{others}]"] if others else []
    ConfigStore.instance().store(name="run_config", node=RunConfig)
    GlobalHydra.instance().clear()
    register_resolvers()
    try:
        with initialize_config_dir(str(config_folder()), version_base="1.3"):
            composed = compose("config", overrides=[*words, *search])
        config = OmegaConf.to_object(composed)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(_explain(error, extra_folder)) from error
    except yaml.YAMLError as error:
        raise UserError(f"A configuration file is no valid YAML: {error}") from error
    _refuse_added_keys(composed, RunConfig())
    if not isinstance(config, RunConfig):
        raise UserError(
            "The configuration tree is damaged: suites/config.yaml no longer starts from the schema run_config."
        )
    config.data.root = _expanded("data.root", config.data.root)
    config.data.cache = _expanded("data.cache", config.data.cache)
    config.pretrained = _expanded("pretrained", config.pretrained)
    config.store.root = _expanded("store.root", config.store.root) or ""
    check_config(config)
    return config


def _for_hydra(word: str, extra_folder: Path | None) -> str:
    """A word of the command line, written so that Hydra reads what the user meant."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    key, equals, value = word.partition("=")
    name = key.lstrip("+")
    if not (equals and name) and not word.startswith("~"):
        raise UserError(
            f"Expected key=value, for example suite=domain_generalization; found '{word}'.{_bare_word_hint(word, extra_folder)}"
        )
    if name in PATH_KEYS and value != "null":
        return f"{key}={_quoted(_without_quotes(value))}"
    if name in LIST_KEYS and value not in ("", "null") and not re.match(r"[\[{]|\w+\(", value):
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


def _bare_word_hint(word: str, extra_folder: Path | None) -> str:
    for group in GROUPS:
        if word in option_names(group, extra_folder):
            return f" Did you mean '{group}={word}'?"
    near = difflib.get_close_matches(word, [*GROUPS, *all_keys()], n=1)
    return f" Did you mean '{near[0]}='?" if near else ""


def _quoted(value: str) -> str:
    from hydra.core.override_parser.types import Quote, QuotedString

    return QuotedString(text=value, quote=Quote.single).with_quotes()


def _without_quotes(value: str) -> str:
    """Quotes that a user put there for Hydra are not part of the path."""
    quote = value[:1]
    if len(value) >= 2 and quote in "'\"" and value.endswith(quote):
        return value[1:-1].replace(f"\\{quote}", quote)
    return value


def _expanded(key: str, value: str | None) -> str | None:
    if value == "":
        raise UserError(f"{key}= has no path: expected a folder.")
    if value is None or not value.startswith("~"):
        return value
    try:
        return str(Path(value).expanduser())
    except RuntimeError as error:
        raise UserError(f"{key}={value}: {error}") from error


def _check_chosen_files(words: Sequence[str], extra_folder: Path | None) -> None:
    """Looks up the names in words such as `method=[unet,mine]` before Hydra does, and what their files say at the top."""
    chosen: dict[str, list[str]] = {}
    for word in words:
        key, _, value = word.partition("=")
        group = key.lstrip("+")
        if group not in GROUPS:
            continue
        known = option_names(group, extra_folder)
        names = [part for item in value.strip("[]").split(",") if (part := item.strip().strip("'\""))]
        if not value:
            raise UserError(f"{group}= has no name.{did_you_mean('', known)}")
        for name in names:
            if name not in known:
                raise UserError(f"Unknown {group} '{name}'.{did_you_mean(name, known)}")
        if group not in ("method", "algorithm") and len(names) != 1:
            raise UserError(f"{word}: expected one {group}, found {len(names)}.")
        chosen[group] = names
    for suite in chosen.get("suite", []):
        chosen = {**choices_of_suite(suite, extra_folder), **chosen}
    for group, names in chosen.items():
        for name in names:
            check_header(group, name, extra_folder)


def _refuse_added_keys(composed: Any, schema: Any, prefix: str = "") -> None:
    """`+key=value` adds a key even where the schema has none; nobody would read it."""
    names = [item.name for item in fields(schema)]
    for key in composed:
        if key not in names:
            raise UserError(_unknown_key(f"{prefix}{key}"))
        if is_dataclass(getattr(schema, key)):
            _refuse_added_keys(composed[key], getattr(schema, key), f"{prefix}{key}.")


def _unknown_key(key: str) -> str:
    """A message with what was meant: a group (`suit=`), or a key whose last part is this one's (`epochs=`)."""
    keys = all_keys()
    known = sorted({*GROUPS, *keys})
    group, _, rest = key.partition(".")
    if group in _NAMED and rest:
        near = [f"{group}s.{rest}"]
    else:
        near = difflib.get_close_matches(key, [k for k in keys if _last(k) == _last(key)], n=5, cutoff=0.0)
        near = near or difflib.get_close_matches(key, known, n=1)
    if not near:
        lasts = difflib.get_close_matches(_last(key), sorted({_last(k) for k in keys}), n=1)
        near = [k for k in keys if _last(k) in lasts]
    if near:
        return f"Unknown key '{key}'. Did you mean {' or '.join(repr(k) for k in near)}?"
    nearest = difflib.get_close_matches(key, known, n=5, cutoff=0.0)
    return f"Unknown key '{key}'. The nearest are: {', '.join(nearest)}."


def _last(key: str) -> str:
    return key.rpartition(".")[2]


def _explain(error: Exception, extra_folder: Path | None) -> str:
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
            return _unknown_key(key)
        name, known = key.split(".")[1], option_names(group, extra_folder)
        if name not in known:
            return f"Unknown {group} '{name}' in {key}.{did_you_mean(name, known)}"
        if _full_key(cause) == f"{group}s.{name}":
            return f"{group.capitalize()} '{name}' in {key} takes no part in this run. Add it to {group}=[...]."
        return f"'{key}' is not in that {group}'s YAML. To add it, write +{key}=..."
    # A value Hydra could not put in its place, or would take for a sweep.
    word = re.match(r"(?:Error merging override |Sweep parameters '|Ambiguous value for argument ')([^\n]*)", text)
    if word:
        key, _, value = word[1].removesuffix("' requires --multirun").removesuffix("'").partition("=")
        if key.lstrip("+") in all_keys():
            return wrong_type(key.lstrip("+"), _without_quotes(value))
        if not cause:
            return f"{key}={value}: expected one value. To give a list, write '{key}=[{value}]'."
        return (
            f"{word[1]}: {cause.splitlines()[0]}"
            if key.startswith(("~", "methods.", "algorithms."))
            else _unknown_key(key)
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
        return f"{path}: {_unknown_key(key)}"
    found = re.match(r"Value '(.*?)' of type", text)
    if found and key in all_keys():
        return f"{path}: {wrong_type(key, found[1])}"
    first = text.splitlines()[0]
    example = f" {wrong_type(key, '...').partition(': ')[2].partition(', found')[0]}." if key in all_keys() else ""
    return f"{path}: {key}: {first}{example}"


def _full_key(text: str) -> str:
    found = re.search(r"full_key: (\S+)", text)
    return found[1] if found else ""
