"""`data prepare`: from the archives of a public dataset to a canonical folder."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.common import progress_bar

if TYPE_CHECKING:
    from harness.data.folder.sample import Problem
    from harness.data.sources.prepare import Outcome

SOME_FAILED = 2


def add_part(parts: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds `prepare` to the parts of `data`."""
    prepare = parts.add_parser(
        "prepare",
        help="make a canonical folder of a public dataset's archives",
        description="Pairs images and masks in the archives of a public dataset (`data list` shows all) and writes them to"
        " ROOT/<modality>/<dataset> with subjects, official splits and the licence. Run it again to go on after a stop.",
    )
    prepare.add_argument("name", help="the dataset, as `data list` names it")
    prepare.add_argument(
        "--source", type=Path, nargs="+", required=True, metavar="PATH", help="its archives (zip, tar, 7z) or folders"
    )
    prepare.add_argument("--root", type=Path, required=True, help="the canonical folder; made when it is missing")
    prepare.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from harness.data.sources.public import prepare_public
    from harness.data.sources.recipe import recipe

    chosen = recipe(args.name)
    with progress_bar("Preparing") as progress:
        result = prepare_public(chosen, args.source, args.root, progress)
    folders = ", ".join(f"{args.root / modality / chosen.domain}" for modality in chosen.modalities)
    print(f"{chosen.title}: {counts(result.outcome)} in {folders}")
    if not result.complete:
        print(
            f"A whole download gives {chosen.pairs} pairs: something is missing, or was skipped. To take: {chosen.download}."
        )
    print_problems("Skipped", result.skipped)
    print_outcome(result.outcome)
    print(f"Licence: {chosen.licence}. Cite: {chosen.citation}.")
    for trap in chosen.traps:
        print(f"Note: {trap}")
    print_next(args.root)
    return SOME_FAILED if result.outcome.failed else 0


def counts(outcome: Outcome) -> str:
    """ "12 pairs (3 of them from before)"."""
    kept = f" ({len(outcome.kept)} of them from before)" if outcome.kept else ""
    return f"{len(outcome.pairs)} pairs{kept}"


def print_outcome(outcome: Outcome) -> None:
    """What failed, and what is worth a look."""
    print_problems("Could not be read, and left out", outcome.failed)
    print_problems("Worth a look", outcome.notes)


def print_problems(title: str, problems: Sequence[Problem]) -> None:
    """The problems below their title; nothing where there are none."""
    from harness.data.folder.sample import list_problems

    if problems:
        print(f"{title} ({len(problems)}):\n{list_problems(problems)}")


def print_next(root: Path) -> None:
    """What to type next."""
    print(f"Next: python -m harness data verify {root}\n      python -m harness run data.root={root}")
