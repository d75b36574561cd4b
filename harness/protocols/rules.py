"""Protocols: which images a trial trains on, selects on and is tested on.

Each protocol gives every modality a list of *turns*; a turn says which domains are seen in training and which are not.
`scope: universal` joins one turn of every modality into a fold, for which one model of all modalities is trained:
fold f takes turn f, and a modality with fewer turns starts again with its first. `scope: per_modality` makes every turn
a split of its own, with a model of its own. `max_folds` keeps the first folds (of each modality).

| protocol | a turn | turns of a modality with n domains |
|---|---|---|
| `leave_one_domain_out` | all domains but one seen, that one tested | n |
| `single_source` | one domain seen, all others tested | n |
| `seen_to_unseen` | fixed lists; without `pairs` the first half (rounded up) of the domains seen | 1 |
| `corruptions` | as `leave_one_domain_out`; the test images are predicted in corrupted forms as well | n |
| `in_domain` | every domain seen; `test_fraction` of each is kept for testing | 1 |

Validation images are a part of every training domain, never of a held-out one. Images of one subject, and exact copies
of one image, stay together. A subject is a name within its domain: patient 7 of one hospital is not that of another.
Everything depends on names, hashes and `split_seed` alone, so that adding a domain does not reshuffle the others.
A manifest's `split` column is ignored: published train and test parts lie inside one domain, and a domain held out here
is tested as a whole.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import UserError, did_you_mean
from harness.protocols.grouping import _groups, _take
from harness.protocols.split import Split

if TYPE_CHECKING:
    from harness.config import ProtocolConfig
    from harness.data.dataset import Dataset, Sample

logger = logging.getLogger(__name__)

SCOPES = ("universal", "per_modality")


@dataclass(frozen=True)
class _Turn:
    """Domains seen and unseen in one fold of one modality; nothing unseen: the test images come from the seen ones."""

    name: str
    modality: str
    seen: tuple[str, ...]
    unseen: tuple[str, ...]


def make_splits(dataset: Dataset, protocol: ProtocolConfig) -> list[Split]:
    """Divides a dataset by a protocol; the same dataset and settings give the same splits, in the same order.

    Raises:
        UserError: an unknown protocol or scope, a number out of range, no images, a modality with fewer than two
            domains where domains are held out, or `pairs` that do not fit the dataset.
    """
    if protocol.name not in PROTOCOLS:
        raise UserError(f"Unknown protocol '{protocol.name}'.{did_you_mean(protocol.name, PROTOCOLS)}")
    if protocol.scope not in SCOPES:
        raise UserError(f"Unknown protocol.scope '{protocol.scope}'.{did_you_mean(protocol.scope, SCOPES)}")
    if protocol.max_folds is not None and protocol.max_folds < 1:
        raise UserError(f"protocol.max_folds={protocol.max_folds}: expected a whole number from 1 up, or null for all.")
    for key in ("validation_fraction", "test_fraction"):
        if not 0 < getattr(protocol, key) < 1:
            raise UserError(f"protocol.{key}={getattr(protocol, key)}: expected a number between 0 and 1, such as 0.2.")
    if not dataset.samples:
        raise UserError(f"There are no images to split in {dataset.root}. Check data.root and data.modalities.")

    turns = [modality[: protocol.max_folds] for modality in PROTOCOLS[protocol.name](dataset, protocol)]
    if protocol.scope == "per_modality":
        folds = [(turn.name, [turn]) for modality in turns for turn in modality]
    else:
        count = max(len(modality) for modality in turns)
        folds = [(f"fold{fold}", [modality[fold % len(modality)] for modality in turns]) for fold in range(count)]
    samples: dict[tuple[str, str], list[Sample]] = {}
    for sample in dataset.samples:
        samples.setdefault((sample.modality, sample.domain), []).append(sample)
    groups = {domain: _groups(members, protocol.split_seed) for domain, members in samples.items()}
    by_key = dataset.by_key()
    splits = {key: sample.split for key, sample in by_key.items()}
    return [_build(name, parts, groups, protocol, splits).with_content(by_key) for name, parts in folds]


def _leave_one_domain_out(dataset: Dataset, protocol: ProtocolConfig) -> list[list[_Turn]]:
    turns = []
    for modality in dataset.modalities():
        domains = _at_least_two(dataset, modality, protocol)
        turns.append([_Turn(f"{modality}-{out}", modality, _without(domains, out), (out,)) for out in domains])
    return turns


def _single_source(dataset: Dataset, protocol: ProtocolConfig) -> list[list[_Turn]]:
    turns = []
    for modality in dataset.modalities():
        domains = _at_least_two(dataset, modality, protocol)
        turns.append([_Turn(f"{modality}-from-{one}", modality, (one,), _without(domains, one)) for one in domains])
    return turns


def _in_domain(dataset: Dataset, protocol: ProtocolConfig) -> list[list[_Turn]]:
    return [[_Turn(modality, modality, tuple(dataset.domains(modality)), ())] for modality in dataset.modalities()]


def _seen_to_unseen(dataset: Dataset, protocol: ProtocolConfig) -> list[list[_Turn]]:
    """`pairs: {dermoscopy: {seen: [isic2017], unseen: [ph2]}, ...}`; modalities that are not listed take no part."""
    if protocol.pairs is None:
        turns = []
        for modality in dataset.modalities():
            domains = _at_least_two(dataset, modality, protocol)
            half = (len(domains) + 1) // 2
            turns.append([_Turn(f"{modality}-unseen", modality, tuple(domains[:half]), tuple(domains[half:]))])
        return turns
    if not protocol.pairs:
        raise UserError(
            "protocol.pairs is empty: list at least one modality, or use null to derive pairs from the data."
        )
    pairs = {str(modality): pair for modality, pair in protocol.pairs.items()}
    if protocol.missing == "skip":
        pairs = _complete_pairs(dataset, pairs)
    return [[_read_pair(dataset, modality, pair)] for modality, pair in pairs.items()]


def _complete_pairs(dataset: Dataset, pairs: dict[str, Any]) -> dict[str, Any]:
    """The pairs whose domains are all there; says of the others what is missing and how to get it.

    Raises:
        UserError: not one is complete.
    """
    lacking = {modality: missing for modality, pair in pairs.items() if (missing := _missing(dataset, modality, pair))}
    lines = [f"  {modality}: {', '.join(_how_to_get(name) for name in names)}" for modality, names in lacking.items()]
    text = f"{dataset.root} lacks domains of {len(lacking)} of {len(pairs)} pairs:\n" + "\n".join(lines)
    if len(lacking) == len(pairs):
        raise UserError(f"{text}\nGive the folder that holds them: data.root=FOLDER.")
    if lacking:
        logger.warning("%s\nThese pairs are left out; the others run.", text)
    return {modality: pair for modality, pair in pairs.items() if modality not in lacking}


def _missing(dataset: Dataset, modality: str, pair: object) -> list[str]:
    if not isinstance(pair, dict) or set(pair) != {"seen", "unseen"}:
        return []  # refused by name, when it is read
    there = dataset.domains(modality) if modality in dataset.modalities() else []
    return [str(name) for role in ("seen", "unseen") for name in pair[role] if name not in there]


def _how_to_get(domain: str) -> str:
    """`ph2 (data prepare ph2 --source ..., from https://...)`; the name alone where the catalogue does not know it."""
    from harness.data.sources.recipe import recipes

    known = recipes().get(domain)
    return f"{domain} (`data prepare {domain}`, from {known.home})" if known else domain


def _read_pair(dataset: Dataset, modality: str, pair: object) -> _Turn:
    key = f"protocol.pairs.{modality}"
    if modality not in dataset.modalities():
        hint = did_you_mean(modality, dataset.modalities())
        raise UserError(
            f"{key}: the dataset has no modality '{modality}'.{hint} Remove a pair that isn't wanted: ~{key}."
        )
    if not isinstance(pair, dict) or set(pair) != {"seen", "unseen"}:
        raise UserError(f"{key}: expected {{seen: [domain, ...], unseen: [domain, ...]}}, found {pair}.")
    for role, names in pair.items():
        if not isinstance(names, list | tuple) or not names:
            raise UserError(f"{key}.{role}: expected a list of at least one domain, found {names!r}.")
        for name in names:
            if name not in dataset.domains(modality):
                hint = did_you_mean(str(name), dataset.domains(modality))
                raise UserError(f"{key}.{role}: {modality} has no domain '{name}'.{hint}")
    both = sorted(set(pair["seen"]) & set(pair["unseen"]))
    if both:
        raise UserError(f"{key}: {', '.join(both)} can't be both seen and unseen. Remove it from one of the lists.")
    return _Turn(
        f"{modality}-unseen",
        modality,
        tuple(dict.fromkeys(pair["seen"])),
        tuple(dict.fromkeys(pair["unseen"])),
    )


PROTOCOLS: dict[str, Callable[[Dataset, ProtocolConfig], list[list[_Turn]]]] = {
    "leave_one_domain_out": _leave_one_domain_out,
    "seen_to_unseen": _seen_to_unseen,
    "in_domain": _in_domain,
    "single_source": _single_source,
    # The same splits by name and content: weights that were trained for the one are used by the other.
    "corruptions": _leave_one_domain_out,
}


def _at_least_two(dataset: Dataset, modality: str, protocol: ProtocolConfig) -> list[str]:
    domains = dataset.domains(modality)
    if len(domains) < 2:
        others = [name for name in dataset.modalities() if len(dataset.domains(name)) > 1]
        leave_out = f"leave {modality} out (data.modalities=[{','.join(others)}]), " if others else ""
        raise UserError(
            f"protocol {protocol.name} needs at least two domains in every modality; {modality} has only"
            f" '{domains[0]}'. Add images of another hospital or device as {dataset.root}/{modality}/<domain>,"
            f" {leave_out}or use protocol=in_domain."
        )
    return domains


def _without(domains: Sequence[str], one: str) -> tuple[str, ...]:
    return tuple(domain for domain in domains if domain != one)


def _build(
    name: str,
    turns: Sequence[_Turn],
    groups: dict[tuple[str, str], list[list[str]]],
    protocol: ProtocolConfig,
    splits: dict[str, str | None],
) -> Split:
    """`groups`: (modality, domain) -> sample keys that stay together, in the order they are taken for testing. `splits`: key -> its
    part of an official division."""
    train: list[str] = []
    validation: list[str] = []
    test: list[str] = []
    held_out: list[str] = []
    for turn in turns:
        for domain in turn.unseen:
            test += [key for group in groups[turn.modality, domain] for key in group]
            held_out.append(f"{turn.modality}/{domain}")
        for domain in turn.seen:
            rest = groups[turn.modality, domain]
            official = {} if turn.unseen else _official([key for group in rest for key in group], splits)
            if official:
                test += official["test"]
                rest = [kept for group in rest if (kept := [key for key in group if key in official["train"]])]
            elif not turn.unseen:
                if len(rest) < 2:
                    raise UserError(
                        f"protocol in_domain needs at least two subjects (or images without a subject) in every domain;"
                        f" {turn.modality}/{domain} has one. Add images, or leave the domain out."
                    )
                tested, rest = _take(rest, protocol.test_fraction)
                test += [key for group in tested for key in group]
            selected = [official["validation"]] if official.get("validation") else []
            if not selected:
                selected, rest = _take(rest, protocol.validation_fraction)
            validation += [key for group in selected for key in group]
            train += [key for group in rest for key in group]
    parts = [tuple(sorted(keys)) for keys in (train, validation, test, held_out)]
    return Split(name, train=parts[0], validation=parts[1], test=parts[2], held_out=parts[3])


def _official(keys: Sequence[str], splits: dict[str, str | None]) -> dict[str, list[str]]:
    """The official division of a domain: part -> keys; empty where it has none, or some image is in no part of it."""
    parts: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    for key in keys:
        if (part := splits[key]) is None:
            return {}
        parts[part].append(key)
    return parts if parts["train"] and parts["test"] else {}
