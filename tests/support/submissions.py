"""Labs that submit: stores whose numbers are those of real masks, packed as `submit` does, and files that were tampered with."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.config.schema import MetricsConfig, ProtocolConfig
from harness.data.dataset import Dataset
from harness.data.folder.sample import Sample
from harness.data.reading import read_mask
from harness.evaluation.measure import measure_image
from harness.files import canonical_json, sha256_json
from harness.protocols.rules import make_splits
from harness.store.records import TrialEntry
from harness.store.store import Store
from harness.submissions.archive import pack, unpack
from harness.submissions.layout import MANIFEST
from harness.submissions.reading import parse_submission
from harness.submissions.tables import read_table, write_table
from reports.records.runs import find_suite, read_runs
from reports.submissions.packing import Packed, pack_records
from support.specs import trial_spec
from support.stores import finished_trial

CARD = {
    "title": "U-Net", "paper": "Ronneberger, 2015", "licence": "MIT", "prompt": "none", "uses_modality": False,
    "pretrained": "none", "pretrained_on": [],
}  # fmt: skip
Members = dict[str, bytes]
Manifest = dict[str, Any]


def write_lab(
    root: Path,
    data: Path,
    methods: Mapping[str, int],
    *,
    cards: Mapping[str, dict[str, Any]] | None = None,
    version: Any = 1,
    with_masks: bool = True,
    metrics: dict[str, Any] | None = None,
    protocol: ProtocolConfig | None = None,
    seeds: Sequence[int] = (0,),
    epochs: int = 2,
) -> Store:
    """A store with a finished run of every method over `data`: a method's masks are the references moved by so many pixels."""
    store, dataset = Store(root), Dataset.open(data)
    samples, rules = dataset.by_key(), protocol or ProtocolConfig()
    store.prepare()
    entries = []
    for split in make_splits(dataset, rules):
        for (name, moved), seed in itertools.product(methods.items(), seeds):
            card = {**CARD, "title": name.title(), **(cards or {}).get(name, {})}
            spec = trial_spec(
                method={
                    "name": name,
                    "version": version,
                    "model": {"_target_": f"x.{name}", "weights": "/home/me/w.pt"},
                    "card": card,
                },
                training={"selection": "training_domain_validation", "image_size": 64, "epochs": epochs},
                split=split.to_json(),
                seed=seed,
                data={"root": str(data), "name": "small"},
                protocol=asdict(rules),
                metrics=metrics,
            )
            keys = [(role, key) for role in ("test", "validation") for key in split.of(role)]
            measured = [_measured(samples[key], moved, tuple(asdict(spec.evaluation).items())) for _, key in keys]
            masks = {place: mask for place, (mask, _) in zip(keys, measured, strict=True)}
            rows = [{**row, "role": role} for (role, _), (_, row) in zip(keys, measured, strict=True)]
            finished_trial(
                store, spec, pd.DataFrame(rows), masks=masks if with_masks else None, epochs=2, images_seen=24,
                provenance={
                    "bench": "0.1.0", "python": "3.11.7", "machine": {"host": "secret-node", "device": "cpu"},
                    "command": ["python", "-m", "harness", "run", "data.root=/home/me/secret/small"],
                },
            )  # fmt: skip
            entries.append(TrialEntry.of(spec))
    store.start_suite("lab", "name: lab\ndata: {root: /home/me/secret/small}\n", entries)
    return store


@cache
def _measured(sample: Sample, moved: int, rules: tuple[tuple[str, Any], ...]) -> tuple[np.ndarray, dict[str, Any]]:
    """The reference moved by so many pixels, and its row: the same in every fold and in many tests."""
    mask = np.roll(read_mask(sample.mask), moved, 1)
    return mask, measure_image(sample, mask, "test", MetricsConfig(**dict(rules)))


def packed(
    store: Store, *, with_masks: bool = True, earlier: tuple[str, bytes] | None = None, **submitter: str
) -> Packed:
    """The store's run as `submit` packs it."""
    suite = find_suite(store)
    return pack_records(
        read_runs([(store, suite)]),
        [suite],
        submitter,
        with_masks=with_masks,
        earlier=(earlier[0], parse_submission(earlier[1])) if earlier else None,
    )


def tampered(
    content: bytes,
    *,
    manifest: Callable[[Manifest], None] | None = None,
    tables: Mapping[str, Callable[[pd.DataFrame], pd.DataFrame]] | None = None,
    members: Callable[[Members], None] | None = None,
) -> bytes:
    """A submission by someone who knows the format: changed, with all checksums made anew."""
    parts = unpack(content)
    for name, change in (tables or {}).items():
        parts[name] = write_table(name, change(read_table(name, parts[name])))
    if members is not None:
        members(parts)
    whole = json.loads(parts[MANIFEST])
    whole["files"] = {name: hashlib.sha256(part).hexdigest() for name, part in parts.items() if name != MANIFEST}
    if manifest is not None:
        manifest(whole)
    whole.pop("checksum", None)
    parts[MANIFEST] = canonical_json({**whole, "checksum": sha256_json(whole)}).encode()
    return pack(parts)
