"""The columns of the ranking: what each means and how its cells are written, once for all outputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

MISSING = "—"
SELECTION_WORDS = {"training_domain_validation": "validation", "last": "last epoch", "oracle": "oracle (test)"}


@dataclass(frozen=True)
class Cell:
    """What stands in a cell: the value, a second smaller line, and the number it is sorted by (None: always last)."""

    main: str
    detail: str = ""
    sort: float | str | None = None

    def text(self) -> str:
        return f"{self.main} {self.detail}".strip()


@dataclass(frozen=True)
class Column:
    """`better` is "higher", "lower" or "" (no order of merit); `first` is the direction of a first click."""

    key: str
    title: str
    definition: str
    cell: Callable[[pd.Series], Cell]
    better: str = ""
    numeric: bool = True

    @property
    def first(self) -> str:
        return "descending" if self.better == "higher" else "ascending"


def columns(
    hardware: list[str], *, unseen: bool, seen_where_tested: bool = True, distance_unit: str = "px"
) -> list[Column]:
    """The columns of a run's ranking; one for throughput for each machine in `hardware`.

    `seen_where_tested`: seen Dice is of the same domains as unseen Dice, see `Records.seen_domains`.
    """
    kind = "Unseen Dice" if unseen else "Test Dice"
    where = (
        "of domains that the model never saw in training, selection or normalisation"
        if unseen
        else "kept for testing; their domains were seen in training (protocol in_domain)"
    )
    seen_where = (
        "of the tested domains, from folds that trained on them"
        if seen_where_tested
        else "of all domains that were seen in training: not every tested domain was seen in another fold, so seen and unseen"
        " Dice are of different domains here"
    )
    throughput = [
        Column(
            f"throughput_{index}",
            "Images/s" if len(hardware) == 1 else f"Images/s ({chr(65 + index)})",
            f"Throughput at the best batch size, measured apart from training with all cores idle, on {machine}."
            " Machines have columns of their own: speeds are never compared across them.",
            _number(f"throughput_{index}", _significant),
            better="higher",
        )
        for index, machine in enumerate(hardware)
    ]
    return [
        Column(
            "rank",
            "Rank",
            "Place by macro Dice within the group. “1–3” means that the images can't settle it: a method is placed behind another"
            " only where the 95 % interval of their difference (paired by image, not corrected for the number of comparisons)"
            " excludes 0. Incomplete methods have no rank.",
            lambda row: Cell(
                _text(row["rank"]), sort=None if pd.isna(row["rank"]) else float(str(row["rank"]).split("–")[0])
            ),
        ),
        Column(
            "title",
            "Method",
            "Name on the method's card; under it the name in the configuration. A floor is a trivial method that every"
            " network should beat.",
            _method,
            numeric=False,
        ),
        Column(
            "dice",
            kind,
            f"Macro Dice (0 to 1) over images {where}: mean over images within a domain, then over domains. An image tested in"
            " several folds or seeds counts once, by its mean. In brackets the 95 % interval. ± is the standard deviation over"
            " seeds, where there is more than one.",
            _dice,
            better="higher",
        ),
        Column(
            "hd95",
            "HD95",
            f"Macro 95th percentile Hausdorff distance in {distance_unit} at the mask's native resolution (both directions pooled,"
            " as in MedPy), averaged as the Dice is.",
            _with_interval("hd95", 1),
            better="lower",
        ),
        Column(
            "worst",
            "Worst domain",
            "The lowest Dice of a single test domain, and which one. What a hospital may meet.",
            lambda row: Cell(_fixed(row["worst_dice"], 3), _text(row["worst_domain"], ""), _sort(row["worst_dice"])),
            better="higher",
        ),
        Column(
            "seen",
            "Seen Dice",
            f"Macro Dice over the validation images {seen_where}. The chosen epoch was picked on these images under the rule"
            " training_domain_validation, so it flatters a little.",
            _with_interval("seen", 3),
            better="higher",
        ),
        Column(
            "gap",
            "Gap",
            "Seen minus unseen Dice: what is lost on the way to a new domain."
            + ("" if seen_where_tested else " The two are of different domains here, see Seen Dice.")
            + " Its interval draws images that play both roles jointly.",
            _with_interval("gap", 3, sign=True),
            better="lower",
        ),
        Column(
            "missed",
            "Empty masks",
            "Test predictions that are empty although there is an object (missed), and those with an object where there is none"
            " (false alarm); both empty counts as Dice 1. Counted in every fold and seed.",
            _empties,
            better="lower",
        ),
        Column(
            "parameters_total",
            "Parameters",
            "All parameters of the model; under it those that one image passes through, where that is fewer.",
            _parameters,
            better="lower",
        ),
        Column(
            "gmacs",
            "GMACs",
            "Billions of multiply-accumulate operations for one image at the stated input size (FLOPs are twice that), attention"
            " included.",
            lambda row: Cell(
                _call(row["gmacs"], _significant), _size(row) if pd.notna(row["gmacs"]) else "", _sort(row["gmacs"])
            ),
            better="lower",
        ),
        *throughput,
        Column(
            "prompt",
            "Prompt",
            "What the method is given beside the image. Oracle prompts are derived from the truth: such rows are ranked apart.",
            lambda row: Cell(row["prompt"], sort=row["prompt"]),
            numeric=False,
        ),
        Column(
            "selection",
            "Selection",
            "How the tested weights were chosen: by the validation images of the training domains, the last epoch, or (oracle, ranked"
            " apart) by the test images.",
            lambda row: Cell(SELECTION_WORDS.get(row["selection"], row["selection"]), sort=row["selection"]),
            numeric=False,
        ),
        Column(
            "status",
            "Status",
            "Finished of expected trials (folds × seeds). A method with a failed or missing trial has no mean and no rank."
            " “Possibly seen”: its pretraining data may contain a test domain, which no check of ours can rule out.",
            _status,
            numeric=False,
        ),
    ]


def metric_columns(nsd_tolerance: float | None) -> list[Column]:
    """Further metrics of the ranked methods, in pixels of the native masks; `nsd_tolerance` is None where trials differ."""
    from harness.metrics import REGISTRY

    shown = []
    for name, digits in (("nsd", 3), ("hd95_max", 1), ("precision", 3), ("recall", 3)):
        metric = REGISTRY[name]
        tolerance = f" ({nsd_tolerance:g} px)" if name == "nsd" and nsd_tolerance is not None else ""
        definition = f"{metric.definition} P is the prediction, G the truth. Averaged as the Dice is."
        better = "higher" if metric.higher_is_better else "lower"
        shown.append(Column(name, f"{metric.title}{tolerance}", definition, _with_interval(name, digits), better))
    return [Column("title", "Method", "", _method_and_track, numeric=False), *shown]


def cost_columns() -> list[Column]:
    """Columns of the costs: for rows of `Leaderboard.costs`, one for each method and machine."""
    return [
        Column("title", "Method", "", _method, numeric=False),
        Column(
            "parameters_total", "Parameters", "All parameters.", _number("parameters_total", _count), better="lower"
        ),
        Column(
            "parameters_active",
            "Active",
            "Parameters that an image of one modality passes through.",
            _number("parameters_active", _count),
            better="lower",
        ),
        Column(
            "parameters_trainable",
            "Trainable",
            "Parameters that gradients may change. A method may freeze some of them in some of its stages.",
            _number("parameters_trainable", _count),
            better="lower",
        ),
        Column(
            "gmacs",
            "GMACs",
            "Billions of multiply-accumulate operations for one image of the stated size, attention included.",
            lambda row: Cell(_call(row["gmacs"], _significant), _size(row, "image_size")),
            better="lower",
        ),
        Column(
            "latency",
            "Latency",
            "Milliseconds for one image alone: the median, and the time that 95 % of the runs stay within (p95).",
            lambda row: _measured(row, "latency_ms_p50", "{} ms", "latency_ms_p95", "p95 {} ms"),
            better="lower",
        ),
        Column(
            "throughput",
            "Images/s",
            "Throughput at the best of the batch sizes tried, and which one.",
            lambda row: _measured(row, "throughput_images_per_second", "{}", "throughput_batch", "batch {}"),
            better="higher",
        ),
        Column(
            "peak_memory_mib",
            "Peak memory",
            "Weights, one image, and the largest sum of tensors alive while it is predicted (float32).",
            lambda row: _measured(row, "peak_memory_mib", "{} MiB"),
            better="lower",
        ),
        Column("machine", "Measured on", "Processor or GPU, threads, number format.", _machine, numeric=False),
    ]


def number(value: Any, digits: int = 3) -> str:
    """A number with fixed decimals, or a dash."""
    return _fixed(value, digits)


def interval(low: Any, high: Any, digits: int = 3) -> str:
    """ "[0.684, 0.741]", or nothing."""
    return "" if pd.isna(low) or pd.isna(high) else f"[{_minus(low, digits)}, {_minus(high, digits)}]"


def _minus(value: float, digits: int, sign: bool = False) -> str:
    return f"{value:{'+' if sign else ''}.{digits}f}".replace("-", "−")


def _fixed(value: Any, digits: int) -> str:
    return MISSING if pd.isna(value) else _minus(float(value), digits)


def _text(value: Any, otherwise: str = MISSING) -> str:
    return otherwise if value is None or (isinstance(value, float) and pd.isna(value)) else str(value)


def _call(value: Any, write: Callable[[float], str]) -> str:
    return MISSING if pd.isna(value) else write(float(value))


def _sort(value: Any) -> float | None:
    return None if pd.isna(value) else float(value)


def _significant(value: float) -> str:
    """Three significant digits, without an exponent."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _count(value: float) -> str:
    """ "12.3 M", "830 k", "0"."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:.3g} {name}"
    return f"{value:.0f}"


def _number(key: str, write: Callable[[float], str]) -> Callable[[pd.Series], Cell]:
    return lambda row: Cell(_call(row[key], write), sort=_sort(row[key]))


def _with_interval(key: str, digits: int, sign: bool = False) -> Callable[[pd.Series], Cell]:
    def cell(row: pd.Series) -> Cell:
        if pd.isna(row[key]):
            return Cell(MISSING)
        return Cell(
            _minus(row[key], digits, sign), interval(row[f"{key}_low"], row[f"{key}_high"], digits), _sort(row[key])
        )

    return cell


def _method(row: pd.Series) -> Cell:
    words = [row["method"]] if row["method"] != row["title"] else []
    if row.get("floor", False):
        words.append("floor")
    return Cell(row["title"], ", ".join(words), str(row["title"]).casefold())


def _method_and_track(row: pd.Series) -> Cell:
    cell = _method(row)
    apart = {"oracle": "ranked apart", "incomplete": "incomplete"}.get(row["track"])
    return Cell(cell.main, ", ".join(word for word in (cell.detail, apart) if word), cell.sort)


def _dice(row: pd.Series) -> Cell:
    if row["missing"]:
        return Cell("no mean", "incomplete")
    cell = _with_interval("dice", 3)(row)
    if pd.isna(row["dice_seed_sd"]):
        return cell
    return Cell(cell.main, f"{cell.detail} ±{row['dice_seed_sd']:.3f} seeds", cell.sort)


def _empties(row: pd.Series) -> Cell:
    if pd.isna(row["missed"]):
        return Cell(MISSING)
    counts = {"false alarm": row["false_alarms"], "both empty": row["both_empty"]}
    return Cell(
        f"{row['missed']:.0f} missed",
        ", ".join(f"{n:.0f} {name}" for name, n in counts.items() if n),
        _sort(row["missed"]),
    )


def _parameters(row: pd.Series) -> Cell:
    total, active = row["parameters_total"], row["parameters_active"]
    fewer = pd.notna(total) and pd.notna(active) and active < total
    return Cell(_call(total, _count), f"{_count(float(active))} active" if fewer else "", _sort(total))


def _size(row: pd.Series, key: str = "cost_image_size") -> str:
    return f"at {row[key]:.0f} px" if pd.notna(row[key]) else ""


def _measured(row: pd.Series, key: str, words: str, second: str = "", second_words: str = "") -> Cell:
    """A value in words and, below it, a second one; a dash where it was not measured."""
    if pd.isna(row[key]):
        return Cell(MISSING)
    below = second_words.format(_significant(row[second])) if second and pd.notna(row[second]) else ""
    return Cell(words.format(_significant(row[key])), below, _sort(row[key]))


def _machine(row: pd.Series) -> Cell:
    machine = _text(row["machine"], "not measured")
    # A device's name may have commas of its own.
    device = _text(row["device"], machine)
    return Cell(device, machine.removeprefix(device).removeprefix(", "), device)


def _status(row: pd.Series) -> Cell:
    done = f"{row['trials_done']} of {row['trials_expected']} trials"
    details = list(row["missing"])
    if row["possibly_seen"]:
        details.append(f"possibly seen: {', '.join(row['possibly_seen'])}")
    return Cell("incomplete" if row["missing"] else "complete", "; ".join([done, *details]), float(row["trials_done"]))
