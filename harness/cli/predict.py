"""`predict`: masks and overlays of a folder of images."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.common import terminal
from harness.errors import UserError, counted, some

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from harness.inference.predictors import Predictor

    _Batch = list[tuple[Path, NDArray[np.uint8]]]

logger = logging.getLogger(__name__)
PIXELS_AT_ONCE = 32_000_000
"""A batch ends when its images, as they are on the disk, have more pixels together: large scans must not fill the memory."""
SHOWN = 20
COLUMNS = ("file", "mask", "modality", "width", "height", "foreground_fraction", "seconds")


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "predict",
        help="write masks and overlays of a folder of images",
        description="Segments every image below a folder with the method of a finished trial, or with a weights file of"
        " De-LightSAM. Writes DIR/masks (PNG, 0 and 255, each of its image's size), DIR/overlays (the outline on the"
        " image) and DIR/predictions.csv. Exit code 1: some images could not be read; they are named.",
    )
    parser.add_argument(
        "model",
        nargs="?",
        metavar="MODEL",
        help="the first letters of a trial's id, its folder, or a .safetensors file",
    )
    parser.add_argument(
        "--method", metavar="NAME", help="in place of MODEL: the best trial of the latest run with NAME"
    )
    parser.add_argument(
        "--images", type=Path, required=True, metavar="DIR", help="a folder with sub-folders, or one image"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where to write")
    parser.add_argument("--modality", metavar="NAME", help="what the images show, or `auto`; for methods that need it")
    parser.add_argument(
        "--white-level",
        type=float,
        metavar="V",
        help="the value that is white in images of 16 bits or real numbers;"
        " default: by the largest value of all these images",
    )
    parser.add_argument("--store", type=Path, default=Path("runs"), metavar="DIR", help="the store; default: runs")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: auto, a GPU if any")
    parser.add_argument("--overwrite", action="store_true", help="write into a folder that holds files already")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:

    from harness.files import explain_disk_errors
    from harness.inference.image_folder import find_images

    console = terminal(stderr=True)
    out: Path = args.out.expanduser().resolve()
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file: expected a folder, or a name that is free.")
    if out == args.images.expanduser().resolve():
        raise UserError("--out is the folder of the images: give another, so that they are not mixed with the masks.")
    folder = find_images(args.images, leave_out=[out])
    if not args.overwrite and out.is_dir() and any(out.iterdir()):
        raise UserError(f"--out {out} holds files already. Give another folder, or --overwrite to replace them.")
    predictor = _predictor(args)
    console.print(
        f"{predictor.title}: {counted(len(folder.images), 'image')}", soft_wrap=True, highlight=False, markup=False
    )
    with explain_disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    for why, paths in folder.skipped.items():
        print(f"Skipped {len(paths)}, {why}: {some(paths, SHOWN)}", file=sys.stderr)
    targets = dict(zip(folder.images, folder.mask_names(), strict=True))
    rows: list[dict[str, Any]] = []
    faults: list[str] = []
    try:
        level = _white_level(args.white_level, [folder.root / path for path in folder.images])
        _predict_all(predictor, folder.root, targets, out, rows, faults, console, level)
    except KeyboardInterrupt:
        print(f"\nStopped after {len(rows)} of {len(targets)} images; predictions.csv names them.", file=sys.stderr)
        return 130
    finally:
        _write_table(out / "predictions.csv", rows)
    return _conclude(rows, faults, out, console)


def _predictor(args: argparse.Namespace) -> Predictor:
    from harness.execution.serial import local_device
    from harness.inference.predictors import trial_predictor, weights_predictor
    from harness.store.queries import best_trial, find_trial
    from harness.store.store import Store

    if args.model is not None and args.method is not None:
        raise UserError("Give either a trial or a weights file, or --method; found both.")
    device = local_device(args.device)
    if args.model is not None and args.model.endswith(".safetensors"):
        return weights_predictor(Path(args.model).expanduser(), args.modality, device)
    store = Store(args.store)
    if args.model is None:
        trial_id, why = best_trial(store, args.method)
        print(f"Took trial {trial_id[:12]}, {why}.", file=sys.stderr)
    elif (Path(args.model) / "spec.json").is_file():
        folder = Path(args.model).resolve()
        store, trial_id = Store(folder.parent.parent), folder.name
    else:
        trial_id = find_trial(store, args.model)
    return trial_predictor(store, trial_id, args.modality, device)


def _white_level(stated: float | None, paths: list[Path]) -> float | None:
    """Of the images that do not tell which value is white: the stated one, else by all of them together, which is said."""
    from harness.data.reading.levels import LEVELS, white_level_of_files

    if stated is not None:
        if not 0 < stated <= LEVELS[-1]:
            raise UserError(
                f"--white-level {stated:g}: expected a number above 0 and up to {LEVELS[-1]}, such as 4095."
            )
        return stated
    level = white_level_of_files(paths)
    if level is not None and level != LEVELS[-1]:
        logger.warning(
            "Images of more than 8 bits do not tell which value is white: by their largest value, white is %g."
            " If that is wrong: --white-level.",
            level,
        )
    return level


def _predict_all(
    predictor: Predictor,
    root: Path,
    targets: dict[Path, Path],
    out: Path,
    rows: list[dict[str, Any]],
    faults: list[str],
    console: Any,
    white_level: float | None,
) -> None:
    """Adds a row for each image to `rows` as soon as its mask is written, and a message for each that can't be read."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from harness.errors import TrialFailed
    from harness.hardware import usable_cores

    progress = Progress(
        TextColumn("images"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console,
        disable=not console.is_terminal,
    )  # fmt: skip
    started = time.perf_counter()
    writing: list[tuple[dict[str, Any], Future[None]]] = []

    def conclude() -> None:
        """Adds the rows of the batch that is being written, once it is; their seconds are those since the batch before."""
        nonlocal started
        for _, written in writing:
            written.result()
        seconds = (time.perf_counter() - started) / max(1, len(writing))
        rows.extend({**row, "seconds": seconds} for row, _ in writing)
        writing.clear()
        progress.update(task, completed=len(rows) + len(faults))
        started = time.perf_counter()

    # While a batch is predicted, the one before is written and the next one is read.
    with progress, ThreadPoolExecutor(usable_cores()) as pool:
        task = progress.add_task("images", total=len(targets))
        try:
            for batch in _ahead(_batches(root, list(targets), predictor.batch_size, faults, white_level)):
                try:
                    masks, modalities = predictor.segment([image for _, image in batch])
                except (TrialFailed, ValueError) as error:
                    raise UserError(f"{predictor.title}: {error}") from error
                conclude()
                for (path, image), mask, modality in zip(batch, masks, modalities, strict=True):
                    written = pool.submit(_write_pictures, out, targets[path], image, mask)
                    writing.append((_row(path, targets[path], modality, mask), written))
        finally:
            conclude()


def _row(path: Path, target: Path, modality: str, mask: NDArray[np.bool_]) -> dict[str, Any]:
    height, width = mask.shape
    values = (path, f"masks/{target.as_posix()}", modality, width, height, mask.mean())
    return dict(zip(COLUMNS, values, strict=False))  # `seconds` follows


def _ahead(batches: Iterator[_Batch]) -> Iterator[_Batch]:
    """The batches; while one is in use, a thread reads the next."""
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = reader.submit(next, batches, None)
            yield batch


def _batches(
    root: Path, paths: list[Path], size: int, faults: list[str], white_level: float | None
) -> Iterator[_Batch]:
    from harness.data.reading import read_image

    batch: _Batch = []
    for path in paths:
        try:
            batch.append((path, read_image(root / path, white_level)))
        except UserError as error:
            faults.append(str(error))
            continue
        if len(batch) == size or sum(image[..., 0].size for _, image in batch) > PIXELS_AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


def _write_pictures(out: Path, target: Path, image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> None:
    import numpy as np
    from PIL import Image

    from harness.files import atomic_path
    from harness.inference.overlay import outlined

    with atomic_path(out / "masks" / target) as temporary:
        Image.fromarray(mask.astype(np.uint8) * 255).save(temporary, format="PNG")
    with atomic_path(out / "overlays" / target.with_suffix(".jpg")) as temporary:
        Image.fromarray(outlined(image, mask)).save(temporary, format="JPEG", quality=92)


def _write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    import pandas as pd

    from harness.files import atomic_write_text

    table = pd.DataFrame(rows, columns=list(COLUMNS)).round({"foreground_fraction": 6, "seconds": 4})
    atomic_write_text(path, table.to_csv(index=False))


def _conclude(rows: list[dict[str, Any]], faults: list[str], out: Path, console: Any) -> int:
    seconds = sum(row["seconds"] for row in rows)
    empty = sum(row["foreground_fraction"] == 0 for row in rows)
    note = f"; {empty} of the masks are empty" if empty else ""
    console.print(
        f"Wrote {counted(len(rows), 'mask')} with overlays and predictions.csv to {out} ({seconds:.0f} s){note}.",
        soft_wrap=True, highlight=False, markup=False,
    )  # fmt: skip
    if faults:
        print(f"{len(faults)} {'image' if len(faults) == 1 else 'images'} could not be read:", file=sys.stderr)
        for fault in faults:
            print(f"  {fault}", file=sys.stderr)
        return 1
    return 0
