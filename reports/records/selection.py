"""Parts of records: only some methods, modalities, domains or seeds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from harness.errors import UserError, did_you_mean
from reports.records.reading import count_cells
from reports.records.records import Records, ReportedTrial, domain_of


@dataclass(frozen=True)
class Selection:
    """Patterns with * and ?, compared without case; an empty list lets everything through. Domains are "modality/domain"."""

    methods: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()

    def __str__(self) -> str:
        parts = {
            "methods": self.methods, "modalities": self.modalities, "domains": self.domains, "prompts": self.prompts,
            "seeds": tuple(map(str, self.seeds)),
        }  # fmt: skip
        return "; ".join(f"{name} {', '.join(words)}" for name, words in parts.items() if words)


def select(records: Records, selection: Selection) -> Records:
    """The records of what fits all of the selection's parts. Means are then over the chosen domains only.

    Raises:
        UserError: a pattern fits nothing; names what there is.
    """
    if not str(selection):
        return records
    methods = _fitting("method", records.methods, selection.methods)
    prompts = {name: records.methods[name].prompt for name in methods}
    fitting = set(_fitting("prompt", dict.fromkeys(prompts.values()), selection.prompts))
    methods = [name for name in methods if prompts[name] in fitting]
    every = list(dict.fromkeys(records.cells["domain"]))
    modalities = {name.split("/")[0] for name in every}
    chosen = set(_fitting("modality", sorted(modalities), selection.modalities))
    domains = [name for name in _fitting("domain", every, selection.domains) if name.split("/")[0] in chosen]
    seeds = {trial.seed for trial in records.trials}
    _fitting("seed", [str(seed) for seed in sorted(seeds)], [str(seed) for seed in selection.seeds])
    kept_seeds = set(selection.seeds) or seeds
    trials = [trial for trial in records.trials if trial.method in methods and trial.seed in kept_seeds]
    if not trials or not domains:
        raise UserError(f"Nothing fits all filters at once ({selection}). Leave one of them out.")
    samples, cells, curves = records.samples, records.cells, records.curves
    places = samples["modality"].astype(str) + "/" + samples["domain"].astype(str)
    if selection.domains or selection.modalities:
        # A trial that tests none of them is no hole in them.
        trials = [trial for trial in trials if not trial.spec or _tests(trial, set(domains))]
    rows = samples["method"].isin(methods) & samples["seed"].isin(kept_seeds) & places.isin(domains)
    corrupted = records.corrupted
    corrupted = corrupted[corrupted["method"].isin(methods) & corrupted["seed"].isin(kept_seeds)]
    if selection.seeds:
        cells = count_cells([trial for trial in records.trials if trial.seed in kept_seeds])
    return replace(
        records,
        trials=trials,
        methods={name: facts for name, facts in records.methods.items() if name in methods},
        samples=samples[rows].reset_index(drop=True),
        cells=cells[cells["method"].isin(methods) & cells["domain"].isin(domains)].reset_index(drop=True),
        curves=curves[curves["method"].isin(methods) & curves["seed"].isin(kept_seeds)].reset_index(drop=True),
        corrupted=corrupted[corrupted["domain"].isin(domains)].reset_index(drop=True),
        notes=(*records.notes, f"Only a part of the run is shown: {selection}."),
    )


def _tests(trial: ReportedTrial, domains: set[str]) -> bool:
    return trial.spec is not None and any(domain_of(key) in domains for key in trial.spec.split.test)


def _fitting(kind: str, names: Iterable[str], patterns: Sequence[str]) -> list[str]:
    known = list(names)
    for pattern in patterns:
        if not any(fnmatchcase(name.casefold(), pattern.casefold()) for name in known):
            raise UserError(f"No {kind} fits '{pattern}'.{did_you_mean(pattern, known)}")
    fits = [name for name in known if any(fnmatchcase(name.casefold(), p.casefold()) for p in patterns)]
    return fits if patterns else known
