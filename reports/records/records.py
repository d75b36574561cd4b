"""What a report knows of its runs: trials, methods, and one row per trial and image."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from harness.methods.card import start_of
from harness.store.records import SearchChoice, SuiteRecord
from harness.trial_spec import TrialIds, TrialSpec
from reports.records.corruption import no_corruption

GUESS = "guessed_modality"
"""Column of samples: what a method that infers the modality took the image for; missing where it does not."""
ROLES = ("test", "validation")
STATES = ("done", "failed", "unfinished", "damaged", "missing")
"""Of a trial. `unfinished` was begun and has no result; `damaged` has files that don't match; `missing` was never begun."""


@dataclass(frozen=True)
class ReportedTrial:
    """One expected trial and what became of it.

    Attributes:
        id: what no other trial of a report shares: one measurement may stand under two names.
        metrics: metric -> the version that its column was computed by.
        predictions: folder of the masks, <role>/<key>.png, where they were kept.
        error: the file with a failed one's traceback, relative to the store.
        search: what a nested search chose for the method on this fold; None where none was made.
    """

    id: str
    ids: TrialIds
    method: str
    fold: str
    seed: int
    state: str
    reason: str = ""
    seconds: float | None = None
    spec: TrialSpec | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, int] = field(default_factory=dict)
    predictions: Path | None = None
    error: str = ""
    search: SearchChoice | None = None


@dataclass(frozen=True)
class MethodFacts:
    """What a method's card and training settings say. No two methods of a run share a `title`.

    `origin` is the configured name of one that a report of several runs had to call otherwise; `geometry` is how images became
    squares, "" where another tool made the masks.
    """

    name: str
    title: str
    card: dict[str, Any]
    selection: str
    image_size: int | None
    model: dict[str, Any] | None = None
    version: int | None = None
    origin: str = ""
    geometry: str = ""

    @property
    def prompt(self) -> str:
        return str(self.card.get("prompt", "none"))

    @property
    def start(self) -> str:
        """What its weights learnt on before this run, one of `harness.methods.card.STARTS`."""
        return start_of(self.card)

    @property
    def pretrained_on(self) -> list[str]:
        """The data behind its start, as far as its card names them."""
        return [str(name) for name in self.card.get("pretrained_on") or []]

    @property
    def trivial_baseline(self) -> bool:
        """A trivial method, by its card: a network that does not beat it has learnt nothing of use."""
        return self.card.get("trivial_baseline") is True

    @property
    def modality_knowledge(self) -> str:
        """Of the image's modality: "none", "given" (the true one) or "inferred" (guessed from the image)."""
        use = self.card.get("uses_modality", False)
        return "inferred" if use == "inferred" else "given" if use is True else "none"

    @property
    def external(self) -> bool:
        """Its masks were made by another tool and measured here."""
        return self.card.get("external") is True

    @property
    def resized(self) -> int:
        """Of another tool's masks: how many had another size than their image and were brought to it."""
        return int(self.card.get("resized") or 0)

    @property
    def sees_test_images(self) -> bool:
        """It adapts itself to the unlabelled images of a test domain, which the others meet one by one."""
        return self.card.get("sees_test_images") is True

    @property
    def oracle(self) -> bool:
        """It was helped by the truth: prompted with it, or its weights were chosen on the test images."""
        return self.prompt.startswith("oracle") or self.selection == "oracle"

    def possibly_seen(self, domains: Iterable[str]) -> list[str]:
        """Those of `domains` ("modality/domain") that its pretraining data may contain, by name."""
        known = {_plain(str(name)) for name in self.card.get("pretrained_on") or []}
        return [domain for domain in domains if {_plain(domain), _plain(domain.partition("/")[2])} & known]


@dataclass(frozen=True)
class Records:
    """One run of a suite.

    Attributes:
        samples: one row per trial and image: method, fold, seed, trial, key, modality, domain, id, subject, role, sizes, metrics.
        cells: one row per method, role and domain ("modality/domain") that the trials should cover: `expected` and `found`
            trials, `state` ("done" or the worst state among its trials), `why` (the trials without a result), `keys` of the
            images asked for.
        curves: method, fold, seed and the columns of curves.csv.
        corrupted: sums over the corrupted test images of a trial, see `reports.records.corruption`, with method, fold, seed and
            trial; such images have no rows in `samples`.
        unmeasured: method -> metrics that some of its trials have no column for.
        notes: what was left out or renamed on the way here.
    """

    suite: SuiteRecord
    trials: list[ReportedTrial]
    methods: dict[str, MethodFacts]
    samples: pd.DataFrame
    cells: pd.DataFrame
    curves: pd.DataFrame
    efficiency: list[dict[str, Any]]
    unmeasured: dict[str, frozenset[str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    corrupted: pd.DataFrame = field(default_factory=no_corruption)

    @property
    def domains(self) -> list[str]:
        """ "modality/domain" of all expected test domains, in the order of modalities in the data."""
        return list(dict.fromkeys(self.cells.loc[self.cells["role"] == "test", "domain"]))

    @property
    def unseen(self) -> bool:
        """Whether the test domains were kept out of training (all protocols but `in_domain`)."""
        specs = [trial.spec for trial in self.trials if trial.spec]
        return all(spec.split.held_out for spec in specs) if specs else True

    @property
    def seen_domains(self) -> list[str]:
        """Where the seen side of the gap is measured: the tested domains, on images of folds that trained on them.

        Where some tested domain has no such images (few folds, or a protocol that never trains on it): all seen domains.
        """
        seen = list(dict.fromkeys(self.cells.loc[self.cells["role"] == "validation", "domain"]))
        return self.domains if set(self.domains) <= set(seen) else seen

    @property
    def seen_where_tested(self) -> bool:
        return set(self.seen_domains) == set(self.domains)

    @property
    def nsd_tolerance(self) -> float | None:
        """In pixels; None where no trial says it, or trials differ."""
        found = {trial.spec.evaluation.nsd_tolerance for trial in self.trials if trial.spec}
        return float(found.pop()) if len(found) == 1 else None

    def partly_tested(self) -> dict[str, tuple[int, int]]:
        """Modality -> (tested domains, all domains), of those that the folds don't test as a whole; {} while unknown."""
        splits = {trial.fold: trial.spec.split for trial in self.trials if trial.spec}
        if set(splits) != {trial.fold for trial in self.trials}:
            return {}
        every = {id(trial.spec.split): trial.spec.split for trial in self.trials if trial.spec}.values()
        known = {domain_of(key) for split in every for key in split.keys}
        tested = set(self.domains)
        counts: dict[str, tuple[int, int]] = {}
        for domain in sorted(known, key=modality_order(known).__getitem__):
            done, all_ = counts.get(domain.split("/")[0], (0, 0))
            counts[domain.split("/")[0]] = (done + (domain in tested), all_ + 1)
        return {modality: (done, all_) for modality, (done, all_) in counts.items() if done < all_}

    def trials_of(self, method: str) -> list[ReportedTrial]:
        return [trial for trial in self.trials if trial.method == method]


def domain_of(key: str) -> str:
    """ "modality/domain/id" -> "modality/domain"."""
    return "/".join(key.split("/", 2)[:2])


def modality_order(domains: Iterable[str]) -> dict[str, tuple[int, str]]:
    from harness.data.folder.sample import MODALITIES

    places = {name: index for index, name in enumerate(MODALITIES)}
    return {name: (places.get(name.split("/")[0], len(places)), name) for name in domains}


def _plain(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum())
