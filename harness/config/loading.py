"""From the words of a command line to a checked `RunConfig`: Hydra composes the YAML tree, mistakes are reported in its terms.

Hydra's own errors speak of its insides. Here each becomes a UserError that names the word, the key or the file to fix.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

from harness.config.checks import check_config
from harness.config.encoder_weights import put_packaged_files, register_card_resolvers
from harness.config.error_messages import explain, unknown_key
from harness.config.overrides import expanded, for_hydra, quoted, refuse_lists_given_twice
from harness.config.resolvers import register_resolvers
from harness.config.schema import RunConfig
from harness.config.yaml_tree import (
    GROUPS,
    check_header,
    check_own_tree,
    choices_of_suite,
    config_folder,
    config_folders,
    option_names,
    unknown_name,
)
from harness.errors import UserError, did_you_mean

logger = logging.getLogger(__name__)


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
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if extra_folder is not None:
        check_own_tree(extra_folder)
    refuse_lists_given_twice(overrides)
    words = [for_hydra(word, extra_folder) for word in overrides]
    _check_chosen_files(words, extra_folder)
    others = ",".join(quoted(f"file://{folder.resolve()}") for folder in config_folders(extra_folder)[1:])
    search = [f"hydra.searchpath=[{others}]"] if others else []
    _register()
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(config_folder()), version_base="1.3"), _without_groups_of_hydra():
            composed = compose("config", overrides=[*words, *search])
        if not any(word.lstrip("+").startswith("method=") for word in words):
            _leave_out_without_weights(composed)
        config = OmegaConf.to_object(composed)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(explain(error, extra_folder)) from error
    except yaml.YAMLError as error:
        raise UserError(f"A configuration file is no valid YAML: {error}") from error
    _refuse_added_keys(composed, RunConfig())
    if not isinstance(config, RunConfig):
        raise UserError(
            "The configuration tree is damaged: suites/config.yaml no longer starts from the schema run_config."
        )
    config.data.root = expanded("data.root", config.data.root)
    config.data.cache = expanded("data.cache", config.data.cache)
    config.pretrained = expanded("pretrained", config.pretrained)
    config.store.root = expanded("store.root", config.store.root) or ""
    put_packaged_files(config.methods)
    check_config(config)
    return config


@cache
def _register() -> None:
    """Makes the schema known to Hydra, and what `${...}` in the YAML tree calls."""
    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store(name="run_config", node=RunConfig)
    register_resolvers()
    register_card_resolvers()


@contextmanager
def _without_groups_of_hydra() -> Iterator[None]:
    """Keeps Hydra from reading its own groups (launcher, help and so on), of which only its programs make use: a third of the time."""
    from hydra.core.config_store import ConfigStore

    stored = ConfigStore.instance().repo["hydra"]
    whole = stored["config.yaml"]
    stored["config.yaml"] = _hydra_alone()
    try:
        yield
    finally:
        stored["config.yaml"] = whole


@cache
def _hydra_alone() -> Any:
    from hydra.conf import HydraConf
    from hydra.core.config_store import ConfigNode
    from omegaconf import OmegaConf

    node = OmegaConf.structured(HydraConf(defaults=[]))
    return ConfigNode(name="config.yaml", node=node, group="hydra", package=None, provider="hydra")


def _leave_out_without_weights(composed: Any) -> None:
    """Takes the `optional_methods` out whose weights no installed package carries, and says so."""
    from omegaconf import OmegaConf, open_dict
    from omegaconf.errors import OmegaConfBaseException

    for name in composed.optional_methods:
        if name not in composed.methods:
            continue
        try:
            put_packaged_files({name: OmegaConf.to_container(composed.methods[name], resolve=True)})
        except (OmegaConfBaseException, UserError) as error:
            logger.warning("%s is left out: %s", name, explain(error, None))
            with open_dict(composed.methods):
                del composed.methods[name]


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
                raise UserError(unknown_name(group, name, extra_folder))
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
            raise UserError(unknown_key(f"{prefix}{key}"))
        if is_dataclass(getattr(schema, key)):
            _refuse_added_keys(composed[key], getattr(schema, key), f"{prefix}{key}.")
