"""`data` and its parts: `verify`, `fingerprint`, `phantoms` and `list` are here, each other one is in `data_<part>.py`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli import data_add, data_corrupt, data_label_noise, data_prepare
from harness.cli.common import progress_bar, terminal
from harness.errors import UserError, counted

if TYPE_CHECKING:
    from harness.data.fingerprint import DomainFingerprint

PROBLEMS_FOUND = 2

_LEGEND = (
    "Width and height in pixels: least/median/largest. Area: quartiles of the masks' share of the image. "
    "Mean and standard deviation of red, green and blue in % of white. White: its value in files of more than 8 bits."
)


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command `data` with its parts; each sets `run`, a function of the arguments that gives the exit code."""
    parser = subparsers.add_parser("data", help="examine datasets, draw phantoms, list public datasets")
    parts = parser.add_subparsers(dest="part", metavar="PART", required=True)

    verify = parts.add_parser(
        "verify",
        help="examine a dataset: sizes, hashes, masks, files without partner, copies",
        description="Examines every file of a dataset. Exit code 0 when it is sound, 2 when it has problems.",
    )
    verify.add_argument("root", type=Path, help="the dataset's folder")
    verify.add_argument(
        "--pictures", type=Path, metavar="DIR", help="for pictures of doubtful masks; default: the cache"
    )
    verify.add_argument("--json", action="store_true", help="print all that was found as JSON")
    verify.set_defaults(run=run_verify)

    fingerprint = parts.add_parser("fingerprint", help="what the images of each domain are like, in figures")
    fingerprint.add_argument("root", type=Path, help="the dataset's folder")
    fingerprint.add_argument("--json", action="store_true", help="print the figures as JSON")
    fingerprint.set_defaults(run=run_fingerprint)

    phantoms = parts.add_parser("phantoms", help="draw artificial images with exact masks, for all modalities")
    phantoms.add_argument("--out", type=Path, required=True, help="a new folder for the dataset")
    phantoms.add_argument("--images-per-domain", type=int, default=16, metavar="N")
    phantoms.add_argument("--image-size", type=int, default=256, metavar="S", help="side in pixels")
    phantoms.add_argument("--seed", type=int, default=0, metavar="K", help="another seed draws other images")
    phantoms.set_defaults(run=run_phantoms)

    data_corrupt.add_part(parts)
    listing = parts.add_parser("list", help="public datasets for each modality; with a folder, what is in it")
    listing.add_argument("root", type=Path, nargs="?", help="a dataset's folder")
    listing.set_defaults(run=run_list)
    data_prepare.add_part(parts)
    data_add.add_part(parts)
    data_label_noise.add_part(parts)


def run_verify(args: argparse.Namespace) -> int:
    from harness.data.dataset import existing_folder
    from harness.data.folder.layout_help import how_to_add
    from harness.data.validation.integrity import verify

    root = existing_folder(args.root)
    with progress_bar("Examining") as progress:
        report = verify(root, progress, args.pictures)
    print(json.dumps(report.as_dict(), indent=2, ensure_ascii=False) if args.json else report.text())
    if not (args.json or report.pairs):
        print(how_to_add(root))
    return 0 if report.ok else PROBLEMS_FOUND


def run_fingerprint(args: argparse.Namespace) -> int:
    from harness.data.dataset import Dataset
    from harness.data.fingerprint import fingerprint_domains

    with progress_bar("Reading") as progress:
        dataset = Dataset.open(args.root, progress=progress)
        domains = fingerprint_domains(dataset, progress)
    if args.json:
        value = {"fingerprint": dataset.fingerprint(), "domains": [domain.as_dict() for domain in domains]}
        print(json.dumps(value, indent=2, ensure_ascii=False))
    else:
        _print_fingerprint(domains)
        print(f"{counted(len(dataset.samples), 'image')}. Fingerprint of the content: {dataset.fingerprint()}")
    return 0


def run_phantoms(args: argparse.Namespace) -> int:
    from harness.config import PhantomConfig
    from harness.config.validation import Range, rule_of
    from harness.data.phantoms import write_phantoms

    for name in ("images_per_domain", "image_size", "seed"):
        # The limits of data.phantoms.*: what is drawn here can be run as well.
        value, rule = getattr(args, name), rule_of(PhantomConfig, name)
        if isinstance(rule, Range) and not rule.low <= value <= rule.high:
            raise UserError(f"Expected {rule.words} for --{name.replace('_', '-')}, found {value}.")
    if args.out.exists() and (not args.out.is_dir() or any(args.out.iterdir())):
        raise UserError(
            f"{args.out}: expected a new or empty folder for the phantoms, found files. Give another --out."
        )
    write_phantoms(args.out, images_per_domain=args.images_per_domain, image_size=args.image_size, seed=args.seed)
    print(f"Phantoms written to {args.out}. Use them with data.root={args.out}")
    return 0


def run_list(args: argparse.Namespace) -> int:
    return _list_catalogue() if args.root is None else _list_folder(args.root)


def _list_catalogue() -> int:
    from rich.table import Table
    from rich.text import Text

    from harness.data.folder.sample import MODALITIES
    from harness.data.sources.recipe import recipes

    console, known = terminal(), list(recipes().values())
    others = sorted({one.modality for one in known} - set(MODALITIES))
    for modality in (*MODALITIES, *others):
        table = Table(title=f"{modality} (public datasets)", title_justify="left", expand=False)
        for column in ("name", "dataset", "pairs", "licence", "what to take"):
            table.add_column(column, overflow="fold")
        chosen = [one for one in known if one.modality == modality]
        for one in chosen:
            layout = "" if one.confirmed else "\nlayout not confirmed"
            title = Text.assemble(f"{one.title}\n", (one.citation, "dim"), (layout, "yellow"))
            table.add_row(one.name, title, str(one.pairs or "?"), one.licence, one.download)
        console.print(table)
        for one in chosen:  # outside the table, and never broken: an address is there to be copied
            console.print(f"  {one.name}: {one.home}", soft_wrap=True, markup=False, highlight=False)
        console.print()
    console.print(
        "Downloaded one? python -m harness data prepare NAME --source ARCHIVE ... --root FOLDER\n"
        "Data of your own: python -m harness data add FOLDER --modality MODALITY --root ROOT",
        markup=False,
    )
    return 0


def _list_folder(root: Path) -> int:
    from rich.table import Table

    from harness.data.dataset import Dataset

    dataset = Dataset.open(root, verify=False)
    table = Table(title=str(dataset.root), title_justify="left")
    for column in ("modality", "domain"):
        table.add_column(column)
    for column in ("images", "subjects"):
        table.add_column(column, justify="right")
    for modality in dataset.modalities():
        for domain in dataset.domains(modality):
            samples = [sample for sample in dataset.samples if (sample.modality, sample.domain) == (modality, domain)]
            subjects = {sample.subject for sample in samples}
            table.add_row(modality, domain, str(len(samples)), "unknown" if None in subjects else str(len(subjects)))
    terminal().print(table)
    return 0


def _print_fingerprint(domains: list[DomainFingerprint]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    with_levels = any(domain.white_level is not None for domain in domains)
    with_subjects = any(domain.subjects is not None for domain in domains)
    table = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False, caption=_LEGEND, caption_justify="left")
    table.add_column("domain", no_wrap=True)
    columns = (
        "images",
        *(["subjects"] if with_subjects else []),
        "width",
        "height",
        "area %",
        "mean %",
        "std %",
        *(["white"] if with_levels else []),
    )
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    previous = None
    for domain in domains:
        if domain.modality != previous:
            table.add_section()
            table.add_row(Text(domain.modality, style="bold"))
            previous = domain.modality
        subjects = [] if not with_subjects else ["-" if domain.subjects is None else str(domain.subjects)]
        table.add_row(
            f" {domain.domain}",
            str(domain.images),
            *subjects,
            _spread(domain.width),
            _spread(domain.height),
            " ".join(f"{100 * value:.1f}" for value in domain.foreground),
            " ".join(f"{100 * value:.0f}" for value in domain.mean),
            " ".join(f"{100 * value:.0f}" for value in domain.std),
            *([] if not with_levels else ["-" if domain.white_level is None else f"{domain.white_level:g}"]),
        )
    terminal().print(table)


def _spread(values: tuple[float, float, float]) -> str:
    """`512`, or `245/283/512` when they are not all the same."""
    return "/".join(f"{value:.0f}" for value in (values if values[0] != values[2] else values[:1]))
