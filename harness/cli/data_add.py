"""`data add`: from a folder of your own to a canonical folder. Guesses the pairs, shows them, asks once."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.common import progress_bar
from harness.cli.data_prepare import SOME_FAILED, counts, print_next, print_outcome, print_problems
from harness.errors import UserError, near_name

if TYPE_CHECKING:
    from harness.data.sources.guess import Choice
    from harness.data.sources.pairing import SourcePair


def add_part(parts: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds `add` to the parts of `data`."""
    add = parts.add_parser(
        "add",
        help="make a canonical folder of images and masks of your own",
        description="Guesses which files are images and masks, shows five pairs, asks once, and writes them to"
        " ROOT/<modality>/<domain>.",
    )
    add.add_argument("source", type=Path, nargs="+", help="a folder or archives")
    add.add_argument("--root", type=Path, required=True, help="the canonical folder; made when it is missing")
    add.add_argument(
        "--modality", required=True, help="dermoscopy, xray, ultrasound, fundus, microscopy, colonoscopy or another"
    )
    add.add_argument("--domain", help="the hospital or device; default: the folder's name")
    add.add_argument("--subject", metavar="REGEX", help="finds the patient in an image's path, for example 'P[0-9]+'")
    add.add_argument("--choose", type=int, metavar="N", help="the reading to take where there are several")
    add.add_argument("--yes", action="store_true", help="do not ask")
    add.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from harness.data.folder.sample import MODALITIES, fault_of_name
    from harness.data.sources.add import draw_pairs, readings_of, with_subjects, write_choice

    domain = args.domain or re.sub(r"[^\w.+-]+", "_", args.source[0].resolve().name.split(".")[0]).strip("_").lower()
    for option, name in (("--modality", args.modality), ("--domain", domain)):
        if fault := fault_of_name(name):
            raise UserError(f"{option}: expected a folder's name, found {fault}.")
    near = near_name(args.modality, MODALITIES)
    if args.modality not in MODALITIES and near:
        raise UserError(f"--modality {args.modality}: is none of the usual modalities.{near}")
    with readings_of(args.source, args.root, args.modality, domain) as readings:
        choice = readings[_chosen(readings, args)]
        pairs = with_subjects(choice.pairs, args.subject)
        sheet = args.root / f"{args.modality}-{domain}-pairs.png"
        draw_pairs(pairs, sheet)
        _print_choice(choice, pairs, sheet)
        _print_domain(pairs, args, domain)
        if not (args.yes or _agreed()):
            print("Nothing was written but the picture. Another reading: --choose N.")
            return 0
        with progress_bar("Preparing") as progress:
            outcome = write_choice(pairs, args.root, str(args.source[0]), progress)
    print(f"{counts(outcome)} in {args.root / args.modality / domain}")
    print_problems("Skipped", choice.lone)
    print_outcome(outcome)
    if _domains_of(args.root / args.modality) == [domain]:
        print(
            f"{args.modality} has one domain so far, {domain}. leave_one_domain_out needs two: add the images of another"
            f" hospital or device to {args.root}, or run with protocol=in_domain."
        )
    print_next(args.root)
    return SOME_FAILED if outcome.failed else 0


def _domains_of(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if (entry / "images").is_dir())


def _chosen(readings: Sequence[Choice], args: argparse.Namespace) -> int:
    """The number of the reading to take; asks where there are several and a person is there."""
    if args.choose is not None:
        if not 1 <= args.choose <= len(readings):
            raise UserError(f"--choose {args.choose}: expected 1 to {len(readings)}.")
        return int(args.choose) - 1
    if len(readings) == 1:
        return 0
    listed = "\n".join(f"  {number}: {reading.words}" for number, reading in enumerate(readings, 1))
    if not sys.stdin.isatty():
        raise UserError(f"{args.source[0]}: can be read in {len(readings)} ways:\n{listed}\nSay which: --choose N.")
    print(f"{args.source[0]} can be read in {len(readings)} ways:\n{listed}")
    answer = input(f"Which one (1 to {len(readings)})? ").strip()
    if not answer.isdigit() or not 1 <= int(answer) <= len(readings):
        raise UserError(f"Expected a number from 1 to {len(readings)}, found '{answer}'.")
    return int(answer) - 1


def _print_choice(choice: Choice, pairs: Sequence[SourcePair], sheet: Path) -> None:
    print(f"{choice.words}. For example:")
    for pair in pairs[:: max(1, len(pairs) // 3)][:3]:
        masks = " + ".join(mask.path for mask in pair.masks[:2]) + (" + ..." if len(pair.masks) > 2 else "")
        subject = f", subject {pair.subject}" if pair.subject else ""
        print(f"  {pair.image.path}  with  {masks}  as  {pair.id}{subject}")
    if not any(pair.subject for pair in pairs):
        print("  Subjects are unknown: if a patient has several images, say where the name tells it: --subject REGEX.")
    print(f"Five of them, masks in red: {sheet}")


def _print_domain(pairs: Sequence[SourcePair], args: argparse.Namespace, domain: str) -> None:
    """Where the pairs go; and that folders of several hospitals become one, which nobody could take apart later."""
    print(f"All of them become one domain: {args.modality}/{domain}. Another name: --domain NAME.")
    folders = sorted({pair.image.path.split("/")[0] for pair in pairs if "/" in pair.image.path})
    if args.domain is None and len(folders) > 1:
        listed = ", ".join(folders[:4]) + (", ..." if len(folders) > 4 else "")
        print(
            f"They come from {len(folders)} folders ({listed}). If these are hospitals or devices, add each by a command of its"
            " own: a domain is what can be held out."
        )


def _agreed() -> bool:
    if not sys.stdin.isatty():
        raise UserError("Nobody is there to ask. Look at the picture, and say --yes if it is right.")
    return input("Is that right [y/N]? ").strip().lower() in ("y", "yes")
