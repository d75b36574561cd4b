"""Worst, median and best test images of every domain and method, and all methods side by side on the same images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.data.folder.sample import Sample
from harness.data.reading import read_image, read_mask
from harness.errors import UserError
from reports.figures.outlines import STEPS, outline, picture_uri, tile_size
from reports.records.records import Records, ReportedTrial
from reports.tables.leaderboard import Leaderboard

MAX_BYTES = 5_000_000
"""Of all pictures and outlines together, as text in the page; the page as a whole stays below 8 MB."""
MAX_SIDE_BY_SIDE = 12
"""Methods beside each other on one image: the first of the ranking."""


@dataclass(frozen=True)
class Picture:
    """An image with the outline of its truth; `number` is its place in `Gallery.pictures`."""

    number: int
    id: str
    uri: str
    width: int
    height: int
    truth: str
    dense: bool

    @property
    def box(self) -> str:
        """The SVG viewBox in which outlines are given."""
        return f"0 0 {self.width * STEPS} {self.height * STEPS}"


@dataclass(frozen=True)
class Tile:
    """A prediction on a picture. `rank` says why it is shown: "worst", "median", "best", or the method's title."""

    rank: str
    picture: Picture
    dice: float
    prediction: str
    dense: bool
    alt: str


@dataclass(frozen=True)
class Gallery:
    """What is shown.

    Attributes:
        pictures: every image once.
        methods: method -> domain ("modality/domain") -> its worst, median and best.
        beside: domain -> [(why this image, one tile for each method)].
        notes: what could not be shown, and why.
    """

    pictures: list[Picture] = field(default_factory=list)
    methods: dict[str, dict[str, list[Tile]]] = field(default_factory=dict)
    beside: dict[str, list[tuple[str, list[Tile]]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def build_gallery(records: Records, board: Leaderboard, *, max_bytes: int = MAX_BYTES) -> Gallery:
    """Draws tiles, method by method in the order of the ranking and then side by side, until the room is used up.

    Images are chosen by their mean Dice over folds and seeds; the prediction shown is that of the first trial that has it.
    Pictures that can't be read are left out and named in the notes.
    """
    tests = _tests(records)
    drawn = _Drawn(records)
    gallery = Gallery(pictures=drawn.pictures)
    names = [name for name in board.table["method"] if name in tests]
    for name in names:
        tiles: dict[str, list[Tile]] = {}
        mark = drawn.mark()
        for domain, rank, row in _chosen(tests[name], records.domains):
            tile = drawn.tile(name, rank, row, f"{domain}, image {row['id']}: {rank} of {name}")
            if tile is not None:
                tiles.setdefault(domain, []).append(tile)
        if drawn.spent > max_bytes:
            drawn.back_to(mark)
            left = [other for other in names if other not in gallery.methods]
            gallery.notes.append(f"To keep this file small the pictures of {', '.join(left)} are left out.")
            break
        if tiles:
            gallery.methods[name] = tiles
    titles = dict(zip(board.table["method"], board.table["label"], strict=True))
    for domain in records.domains:
        mark = drawn.mark()
        shown = list(_side_by_side(drawn, {name: tests[name] for name in names[:MAX_SIDE_BY_SIDE]}, domain, titles))
        if drawn.spent > max_bytes:
            drawn.back_to(mark)
            gallery.notes.append("To keep this file small not every domain has its pictures side by side.")
            break
        if shown:
            gallery.beside[domain] = shown
    gallery.notes.extend(drawn.problems())
    return gallery


def _tests(records: Records) -> dict[str, pd.DataFrame]:
    """Method -> its test rows by domain, image, seed and fold, with the image's mean Dice beside them."""
    tests = records.samples[records.samples["role"] == "test"]
    tests = tests.assign(domain_key=tests["modality"].astype(str) + "/" + tests["domain"].astype(str))
    tests = tests.sort_values(["seed", "fold"], kind="stable")
    means = tests.groupby(["method", "key"], sort=False, observed=True)["dice"].transform("mean")
    firsts = tests.assign(mean=means).drop_duplicates(["method", "key"]).sort_values("key", kind="stable")
    return {str(name): rows for name, rows in firsts.groupby("method", sort=False, observed=True)}


def _chosen(tests: pd.DataFrame, domains: list[str]) -> Iterator[tuple[str, str, pd.Series]]:
    """(domain, rank, row of the shown trial) for every domain of which the method has results."""
    ordered = tests[tests["mean"].notna()].sort_values("mean", kind="stable")
    places = dict(list(ordered.groupby("domain_key", sort=False)))
    for domain in domains:
        if domain in places:
            for position, rank in _ranks(len(places[domain])).items():
                yield domain, rank, places[domain].iloc[position]


def _ranks(count: int) -> dict[int, str]:
    """Position in rising order of Dice -> what stands below the picture, of `count` images."""
    if count == 1:
        return {0: "only image"}
    # With two images the worst is the lower median too: its own name is the one that says more.
    return dict(sorted({(count - 1) // 2: "median", 0: "worst", count - 1: "best"}.items()))


def _side_by_side(
    drawn: _Drawn, tests: dict[str, pd.DataFrame], domain: str, titles: dict[str, str]
) -> Iterator[tuple[str, list[Tile]]]:
    """The hardest image of a domain and the one that methods differ most on, each with every method's outline."""
    own = {name: rows[rows["domain_key"] == domain].set_index("key", drop=False) for name, rows in tests.items()}
    dice = pd.DataFrame({name: rows["mean"] for name, rows in own.items() if len(rows)}).dropna().sort_index()
    if dice.empty or dice.shape[1] < 2:
        return
    hardest, disputed = dice.mean(axis=1).idxmin(), dice.std(axis=1).idxmax()
    picks = {hardest: "hardest on average", disputed: "most disputed"}
    if hardest == disputed:
        picks = {hardest: "hardest and most disputed"}
    for key, why in picks.items():
        chosen = [(str(name), own[str(name)][own[str(name)]["key"] == key].iloc[0]) for name in dice]
        tiles = [drawn.tile(n, titles[n], row, f"{domain}, image {row['id']}: {n}") for n, row in chosen]
        shown = [tile for tile in tiles if tile is not None]
        if shown:
            yield why, shown


class _Drawn:
    """Finds and traces, every image once; remembers what could not be read and how many characters it all takes."""

    def __init__(self, records: Records) -> None:
        self.pictures: list[Picture] = []
        self.spent = 0
        self._trials = {trial.id: trial for trial in records.trials}
        self._known: dict[tuple[str, str], Picture] = {}
        self._samples: dict[str, dict[str, Sample]] = {}
        self._without: dict[str, int] = {}
        self._faults: dict[str, None] = {}

    def mark(self) -> tuple[int, int]:
        return len(self.pictures), self.spent

    def back_to(self, mark: tuple[int, int]) -> None:
        """Forgets the pictures that were added since."""
        del self.pictures[mark[0] :]
        self.spent = mark[1]
        self._known = {key: picture for key, picture in self._known.items() if picture.number < mark[0]}

    def tile(self, method: str, rank: str, row: pd.Series, words: str) -> Tile | None:
        trial = self._trials[row["trial"]]
        sample = self._sample(trial, row["key"])
        assert trial.predictions is not None
        predicted = trial.predictions / "test" / f"{row['key']}.png"
        if sample is None or not predicted.exists():
            self._without[method] = self._without.get(method, 0) + 1
            return None
        try:
            mask = read_mask(predicted)
            picture = self._picture(row, sample, mask.shape)
        except UserError as error:
            self._faults[str(error)] = None
            return None
        path, dense = outline(mask)
        alt = f"{words}, Dice {row['dice']:.3f}; outlines of truth and prediction"
        self.spent += len(path) + 2 * len(alt)
        return Tile(rank, picture, row["dice"], path, dense, alt)

    def _picture(self, row: pd.Series, sample: Sample, predicted: tuple[int, ...]) -> Picture:
        """Raises UserError: image, mask and prediction differ in size."""
        known = self._known.get((str(sample.image), sample.key))
        shape = (row["height"], row["width"])
        if known is None:
            image, truth = read_image(sample.image, sample.white_level), read_mask(sample.mask)
            check_sizes(image, truth, predicted)
            path, dense = outline(truth)
            width, height = tile_size(*truth.shape)
            known = Picture(len(self.pictures), str(row["id"]), picture_uri(image), width, height, path, dense)
            self._known[str(sample.image), sample.key] = known
            self.pictures.append(known)
            self.spent += len(known.uri) + len(path)
        elif predicted != shape:
            raise _sizes_differ(shape, shape, predicted)
        return known

    def _sample(self, trial: ReportedTrial, key: str) -> Sample | None:
        """Of the trial's dataset; None where the data are no longer there."""
        if trial.spec is None:
            return None
        root = trial.spec.data.root
        if root not in self._samples:
            from harness.data.dataset import Dataset

            try:
                # Verified when the trials ran: the verdict is there, unless a file was changed.
                samples = Dataset.open(Path(root)).samples
            except (UserError, OSError) as error:
                self._faults[f"The images can't be shown: {error}"] = None
                samples = ()
            self._samples[root] = {sample.key: sample for sample in samples}
        return self._samples[root].get(key)

    def problems(self) -> list[str]:
        notes = list(self._faults)
        if self._without:
            listed = ", ".join(f"{count} of {method}" for method, count in self._without.items())
            notes.append(f"Without a picture because image or stored prediction is missing: {listed}.")
        return notes


def check_sizes(image: npt.NDArray[np.uint8], truth: npt.NDArray[np.bool_], predicted: tuple[int, ...]) -> None:
    """Raises UserError: the three differ in size."""
    if not image.shape[:2] == truth.shape == predicted:
        raise _sizes_differ(image.shape[:2], truth.shape, predicted)


def _sizes_differ(image: tuple[int, ...], truth: tuple[int, ...], predicted: tuple[int, ...]) -> UserError:
    return UserError(
        f"Expected image, mask and prediction of one size, found {image}, {truth} and {predicted}."
        " The data changed since the trial ran: run it again."
    )
