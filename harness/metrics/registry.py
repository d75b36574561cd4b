"""Every metric by name: what it is called, which way is better, how it is defined and where that comes from."""

from __future__ import annotations

from dataclasses import dataclass

from harness.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Metric:
    """A metric as tables and reports name it.

    Attributes:
        name: column name.
        title: short title for a table heading.
        unit: "" for a fraction, "px" for a distance (spacing units if a spacing is given).
        higher_is_better: direction of improvement.
        definition: the formula in words; P is the prediction, G the reference.
        reference: paper, and the library whose value it equals.
    """

    name: str
    title: str
    unit: str
    higher_is_better: bool
    definition: str
    reference: str


_BORDER = (
    "Border pixels are foreground pixels with a background 4-neighbour (outside the image is background); d(A -> B) "
    "are the Euclidean distances of A's border pixels to the nearest border pixel of B."
)

REGISTRY: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("dice", "Dice", "", True, "2 |P and G| / (|P| + |G|).", "Dice, Ecology 26(3), 1945; equals medpy's dc."),
        Metric("iou", "IoU", "", True, "|P and G| / |P or G|.", "Jaccard, 1912; equals medpy's jc."),
        Metric(
            "precision",
            "Precision",
            "",
            True,
            "|P and G| / |P|.",
            "Positive predictive value; equals medpy's precision.",
        ),
        Metric("recall", "Recall", "", True, "|P and G| / |G|.", "Sensitivity; equals medpy's recall."),
        Metric(
            "hd95",
            "HD95",
            "px",
            False,
            f"95th percentile of d(P -> G) and d(G -> P) pooled. {_BORDER} A false-positive island with fewer than 5 % "
            "of all border pixels doesn't show; hd95_max is there to show it.",
            "The variant most segmentation papers report; equals medpy's hd95.",
        ),
        Metric(
            "hd95_max",
            "HD95 (max)",
            "px",
            False,
            f"Larger of the 95th percentiles of d(P -> G) and of d(G -> P). {_BORDER}",
            "Maier-Hein et al., Metrics reloaded, Nature Methods 21, 2024; equals MONAI's "
            "compute_hausdorff_distance(percentile=95).",
        ),
        Metric(
            "hd",
            "HD",
            "px",
            False,
            f"Largest of d(P -> G) and d(G -> P). {_BORDER}",
            "Huttenlocher et al., IEEE TPAMI 15(9), 1993; equals medpy's hd.",
        ),
        Metric(
            "assd",
            "ASSD",
            "px",
            False,
            f"Mean of d(P -> G) and d(G -> P) pooled, so the longer border weighs more. {_BORDER}",
            "Heimann et al., IEEE TMI 28(8), 2009; equals medpy's assd and MONAI's "
            "compute_average_surface_distance(symmetric=True).",
        ),
        Metric(
            "nsd",
            "NSD",
            "",
            True,
            f"Share of the border pixels of P and G whose distance to the other border is at most the tolerance. {_BORDER}"
            " Every border pixel counts as one.",
            "Nikolov et al., arXiv:1809.04430, 2018 (surface Dice at tolerance) as given on border pixels by Maier-Hein et "
            "al., Metrics reloaded, 2024; equals MONAI's compute_surface_dice. DeepMind's surface-distance differs: its "
            "surface runs between the pixels and each element weighs by its length.",
        ),
    )
}


def metric(name: str) -> Metric:
    """The metric of that name.

    Raises:
        UserError: unknown name.
    """
    try:
        return REGISTRY[name]
    except KeyError:
        raise UserError(f"expected a metric; found '{name}'.{did_you_mean(str(name), REGISTRY)}") from None
