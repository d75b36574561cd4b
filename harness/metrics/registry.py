"""Every metric, as one object each: what it is called, how it is defined and computed, and what it is worth for empty masks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from harness.errors import UserError, did_you_mean
from harness.metrics.inputs import EmptyKind
from harness.metrics.mask_pair import MaskPair
from harness.metrics.shape import boundary_iou, centreline_dice


@dataclass(frozen=True)
class Settings:
    """What a user may set of the metrics; `nsd_tolerance` is in spacing units, >= 0."""

    nsd_tolerance: float


@dataclass(frozen=True)
class Metric:
    """A metric: adding one is adding one of these to `REGISTRY`, or `register` from outside.

    Attributes:
        name: column name.
        title: short title for a table heading.
        unit: "" for a fraction, "px" for a distance (spacing units if a spacing is given).
        higher_is_better: direction of improvement.
        digits: decimals that tables show.
        definition: the formula in words; P is the prediction, G the reference.
        reference: paper, and the library whose value it equals.
        compute: the value of a pair in which both masks have foreground.
        undefined: with one empty mask, where the formula divides by zero or has no border to measure to; elsewhere it is 0.
        version: raised whenever the value could change for any pair of masks; `measure` then computes it again.
        shown: whether reports show it. All metrics are kept; what others say as well has no column.
    """

    name: str
    title: str
    unit: str
    higher_is_better: bool
    digits: int
    definition: str
    reference: str
    compute: Callable[[MaskPair, Settings], float]
    undefined: frozenset[EmptyKind] = field(default_factory=frozenset)
    version: int = 1
    shown: bool = True


_NO_BORDER: frozenset[EmptyKind] = frozenset({"prediction", "reference"})

_BORDER = (
    "Border pixels are foreground pixels with a background 4-neighbour (outside the image is background); d(A -> B) "
    "are the Euclidean distances of A's border pixels to the nearest border pixel of B."
)

REGISTRY: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "dice",
            "Dice",
            "",
            True,
            3,
            "2 |P and G| / (|P| + |G|).",
            "Dice, Ecology 26(3), 1945; equals medpy's dc.",
            lambda pair, _: 2 * pair.counts.both / (pair.counts.predicted + pair.counts.reference),
        ),
        Metric(
            "hd95",
            "HD95",
            "px",
            False,
            1,
            f"95th percentile of d(P -> G) and d(G -> P) pooled. {_BORDER} A false-positive island with fewer than 5 % "
            "of all border pixels doesn't show; hd95_max is there to show it.",
            "The variant most segmentation papers report; equals medpy's hd95.",
            lambda pair, _: pair.distances.hd95,
            _NO_BORDER,
        ),
        Metric(
            "nsd",
            "NSD",
            "",
            True,
            3,
            f"Share of the border pixels of P and G whose distance to the other border is at most the tolerance. {_BORDER}"
            " Every border pixel counts as one.",
            "Nikolov et al., arXiv:1809.04430, 2018 (surface Dice at tolerance) as given on border pixels by Maier-Hein et "
            "al., Metrics reloaded, 2024; equals MONAI's compute_surface_dice. DeepMind's surface-distance differs: its "
            "surface runs between the pixels and each element weighs by its length.",
            lambda pair, settings: pair.distances.nsd(settings.nsd_tolerance),
        ),
        Metric(
            "hd95_max",
            "HD95 (max)",
            "px",
            False,
            1,
            f"Larger of the 95th percentiles of d(P -> G) and of d(G -> P). {_BORDER}",
            "Maier-Hein et al., Metrics reloaded, Nature Methods 21, 2024; equals MONAI's "
            "compute_hausdorff_distance(percentile=95).",
            lambda pair, _: pair.distances.hd95_max,
            _NO_BORDER,
        ),
        Metric(
            "precision",
            "Precision",
            "",
            True,
            3,
            "|P and G| / |P|.",
            "Positive predictive value; equals medpy's precision.",
            lambda pair, _: pair.counts.both / pair.counts.predicted,
            frozenset({"prediction"}),
        ),
        Metric(
            "recall",
            "Recall",
            "",
            True,
            3,
            "|P and G| / |G|.",
            "Sensitivity; equals medpy's recall.",
            lambda pair, _: pair.counts.both / pair.counts.reference,
            frozenset({"reference"}),
        ),
        Metric(
            "boundary_iou",
            "Boundary IoU",
            "",
            True,
            3,
            "|bp and bg| / |bp or bg|, of the bands bp and bg inside the borders of P and G. A band holds the pixels whose"
            " distance to the background (the outside of the image too) is at most 2 % of the image's diagonal, counted in"
            " steps to any of the 8 neighbours.",
            "Cheng et al., Boundary IoU, CVPR 2021; equals its authors' code (d erosions by a 3 x 3 square).",
            lambda pair, _: boundary_iou(pair),
        ),
        Metric(
            "cldice",
            "clDice",
            "",
            True,
            3,
            "2 T S / (T + S), T the share of P's skeleton that lies in G, S the share of G's skeleton that lies in P. For"
            " vessels and other thin structures: a broken vessel costs as much as its missing length.",
            "Shit et al., clDice, CVPR 2021; skeletons by Zhang and Suen's thinning, equal to those of scikit-image's skeletonize.",
            lambda pair, _: centreline_dice(pair),
        ),
        Metric(
            "iou",
            "IoU",
            "",
            True,
            3,
            "|P and G| / |P or G|.",
            "Jaccard, 1912; equals medpy's jc.",
            lambda pair, _: pair.counts.both / (pair.counts.predicted + pair.counts.reference - pair.counts.both),
            shown=False,
        ),
        Metric(
            "hd",
            "HD",
            "px",
            False,
            1,
            f"Largest of d(P -> G) and d(G -> P). {_BORDER}",
            "Huttenlocher et al., IEEE TPAMI 15(9), 1993; equals medpy's hd.",
            lambda pair, _: pair.distances.hd,
            _NO_BORDER,
            shown=False,
        ),
        Metric(
            "assd",
            "ASSD",
            "px",
            False,
            1,
            f"Mean of d(P -> G) and d(G -> P) pooled, so the longer border weighs more. {_BORDER}",
            "Heimann et al., IEEE TMI 28(8), 2009; equals medpy's assd and MONAI's "
            "compute_average_surface_distance(symmetric=True).",
            lambda pair, _: pair.distances.assd,
            _NO_BORDER,
            shown=False,
        ),
    )
}


def register(metric: Metric) -> None:
    """Adds a metric of one's own, where its module is imported; `compute` must be a function of that module.

    Raises:
        UserError: there is one of that name.
    """
    if metric.name in REGISTRY:
        raise UserError(f"there is a metric '{metric.name}' already: choose another name.")
    REGISTRY[metric.name] = metric


def shown_metrics() -> list[str]:
    """Names of the metrics that reports show, Dice first."""
    return [metric.name for metric in REGISTRY.values() if metric.shown]


def metric(name: str) -> Metric:
    """The metric of that name.

    Raises:
        UserError: unknown name.
    """
    try:
        return REGISTRY[name]
    except KeyError:
        raise UserError(f"expected a metric; found '{name}'.{did_you_mean(str(name), REGISTRY)}") from None
