"""Methods crossed with domain-generalisation algorithms: each pair becomes a method of its own, `unet+mixstyle`.

An algorithm is one class and one YAML file `algorithm/<name>.yaml`:

    # @package algorithms.<name>
    card: {title: ..., paper: ..., licence: ..., sees_test_images: false}   # passes: 4 where it predicts a tested image so often
    version: 1
    model: {_target_: package.module.Class, ...}     # null: the method as it is
    training: {}                                     # what it changes of the training preset, after the method
    changes_training: false        # only where it acts at test time alone; default: true

The class takes `modalities: list[str]` and `method`, which makes the wrapped method when called with `modalities=`, and
fulfils the contract of harness/methods/contract.py itself. One that does not change the training keeps the method as `self.method` and
has no weights of its own: its trials take over those of the method by itself where the store has them. A method whose YAML says `supports_algorithms: false` learns nothing by gradients
that an algorithm could change: it stands once, as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.config.validation import Checked, Flag, Text, validated
from harness.methods.card import Model, Passes, check_method_config

WRAPPED = "method."
"""How the names of a wrapped method's weights and files begin."""


@dataclass(frozen=True)
class AlgorithmCard(Checked):
    """What reports say of an algorithm. `sees_test_images`: it adapts to unlabelled test images; `passes`: see `Card`."""

    title: Text
    paper: Text
    licence: Text
    sees_test_images: Flag
    passes: Passes = 1


@dataclass(frozen=True)
class AlgorithmFile(Checked):
    """An `algorithm/<name>.yaml` after composition; see the top of this file."""

    card: AlgorithmCard
    model: Model | None
    version: Any = 1
    training: Any = None
    changes_training: Flag = True


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
            if algorithm["model"] is None or not method.get("supports_algorithms", not method.get("trainer")):
                pairs[name] = method
            else:
                pairs[f"{name}+{algorithm_name}"] = _wrapped(method, algorithm_name, algorithm)
    return pairs


def check_algorithm_config(name: str, config: Any) -> None:
    """Checks the parts of an `algorithm/<name>.yaml` after composition.

    Raises:
        UserError: a part is missing or unknown, or has a wrong value.
    """
    validated(AlgorithmFile, config, f"algorithms.{name}")


def wrapped_model(model: Mapping[str, Any]) -> dict[str, Any]:
    """The `model` of the method alone, out of that of a pair."""
    return {key: value for key, value in model["method"].items() if key != "_partial_"}


def _wrapped(method: dict[str, Any], name: str, algorithm: dict[str, Any]) -> dict[str, Any]:
    own = algorithm["card"]
    passes = own.get("passes", 1) * method["card"].get("passes", 1)
    card = {
        **method["card"],
        "title": f"{method['card']['title']} + {own['title']}",
        "algorithm": {"name": name, "title": own["title"], "paper": own["paper"], "licence": own["licence"]},
        "sees_test_images": own["sees_test_images"] or method["card"].get("sees_test_images", False),
        **({"passes": passes} if passes > 1 else {}),
    }
    return {
        "card": card,
        "version": f"{method.get('version', 1)}+{algorithm.get('version', 1)}",
        "model": {**algorithm["model"], "method": {"_partial_": True, **method["model"]}},
        "training": {**(method.get("training") or {}), **(algorithm.get("training") or {})},
        **({} if algorithm.get("changes_training", True) else {"version_alone": method.get("version", 1)}),
    }
