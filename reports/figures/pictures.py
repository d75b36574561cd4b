"""Images of a run as panels of one figure, each with the outlines of its reference mask and of a method's mask."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.data.dataset import Dataset
from harness.data.reading import read_image, read_mask
from harness.errors import UserError
from reports.figures.gallery import check_sizes
from reports.records.records import Records, ReportedTrial

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from harness.data.folder.sample import Sample

RGB = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
REFERENCE, PREDICTION = "#2a9d8f", "#e76f51"
NEEDED = ("method", "fold", "seed", "role", "key", "dice")
MOST = 64
"""Panels of one figure: more can't be looked at, and each holds a whole image in memory."""
_COLUMNS = 4


def pictures(records: Records, rows: pd.DataFrame) -> list[Axes]:
    """One panel for each row of `images_table`, in the order of the rows.

    Raises:
        UserError: `rows` are not rows of that table, or image or mask is no longer there.
    """
    from matplotlib import pyplot as plt
    from matplotlib.lines import Line2D

    chosen = _checked(rows)
    datasets: dict[str, dict[str, Sample]] = {}
    found = [_read(records, row, datasets) for row in chosen]
    across = min(_COLUMNS, len(found))
    down = -(-len(found) // across)
    figure, grid = plt.subplots(down, across, figsize=(2.6 * across, 2.9 * down), squeeze=False, layout="constrained")
    for axes in grid.flat:
        axes.set_axis_off()
    panels = list(grid.flat[: len(found)])
    for axes, row, (image, reference, predicted) in zip(panels, chosen, found, strict=True):
        axes.imshow(image)
        for mask, color in ((reference, REFERENCE), (predicted, PREDICTION)):
            _outline(axes, mask, color)
        axes.set_title(f"{row['key']}\n{row['method']}: Dice {row['dice']:.3f}", fontsize=8)
    lines = [Line2D([], [], color=REFERENCE), Line2D([], [], color=PREDICTION)]
    figure.legend(lines, ["reference", "prediction"], loc="outside lower center", ncols=2)
    return panels


def _checked(rows: pd.DataFrame) -> list[dict[str, Any]]:
    missing = [name for name in NEEDED if name not in rows]
    if missing:
        raise UserError(
            f"Expected rows of results.images; these lack {', '.join(missing)}. Choose rows and keep all columns."
        )
    if not 0 < len(rows) <= MOST:
        raise UserError(f"Expected 1 to {MOST} rows of results.images, found {len(rows)}. Choose some, as by .head(8).")
    return [{str(name): value for name, value in row.items()} for row in rows.to_dict("records")]


def _read(records: Records, row: dict[str, Any], datasets: dict[str, dict[str, Sample]]) -> tuple[RGB, Mask, Mask]:
    """Image, reference and prediction of one row. `datasets`: root -> its images, filled here."""
    trial = _trial(records, row)
    assert trial.spec is not None and trial.predictions is not None  # Trials without a result have no rows.
    root = trial.spec.data.root
    if root not in datasets:
        datasets[root] = Dataset.open(Path(root)).by_key()
    sample = datasets[root].get(row["key"])
    predicted = trial.predictions / row["role"] / f"{row['key']}.png"
    if sample is None:
        raise UserError(f"The image {row['key']} is no longer in the dataset {root}.")
    if not predicted.is_file():
        raise UserError(
            f"The mask of {row['key']} by {row['method']} was not kept: {predicted} is not there."
            " `python -m harness measure` with the words of the run predicts it again."
        )
    image, reference, mask = read_image(sample.image, sample.white_level), read_mask(sample.mask), read_mask(predicted)
    check_sizes(image, reference, mask.shape)
    return image, reference, mask


def _trial(records: Records, row: dict[str, Any]) -> ReportedTrial:
    wanted = (row["method"], row["fold"], row["seed"])
    for trial in records.trials:
        if (trial.method, trial.fold, trial.seed) == wanted:
            return trial
    named = ", ".join(f"{name}={value}" for name, value in zip(("method", "fold", "seed"), wanted, strict=True))
    raise UserError(f"This run has no trial {named}. Take rows and results from the same run.")


def _outline(axes: Axes, mask: Mask, color: str) -> None:
    if mask.any():
        # Beyond its edges the image holds nothing: a mask that touches them has an outline there, too.
        height, width = mask.shape
        framed = np.pad(mask, 1).astype(float)
        axes.contour(
            np.arange(-1, width + 1), np.arange(-1, height + 1), framed, levels=[0.5], colors=color, linewidths=1.4
        )
