"""What Ray runs on a node: one trial, on the resources it was given, reported to Ray Tune epoch by epoch."""

from __future__ import annotations

import importlib
import json
import platform
import tempfile
from pathlib import Path
from typing import Any

from ray import tune
from ray.experimental import internal_kv

from harness.config.extensions import load_extensions
from harness.errors import UserError
from harness.execution.ray.nodes import NodeRequirements, inspect_node, mismatches
from harness.store.store import Store
from harness.training.epoch_result import EpochResult
from harness.trial import TrialContext
from harness.trial_spec import TrialIds


def run_in_worker(
    config: dict[str, Any], context: dict[str, Any], question: NodeRequirements | None, stop_key: str, function: str
) -> None:
    """Reads the spec of `config["ids"]` from the store and runs it by the function at the dotted path `function`.

    Reports {trial_id, phase, ...}: phase training with an epoch's result, testing, and at last `ended` with {state, reason}.
    """
    ids, end = TrialIds(**config["ids"]), dict[str, Any]()
    try:
        load_extensions()
        if question is not None:
            _check_place(question)
        end = _run(ids, context, stop_key, function)
    except UserError as error:
        end = {"state": "failed", "reason": str(error), "user_error": True}
    tune.report({"trial_id": ids.training, "phase": "ended", **end})


def _run(ids: TrialIds, context: dict[str, Any], stop_key: str, function: str) -> dict[str, Any]:
    module, _, name = function.rpartition(".")
    run_trial = getattr(importlib.import_module(module), name)
    gpus = tune.get_context().get_trial_resources().required_resources.get("GPU", 0)
    if gpus:
        from harness.execution.gpu_memory import take_share

        take_share(gpus)
    settings = TrialContext(**{**context, "device": "cuda" if gpus else "cpu"})
    store = Store(settings.store_root)
    pointer = _Pointer(ids.training, store.trial_folder(ids.training))

    def report(epoch: EpochResult | None) -> None:
        news = {"phase": "testing"} if epoch is None else {"phase": "training", **epoch.to_json()}
        pointer.report({"trial_id": ids.training, **news})

    def should_stop() -> bool:
        return internal_kv._internal_kv_get(stop_key) is not None

    if should_stop():
        return {"state": "interrupted", "reason": "asked to stop before it began"}
    status = run_trial(store.spec(ids), settings, report, should_stop)
    return {"state": status["state"], "reason": status["reason"]}


class _Pointer:
    """What Ray Tune is given as a checkpoint: the name of the trial's folder in the store.

    The state itself is kept once, by the trial, in the store; a try that Tune starts again after a crash goes on from there,
    on whichever node, whatever epoch Tune last heard of.
    """

    def __init__(self, trial_id: str, folder: Path) -> None:
        self.content = {"trial_id": trial_id, "folder": str(folder)}
        # A try after a crash brings Tune's pointer along: it has been given already.
        self.given = tune.get_checkpoint() is not None

    def report(self, metrics: dict[str, Any]) -> None:
        if self.given:
            tune.report(metrics)
            return
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "pointer.json").write_text(json.dumps(self.content), "utf-8")
            tune.report(metrics, checkpoint=tune.Checkpoint.from_directory(folder))
        self.given = True


# Nonce of a run -> what is wrong here: a process answers once, though it may run many trials.
_ANSWERED: dict[str, list[str]] = {}


def _check_place(question: NodeRequirements) -> None:
    """Refuses a node that joined after the driver had asked the others, and can't run the trials.

    Raises:
        UserError: says what is wrong with the node.
    """
    if question.nonce not in _ANSWERED:
        _ANSWERED[question.nonce] = mismatches(question, inspect_node(question))
    if found := _ANSWERED[question.nonce]:
        raise UserError(f"Node {platform.node()} can't run these trials: {'; '.join(found)}.")
