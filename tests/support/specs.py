"""Trial specs: a whole one with the parts that a test cares about."""

from __future__ import annotations

from typing import Any

from harness.trial_spec import TrialSpec

_DEFAULTS: dict[str, Any] = {
    "method": {"name": "toy", "version": 1, "model": {"_target_": "a.B", "width": 4}, "files": {}, "card": {"title": "Toy"}},
    "training": {"image_size": 32, "epochs": 2, "learning_rate": 0.001, "selection": "last"},
    "versions": {"training": 1, "arrays": 1},
    "protocol": {"name": "leave_one_domain_out"},
    "split": {
        "name": "fold0", "held_out": ["a/b"], "fingerprint": "f" * 64, "train": ["a/c/1"], "validation": [], "test": [],
    },
    "data": {"root": "/data", "name": "data"},
    "seed": 0,
    "metrics": {"version": "1", "empty": "diagonal", "nsd_tolerance": 2.0},
}  # fmt: skip


def trial_spec(**parts: Any) -> TrialSpec:
    """`trial_spec(method={"name": "unet"}, seed=3)`: the keys given replace the default's, the others stay."""
    content = {
        key: {**value, **parts[key]}
        if isinstance(value, dict) and isinstance(parts.get(key), dict)
        else parts.get(key, value)
        for key, value in _DEFAULTS.items()
    }
    return TrialSpec.from_json(content)
