"""Methods crossed with domain-generalisation algorithms: each pair becomes a method of its own, `unet+mixstyle`.

An algorithm is one class and one YAML file `algorithm/<name>.yaml`:

    # @package algorithms.<name>
    card: {title: ..., paper: ..., licence: ..., sees_test_images: false}
    version: 1
    model: {_target_: package.module.Class, ...}     # null: the method as it is
    training: {}                                     # what it changes of the training preset, after the method

The class takes `modalities: list[str]` and `method`, which makes the wrapped method when called with `modalities=`, and
fulfils the contract of harness/methods/building.py itself. A method whose YAML says `supports_algorithms: false` learns nothing by gradients
that an algorithm could change: it stands once, as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.errors import UserError, did_you_mean
from harness.methods.card import check_method_config

CARD_KEYS = ("title", "paper", "licence", "sees_test_images")
_KEYS = ("card", "version", "model", "training")


def crossed(methods: Mapping[str, dict[str, Any]], algorithms: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Every method with every algorithm, in order; without algorithms the methods alone.

    Raises:
        UserError: a part of a method or an algorithm is missing or unknown.
    """
    for name, method in methods.items():
        check_method_config(name, method)
    for name, algorithm in algorithms.items():
        check_algorithm_config(name, algorithm)
    pairs: dict[str, Any] = {}
    for name, method in methods.items():
        for algorithm_name, algorithm in (algorithms or {"": {"model": None}}).items():
            if algorithm["model"] is None or not method.get("supports_algorithms", "trainer" not in method):
                pairs[name] = method
            else:
                pairs[f"{name}+{algorithm_name}"] = _wrapped(method, algorithm_name, algorithm)
    return pairs


def check_algorithm_config(name: str, config: Any) -> None:
    """Checks the parts of an `algorithm/<name>.yaml` after composition.

    Raises:
        UserError: a part is missing or unknown.
    """
    if not isinstance(config, dict):
        raise UserError(f"algorithms.{name} is {type(config).__name__}, expected the keys {', '.join(_KEYS)}.")
    for key in config:
        if key not in _KEYS:
            raise UserError(f"algorithms.{name}.{key} is unknown.{did_you_mean(key, _KEYS)}")
    model = config.get("model", {})
    if model is not None and (not isinstance(model, dict) or "_target_" not in model):
        raise UserError(
            f"algorithms.{name}.model._target_ is missing: expected the import path of a class, as package.module.Class."
        )
    card = config.get("card") or {}
    missing = [key for key in CARD_KEYS if key not in card]
    if missing:
        raise UserError(
            f"algorithms.{name}.card lacks {', '.join(missing)}: these keys are required, because the report shows them."
        )
    if card["sees_test_images"] not in (True, False):
        raise UserError(
            f"algorithms.{name}.card.sees_test_images is '{card['sees_test_images']}', expected true (it adapts to unlabelled"
            " test images) or false."
        )


def wrapped_model(model: Mapping[str, Any]) -> dict[str, Any]:
    """The `model` of the method alone, out of that of a pair."""
    return {key: value for key, value in model["method"].items() if key != "_partial_"}


def _wrapped(method: dict[str, Any], name: str, algorithm: dict[str, Any]) -> dict[str, Any]:
    own = algorithm["card"]
    card = {
        **method["card"],
        "title": f"{method['card']['title']} + {own['title']}",
        "algorithm": {"name": name, "title": own["title"], "paper": own["paper"], "licence": own["licence"]},
        "sees_test_images": own["sees_test_images"] or method["card"].get("sees_test_images", False),
    }
    return {
        "card": card,
        "version": f"{method.get('version', 1)}+{algorithm.get('version', 1)}",
        "model": {**algorithm["model"], "method": {"_partial_": True, **method["model"]}},
        "training": {**(method.get("training") or {}), **(algorithm.get("training") or {})},
    }
