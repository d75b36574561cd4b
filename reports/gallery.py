"""Worst, median and best test images of every domain, with the outlines of truth and prediction drawn on them."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from harness.data.images import read_image, read_mask
from harness.errors import UserError
from reports.leaderboard import Leaderboard
from reports.records import Records, Trial

TILE = 232
"""Longer side of a picture in CSS pixels."""
MAX_BYTES = 5_000_000
"""Of all pictures together, as text in the page; the page as a whole stays below 8 MB."""
TRUTH, PREDICTION = (0, 214, 255), (255, 208, 0)
"""Colours of the outlines: a pair that stays apart under all common colour-vision deficiencies."""
DENSE = 0.12
"""Part of the picture above which outlines are drawn thin and without halos: vessels would vanish under them."""


@dataclass(frozen=True)
class Tile:
    """One picture. `rank` is "worst", "median", "best" or "only image"."""

    rank: str
    id: str
    dice: float
    hd95: float
    uri: str
    width: int
    height: int
    alt: str


@dataclass(frozen=True)
class Gallery:
    """`methods` maps each shown method to its domains ("modality/domain") and their tiles."""

    methods: dict[str, dict[str, list[Tile]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def build_gallery(records: Records, board: Leaderboard, *, max_bytes: int = MAX_BYTES) -> Gallery:
    """Draws tiles method by method, in the order of the ranking, until the room is used up.

    Images are chosen by their mean Dice over folds and seeds; the prediction shown is that of the first trial that has it.
    Pictures that can't be read are left out and named in the notes.
    """
    gallery, spent = Gallery(), 0
    pictures = _Pictures(records)
    for name in board.table["method"]:
        tiles: dict[str, list[Tile]] = {}
        size = 0
        for domain, rank, row in _chosen(records, name):
            tile = pictures.tile(name, domain, rank, row)
            if tile is not None:
                tiles.setdefault(domain, []).append(tile)
                size += len(tile.uri)
        if not tiles:
            continue
        if spent + size > max_bytes:
            left = [other for other in board.table["method"] if other not in gallery.methods]
            gallery.notes.append(f"To keep this file small the pictures of {', '.join(left)} are left out.")
            break
        gallery.methods[name] = tiles
        spent += size
    gallery.notes.extend(pictures.problems())
    return gallery


def _chosen(records: Records, method: str) -> Iterator[tuple[str, str, pd.Series]]:
    """(domain, rank, row of the shown trial) for every domain of which the method has results."""
    tests = records.samples[(records.samples["method"] == method) & (records.samples["role"] == "test")]
    places = tests["modality"].astype(str) + "/" + tests["domain"].astype(str)
    for domain in records.domains:
        rows = tests[places == domain].sort_values(["key", "seed", "fold"])
        order = rows.groupby("key")["dice"].mean().dropna().sort_values(kind="stable")
        if order.empty:
            continue
        for position, rank in _ranks(len(order)).items():
            yield domain, rank, rows[rows["key"] == order.index[position]].iloc[0]


def _ranks(count: int) -> dict[int, str]:
    """Position in rising order of Dice -> what stands below the picture, of `count` images."""
    if count == 1:
        return {0: "only image"}
    # With two images the worst is the lower median too: its own name is the one that says more.
    return dict(sorted({(count - 1) // 2: "median", 0: "worst", count - 1: "best"}.items()))


class _Pictures:
    """Finds, draws and encodes; remembers what could not be read."""

    def __init__(self, records: Records) -> None:
        self.trials = {trial.id: trial for trial in records.trials}
        self._files: dict[str, dict[str, tuple[Path, Path]]] = {}
        self._without: dict[str, int] = {}
        self._faults: dict[str, None] = {}

    def tile(self, method: str, domain: str, rank: str, row: pd.Series) -> Tile | None:
        trial = self.trials[row["trial"]]
        files = self._paths(trial).get(row["key"])
        assert trial.folder is not None
        predicted = trial.folder / "predictions" / f"{row['key']}.png"
        if files is None or not predicted.exists():
            self._without[method] = self._without.get(method, 0) + 1
            return None
        try:
            picture = draw_outlines(read_image(files[0]), read_mask(files[1]), read_mask(predicted))
        except UserError as error:
            self._faults[str(error)] = None
            return None
        alt = (
            f"{domain}, image {row['id']}: {rank} of {method}, Dice {row['dice']:.3f}; outlines of truth and prediction"
        )
        width, height = picture.size
        return Tile(rank, str(row["id"]), row["dice"], row["hd95"], _data_uri(picture), width, height, alt)

    def _paths(self, trial: Trial) -> dict[str, tuple[Path, Path]]:
        """Image and mask of every sample of the trial's dataset; {} where the data are no longer there."""
        root = str(trial.spec["data"]["root"])
        if root not in self._files:
            from harness.data.dataset import Dataset

            try:
                # Verified when the trials ran; hashing all files again would only make the report slow.
                samples = Dataset.open(Path(root), verify=False).samples
            except (UserError, OSError) as error:
                self._faults[f"The images can't be shown: {error}"] = None
                samples = ()
            self._files[root] = {sample.key: (sample.image, sample.mask) for sample in samples}
        return self._files[root]

    def problems(self) -> list[str]:
        notes = list(self._faults)
        if self._without:
            listed = ", ".join(f"{count} of {method}" for method, count in self._without.items())
            notes.append(f"Without a picture because image or stored prediction is missing: {listed}.")
        return notes


def draw_outlines(
    image: npt.NDArray[np.uint8], truth: npt.NDArray[np.bool_], predicted: npt.NDArray[np.bool_]
) -> Image.Image:
    """The image, at most TILE pixels wide and high, with both outlines; the prediction lies above.

    Args:
        image: (H, W, 3); masks (H, W).

    Raises:
        UserError: the three differ in size.
    """
    if not image.shape[:2] == truth.shape == predicted.shape:
        raise UserError(
            f"Expected image, mask and prediction of one size, found {image.shape[:2]}, {truth.shape} and {predicted.shape}."
            " The data changed since the trial ran: run it again."
        )
    height, width = truth.shape
    scale = TILE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    canvas = Image.fromarray(image).resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
    # Lines are made at twice the size and shrunk: that smooths their edges.
    masks = [_at_size(mask, (2 * size[0], 2 * size[1])) for mask in (truth, predicted)]
    lines = [_line(mask, outwards=2, inwards=3) for mask in masks]
    if max(line.mean() for line in lines) > DENSE:
        lines = [_line(mask, outwards=0, inwards=2) for mask in masks]
    else:
        canvas.paste((0, 0, 0), mask=_shrunk(_dilated(lines[0] | lines[1]), size).point(lambda value: value * 3 // 4))
    # Where both run the prediction lies above; the truth must not shine through its edge.
    lines[0] &= ~lines[1]
    for line, color in zip(lines, (TRUTH, PREDICTION), strict=True):
        canvas.paste(color, mask=_shrunk(line, size))
    return canvas


def _shrunk(line: npt.NDArray[np.bool_], size: tuple[int, int]) -> Image.Image:
    return Image.fromarray(line.astype(np.uint8) * 255).resize(size, Image.Resampling.BOX)


def _at_size(mask: npt.NDArray[np.bool_], size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """The mask at `size` (width, height)."""
    return np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BILINEAR)) >= 128


def _line(mask: npt.NDArray[np.bool_], *, outwards: int, inwards: int) -> npt.NDArray[np.bool_]:
    """A mask's outline, so many pixels wide on both sides of its edge."""
    # Nothing is eroded from beyond the picture, so that an object at the edge has no line along the frame.
    return _dilated(mask, outwards) & _dilated(~mask, inwards)


def _dilated(mask: npt.NDArray[np.bool_], times: int = 1) -> npt.NDArray[np.bool_]:
    """Grown by one pixel `times` times, 4-connected. By slices: many times faster here than scipy.ndimage."""
    for _ in range(times):
        grown = mask.copy()
        grown[1:] |= mask[:-1]
        grown[:-1] |= mask[1:]
        grown[:, 1:] |= mask[:, :-1]
        grown[:, :-1] |= mask[:, 1:]
        mask = grown
    return mask


def _data_uri(picture: Image.Image) -> str:
    buffer = BytesIO()
    picture.save(buffer, format="WEBP", quality=78, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
