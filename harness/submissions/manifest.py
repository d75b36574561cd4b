"""Reads submission.json of a stranger: strict JSON, then its schema, then settings of the types that the bench knows."""

from __future__ import annotations

import json
import math
import re
from dataclasses import fields
from functools import lru_cache
from importlib import resources
from typing import Any, TypeVar

from harness.config.schema import InferenceConfig, MetricsConfig, ProtocolConfig, TrainingConfig
from harness.config.validation import Checked, validated
from harness.data.folder.sample import fault_of_name
from harness.errors import UserError
from harness.files import sha256_json
from harness.methods.card import ADDED, check_card
from harness.methods.trainer import TrainerFile
from harness.metrics import EMPTY_POLICIES, REGISTRY
from harness.protocols.split import Split, SplitContent
from harness.submissions.layout import DEEPEST, LONGEST_TEXT, METRICS, SCHEMA_VERSION, Refused, SubmittedTrial
from harness.trial_spec import DataSpec, MethodSpec, TrialSpec, Versions, with_new_names

_T = TypeVar("_T", bound=Checked)
_NOT_SHOWN = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"
    "\xad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u2060-\u2065\u206a-\u206f\u2800\u3164\ufeff\uffa0\ufff0-\ufffb"
    "\U000e0000-\U000e0fff]"
)
"""Control characters but the end of a line, halves of pairs, what turns the direction of a text, and what has no shape: such a name
looks like another. Joiners (U+200C, U+200D) stay: words of some languages need them."""


@lru_cache
def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of submission.json."""
    text = resources.files("harness.submissions").joinpath("submission.schema.json").read_text("utf-8")
    return dict(json.loads(text))


def read_manifest(content: bytes) -> dict[str, Any]:
    """The content of submission.json, which fits the schema and its own checksum.

    Raises:
        Refused: no JSON, NaN, a key twice, too deep, a text too long, control characters, another schema or checksum.
    """
    try:
        manifest = json.loads(
            content.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant, parse_float=_finite
        )
    except Refused:
        raise
    except (ValueError, RecursionError) as error:
        raise Refused(f"submission.json: expected JSON in UTF-8, found other bytes ({str(error)[:120]}).") from error
    _check_texts(manifest, DEEPEST)
    _check_schema(manifest)
    claimed = manifest["checksum"]
    if sha256_json({key: value for key, value in manifest.items() if key != "checksum"}) != claimed:
        raise Refused("submission.json does not match its checksum: it was changed or damaged on its way.")
    return dict(manifest)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Refused("submission.json: expected each key once in a mapping, found one twice.")
    return found


def _no_constant(name: str) -> None:
    raise Refused(f"submission.json: expected numbers, found {name}, which is no JSON.")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise Refused(f"submission.json: expected finite numbers, found {text[:40]}.")
    return value


def check_text(text: str, where: str, longest: int = LONGEST_TEXT) -> None:
    """Refuses what is too long, or would not look like what it is: control characters, turned directions, no text at all."""
    if len(text) > longest:
        raise Refused(f"{where}: expected a text of at most {longest:,} characters, found {len(text):,}.")
    if found := _NOT_SHOWN.search(text):
        raise Refused(f"{where}: expected a text without control or invisible characters, found U+{ord(found[0]):04X}.")


def _check_texts(value: Any, depth: int) -> None:
    if depth < 0:
        raise Refused(f"submission.json: expected at most {DEEPEST} mappings and lists inside each other, found more.")
    if isinstance(value, str):
        check_text(value, "submission.json")
    elif isinstance(value, dict):
        for key, each in value.items():
            check_text(key, "submission.json", 300)
            _check_texts(each, depth - 1)
    elif isinstance(value, list):
        for each in value:
            _check_texts(each, depth - 1)
    elif isinstance(value, int) and abs(value) > 10**18:
        raise Refused("submission.json: expected whole numbers below 10^18, found a larger one.")


@lru_cache
def _validator() -> Any:
    """JSON Schema takes 1.0 for a whole number. Here it is none: 0.0 is no place in a list."""
    from jsonschema import Draft202012Validator
    from jsonschema.validators import extend

    types = Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)
    return extend(Draft202012Validator, type_checker=types)(schema())


def _check_schema(manifest: Any) -> None:
    version = manifest.get("schema_version") if isinstance(manifest, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise Refused(
            f"submission.json has schema_version {version}, this bench reads {SCHEMA_VERSION}. Update the bench."
        )
    fault = next(_validator().iter_errors(manifest), None)
    if fault is not None:
        what = fault.message[:200]
        if fault.validator in ("maxItems", "maxProperties", "maxLength"):
            what = f"expected at most {fault.validator_value:,}, found {len(fault.instance):,}"
            what += ". Submit fewer at a time (--method)." if fault.json_path == "$.methods" else "."
        raise Refused(f"submission.json: {fault.json_path[:120]}: {what}")


def read_trials(manifest: dict[str, Any], splits: list[dict[str, tuple[str, ...]]]) -> list[SubmittedTrial]:
    """The trials as the bench knows them.

    Args:
        splits: of each split its keys by role.

    Raises:
        Refused: settings that this bench does not know, a card that contradicts itself, places that point nowhere.
    """
    for place, method in enumerate(manifest["methods"]):
        try:
            check_card(
                {key: value for key, value in method["card"].items() if key not in ADDED}, f"methods[{place}].card"
            )
            if method["trainer"] is not None:
                without = {key: value for key, value in method["trainer"].items() if key != "package_version"}
                validated(TrainerFile, without, f"methods.{method['name']}.trainer")
        except UserError as error:
            raise Refused(f"submission.json: {error}") from error
        if fault := fault_of_name(method["name"].replace("/", "-")):
            raise Refused(f"submission.json: methods[{place}].name: found {fault}.")
    whole = [
        Split(each["name"], keys["train"], keys["validation"], keys["test"], tuple(each["held_out"]),
              SplitContent.from_json(each["content"]))
        for each, keys in zip(manifest["splits"], splits, strict=True)
    ]  # fmt: skip
    metrics = typed(MetricsConfig, manifest["metrics"], "metrics")
    if metrics.empty not in EMPTY_POLICIES or metrics.nsd_tolerance < 0:
        raise Refused(f"submission.json: expected metrics of this bench, found {manifest['metrics']}.")
    return [_trial(manifest, entry, whole, metrics) for entry in manifest["trials"]]


def _trial(
    manifest: dict[str, Any], entry: dict[str, Any], splits: list[Split], metrics: MetricsConfig
) -> SubmittedTrial:
    for name, count in (
        ("method", len(manifest["methods"])),
        ("split", len(splits)),
        ("provenance", len(manifest["provenances"])),
    ):
        if entry[name] >= count:
            raise Refused(f"submission.json: a trial has the {name} {entry[name]}, and there are {count}.")
    for name, version in entry["metrics"].items():
        if name not in METRICS or version > REGISTRY[name].version:
            raise Refused(
                f"submission.json: expected metrics as this bench computes them, found {name}, version {version}."
                " Update the bench, or measure with this one."
            )
    method = manifest["methods"][entry["method"]]
    training, inference = entry["training"], entry["inference"]
    if training is None and not method["card"].get("external"):
        raise Refused("submission.json: expected training settings of a method that is not external, found none.")
    protocol = typed(ProtocolConfig, entry["protocol"], "protocol")
    if not _are_pairs(protocol.pairs):
        raise Refused("submission.json: protocol.pairs: expected modality -> {seen: [domain], unseen: [domain]}.")
    spec = TrialSpec(
        method=MethodSpec(
            method["name"], method["version"], method["model"], method["files"], method["card"], method["trainer"]
        ),
        data=DataSpec("", manifest["data"]["name"]),
        split=splits[entry["split"]],
        protocol=protocol,
        training=None if training is None else typed(TrainingConfig, with_new_names(training), "training"),
        inference=None if inference is None else typed(InferenceConfig, inference, "inference"),
        evaluation=metrics,
        seed=entry["seed"],
        versions=typed(Versions, entry["versions"], "versions"),
    )
    summary = {key: value for key, value in entry["summary"].items() if value is not None}
    return SubmittedTrial(
        entry["method"], spec, entry["metrics"], summary, manifest["provenances"][entry["provenance"]]
    )


def typed(cls: type[_T], values: dict[str, Any], where: str) -> _T:
    """An object of a dataclass of settings, checked as a user's own.

    Raises:
        Refused: a key that it lacks or does not know, a value of another type or out of range.
    """
    known = {field.name for field in fields(cls)}  # type: ignore[arg-type]
    if unknown := set(values) - known:
        raise Refused(
            f"submission.json: {where}.{min(unknown)} is not known to this bench: another version made the file."
        )
    try:
        return validated(cls, values, where)
    except UserError as error:
        raise Refused(f"submission.json: {str(error)[:300]}") from error


def _are_pairs(value: Any) -> bool:
    return value is None or (
        isinstance(value, dict)
        and all(isinstance(pair, dict) and set(pair) == {"seen", "unseen"} for pair in value.values())
        and all(
            isinstance(names, list) and all(isinstance(name, str) for name in names)
            for pair in value.values()
            for names in pair.values()
        )
    )
