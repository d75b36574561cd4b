"""`data label-noise`: references of a finished run that a person should look at."""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.common import progress_bar, terminal

if TYPE_CHECKING:
    from harness.data.folder.sample import Sample
    from harness.evaluation.label_noise import Doubt

SHOWN, DRAWN = 10, 50


def add_part(parts: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds `label-noise` to the parts of `data`."""
    parser = parts.add_parser(
        "label-noise",
        help="after a run: references from which all methods differ alike",
        description="Lists test images whose reference may be wrong: the methods of the run agree with one another and not with"
        " it. Writes doubts.csv and pictures (image, reference, what the methods agree on). Nothing in the data is changed.",
    )
    parser.add_argument("--store", type=Path, default=Path("runs"), metavar="DIR", help="the store; default: runs")
    parser.add_argument("--suite", metavar="NAME", help="the run's suite; default: the newest run")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where to write")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from harness.data.dataset import Dataset
    from harness.evaluation.label_noise import doubtful_references
    from harness.files import explain_disk_errors
    from harness.store.queries import find_run
    from harness.store.store import Store

    store = Store(args.store)
    folder = find_run(store, args.suite)
    suite = next(one for one in store.suites() if one.folder == folder)
    trials = [entry.ids for entry in suite.trials if store.result(entry.ids) is not None]
    samples: dict[str, Sample] = {}
    for root in sorted({store.spec(ids).data.root for ids in trials}):
        samples |= Dataset.open(root, verify=False).by_key()
    with progress_bar("Comparing") as progress:
        doubts = doubtful_references(store, trials, samples, progress)
    with explain_disk_errors(args.out):
        args.out.mkdir(parents=True, exist_ok=True)
        _write(doubts, args.out)
    _print(doubts, args.out)
    return 0


def _write(doubts: Sequence[Doubt], out: Path) -> None:
    from harness.files import atomic_path

    with atomic_path(out / "doubts.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["key", "methods", "agreement", "dice_with_reference", "image", "mask", "picture"])
        for number, doubt in enumerate(doubts):
            picture = _draw(doubt, out, number) if number < DRAWN else ""
            sample = doubt.sample
            row = [
                sample.key,
                doubt.methods,
                f"{doubt.agreement:.4f}",
                f"{doubt.dice:.4f}",
                sample.image,
                sample.mask,
                picture,
            ]
            writer.writerow(row)


def _draw(doubt: Doubt, out: Path, number: int) -> str:
    """Image, reference and consensus side by side; the file's name."""
    import numpy as np
    from PIL import Image

    from harness.data.reading import read_image, read_mask
    from harness.files import atomic_path
    from harness.inference.overlay import outlined

    sample = doubt.sample
    image = read_image(sample.image, sample.white_level)
    gap = np.full((image.shape[0], max(2, image.shape[1] // 100), 3), 255, np.uint8)
    panels = [image, gap, outlined(image, read_mask(sample.mask)), gap, outlined(image, doubt.consensus)]
    name = f"{number:03d}_{sample.key.replace('/', '_')[-150:]}.png"
    with atomic_path(out / name) as temporary:
        Image.fromarray(np.concatenate(panels, axis=1)).save(temporary, format="PNG")
    return name


def _print(doubts: Sequence[Doubt], out: Path) -> None:
    from rich.table import Table

    if not doubts:
        print("No reference from which all methods differ alike.")
        return
    title = f"{len(doubts)} references to look at, the {min(SHOWN, len(doubts))} most doubtful:"
    table = Table(title=title, title_justify="left")
    table.add_column("image", overflow="fold")
    for column in ("methods", "agreement", "Dice with reference"):
        table.add_column(column, justify="right")
    for doubt in doubts[:SHOWN]:
        table.add_row(doubt.sample.key, str(doubt.methods), f"{doubt.agreement:.3f}", f"{doubt.dice:.3f}")
    terminal().print(table)
    print(f"Pictures (image, reference, what the methods agree on) and doubts.csv: {out}")
    print("An error that all methods make looks the same: look before you change a reference.")
