"""Packs the results of a run for a leaderboard: numbers, settings and masks; no image, no reference, no path, no host."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePath
from typing import Any

import pandas as pd

from harness import __version__
from harness.errors import UserError
from harness.files import canonical_json
from harness.protocols.split import ROLES as SPLIT_ROLES
from harness.protocols.split import Split
from harness.store.records import SuiteRecord
from harness.submissions.layout import IMAGE_COLUMNS, IMAGES, METRICS, PREDICTIONS, SPLITS, Submission
from harness.submissions.writing import submission_bytes
from harness.trial_spec import TrialSpec
from reports.analysis.costs import COUNTS, cost_table
from reports.records.records import ROLES, Records, ReportedTrial
from reports.submissions.joining import with_earlier

_SUMMARY = ("epochs", "chosen_epoch", "images_seen")
_DATA = ("modalities", "max_per_domain")
_PATH = re.compile(r"""(?<![\w./\\~-])(?!(?<=:)//)(?:file://)?(?:~[\w.-]*[/\\]|[A-Za-z]:\\|[/\\])[^,;'"\[\]{}=]*""")
"""An absolute path, alone or in a list; of an address such as https://... nothing."""


@dataclass(frozen=True)
class Packed:
    """A submission and what is in it.

    Attributes:
        content: the bytes of its file.
        methods: titles of the methods in it.
        left_out: title of a method -> why it is not in it.
        masks: how many masks are in it; 0 where none are.
    """

    content: bytes
    methods: list[str]
    left_out: dict[str, str]
    trials: int
    images: int
    rows: int
    masks: int


def pack_records(
    records: Records,
    runs: Sequence[SuiteRecord],
    submitter: Mapping[str, str],
    *,
    with_masks: bool = True,
    earlier: tuple[str, Submission] | None = None,
) -> Packed:
    """Packs the methods all trials of which have a result.

    Args:
        submitter: name, contact, licence and note, each a text that may be empty.
        with_masks: also the predicted masks, so that others can recompute the numbers.
        earlier: a file, and what was packed in it: it stands in the new file as well.

    Raises:
        UserError: no method is complete, masks were not kept, the earlier one does not fit, or a leaderboard would
            refuse the file.
    """
    left_out = {}
    for name, facts in records.methods.items():
        states = [trial.state for trial in records.trials_of(name)]
        if not states:
            left_out[facts.title] = "it has no trial with the chosen seeds"
        elif holes := len(states) - states.count("done"):
            left_out[facts.title] = f"{holes} of {len(states)} trials have no result"
    names = [name for name, facts in records.methods.items() if facts.title not in left_out]
    if not names:
        listed = "; ".join(f"{title}: {why}" for title, why in left_out.items())
        raise UserError(
            f"Expected at least one complete method, found none ({listed}). Run the suite to its end first."
        )
    trials = sorted(
        (trial for trial in records.trials if trial.method in names),
        key=lambda trial: (names.index(trial.method), trial.fold, trial.seed, trial.id),
    )
    specs = [trial.spec for trial in trials if trial.spec]
    splits = list(dict.fromkeys(spec.split for spec in specs))
    images = _images(records, trials)
    tables = {IMAGES: images}
    if with_masks:
        tables[PREDICTIONS] = _masks(images, trials)
    manifest: dict[str, Any] = {
        "bench": __version__,
        "runs": [{"suite": run.name, "time": run.time} for run in runs],
        "submitter": {key: submitter.get(key, "") for key in ("name", "contact", "licence", "note")},
        "data": {"name": specs[0].data.name, **_data_settings(runs)},
        "metrics": asdict(specs[0].evaluation),
        "methods": [_method(records, name, specs[[t.method for t in trials].index(name)]) for name in names],
        **_trials(trials, names, splits, images),
    }
    if earlier is not None:
        manifest, tables, splits = with_earlier(manifest, tables, splits, *earlier)
    images = tables[IMAGES]
    manifest["splits"] = [
        {"name": split.name, "held_out": list(split.held_out), "content": split.to_json()["content"]}
        for split in splits
    ]
    return Packed(
        submission_bytes(manifest, {SPLITS: _split_table(splits), **tables}),
        [method["card"]["title"] for method in manifest["methods"]], left_out, len(manifest["trials"]),
        images["key"].nunique(), len(images), len(images) if with_masks else 0,
    )  # fmt: skip


def _data_settings(runs: Sequence[SuiteRecord]) -> dict[str, Any]:
    """Which part of the dataset the runs are of, so that a verifier finds the same splits.

    Raises:
        UserError: the runs are of different parts.
    """
    found = [{key: (run.config.get("data") or {}).get(key) for key in _DATA} for run in runs]
    if any(other != found[0] for other in found):
        raise UserError(f"Expected runs of the same images, found {found}. Make one submission of each.")
    return found[0]


def _method(records: Records, name: str, spec: TrialSpec) -> dict[str, Any]:
    table = cost_table(records)
    newest = table[table["method"] == name].iloc[0]
    costs = {key: newest[key] for key in (*COUNTS, "image_size") if pd.notna(newest[key])}
    method = spec.method
    return {
        "name": records.methods[name].origin or name,
        "version": method.version,
        "model": without_paths(method.model),
        # Of another tool's masks these are hashes of single masks.
        "files": {} if spec.is_external else method.files,
        "trainer": without_paths(method.trainer),
        "card": {**records.methods[name].card, "title": records.methods[name].title},
        "costs": {key: getattr(value, "item", lambda value=value: value)() for key, value in costs.items()},
    }


def _trials(
    trials: Sequence[ReportedTrial], names: Sequence[str], splits: Sequence[Split], images: pd.DataFrame
) -> dict[str, Any]:
    provenances: dict[str, int] = {}
    entries = []
    measured = images.groupby("trial")[list(METRICS)].count() > 0
    for place, trial in enumerate(trials):
        spec = trial.spec
        assert spec is not None
        provenance = canonical_json(_provenance(trial.provenance))
        entries.append(
            {
                "method": names.index(trial.method),
                "split": splits.index(spec.split),
                "seed": trial.seed,
                "protocol": asdict(spec.protocol),
                "training": None if spec.training is None else asdict(spec.training),
                "inference": None if spec.inference is None else asdict(spec.inference),
                "versions": asdict(spec.versions),
                "corruptions": None,
                "metrics": {name: trial.metrics[name] for name in METRICS if name in trial.metrics and measured.loc[place, name]},
                "summary": {
                    **{key: trial.summary[key] for key in _SUMMARY if trial.summary.get(key) is not None},
                    **({} if trial.seconds is None else {"seconds": trial.seconds}),
                },
                "provenance": provenances.setdefault(provenance, len(provenances)),
            }
        )  # fmt: skip
    return {"trials": entries, "provenances": [json.loads(text) for text in provenances]}


def _provenance(full: Mapping[str, Any]) -> dict[str, Any]:
    """What others need to judge and repeat it: neither the name of the machine nor where its files lie."""
    machine = {key: value for key, value in (full.get("machine") or {}).items() if key != "host"}
    kept = {key: full[key] for key in ("bench", "code", "python", "libraries") if key in full}
    return {**kept, "machine": machine, "command": without_paths([str(word) for word in full.get("command") or []])}


def without_paths(value: Any) -> Any:
    """The value, with the last part alone of each absolute path in it: "data.root=/home/me/isic" -> "data.root=.../isic"."""
    if isinstance(value, Mapping):
        return {str(key): without_paths(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_paths(each) for each in value]
    if not isinstance(value, str):
        return value
    return _PATH.sub(lambda found: f".../{PurePath(found[0].replace(chr(92), '/')).name}", value)


def _images(records: Records, trials: Sequence[ReportedTrial]) -> pd.DataFrame:
    places = {trial.id: place for place, trial in enumerate(trials)}
    samples = records.samples[records.samples["trial"].isin(places)]
    table = samples.assign(trial=samples["trial"].map(places).astype(int))[list(IMAGE_COLUMNS)]
    lacking = [trial for trial in trials if "dice" not in trial.metrics]
    if lacking:
        raise UserError("Expected the Dice of every trial, found none in some. Measure them: python -m harness measure")
    return table.sort_values(["trial", "role", "key"], ignore_index=True)


def _split_table(splits: Sequence[Split]) -> pd.DataFrame:
    rows = [(place, role, key) for place, split in enumerate(splits) for role in SPLIT_ROLES for key in split.of(role)]
    return pd.DataFrame(rows, columns=["split", "role", "key"])


def _masks(images: pd.DataFrame, trials: Sequence[ReportedTrial]) -> pd.DataFrame:
    masks = []
    for place, role, key in zip(images["trial"], images["role"], images["key"], strict=True):
        trial = trials[place]
        assert trial.predictions is not None and role in ROLES
        path = trial.predictions / str(role) / f"{key}.png"
        try:
            masks.append(path.read_bytes())
        except FileNotFoundError:
            raise UserError(
                f"The masks of {trial.method} {trial.fold} seed {trial.seed} were not kept (store.predictions=false). Run again with"
                " store.predictions=true, or submit numbers alone, which a leaderboard marks as unverified: --without-masks"
            ) from None
    return images[["trial", "role", "key"]].assign(mask=masks)
