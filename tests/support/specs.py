"""Trial specs: a whole one with the parts that a test cares about."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from harness.config.schema import InferenceConfig, TrainingConfig
from harness.protocols.split import ROLES
from harness.trial_spec import TrialSpec

_TRAINING: dict[str, Any] = {
    "method": {"name": "toy", "version": 1, "model": {"_target_": "a.B", "width": 4}, "files": {}, "card": {"title": "Toy"}},
    "training": {"image_size": 32, "epochs": 2, "learning_rate": 0.001, "selection": "last"},
    "protocol": {"name": "leave_one_domain_out"},
    "split": {"name": "fold0", "held_out": ["a/b"], "train": ["a/c/1"], "validation": [], "test": []},
    "data": {"root": "/data", "name": "data"},
    "seed": 0,
}  # fmt: skip
_METRICS: dict[str, Any] = {"empty": "diagonal", "nsd_tolerance": 2.0}


def trial_spec(*, metrics: dict[str, Any] | None = None, **parts: Any) -> TrialSpec:
    """`trial_spec(method={"name": "unet"}, seed=3)`: the keys given replace the default's, the others stay.

    `split={"fingerprint": "..."}` stands for the content of all its images and masks.
    """
    trained = {
        key: {**value, **parts[key]}
        if isinstance(value, dict) and isinstance(parts.get(key), dict)
        else parts.get(key, value)
        for key, value in _TRAINING.items()
    }
    trained["split"] = dict(trained["split"])
    fingerprint = trained["split"].pop("fingerprint", "f" * 64)
    content = {role: {"images": f"{fingerprint} {role}", "masks": f"{fingerprint} {role} masks"} for role in ROLES}
    trained["split"].setdefault("content", content)
    inference = asdict(InferenceConfig.of(TrainingConfig(**trained["training"])))
    return TrialSpec.from_json(
        {
            "training": {**trained, "versions": {"training": 1, "arrays": 1}},
            "prediction": {"inference": inference, "versions": {"inference": 1}, "split": trained["split"]},
            "measurement": {"metrics": {**_METRICS, **(metrics or {})}, "content": trained["split"]["content"]},
        }
    )
