"""Figures of domains: the heat map, and how the images of each domain spread."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from reports.figures.drawing import SHADE, SHADE_OPACITY, Drawing, Style, legend_below, shortened
from reports.tables.leaderboard import Leaderboard

MAX_BOXES = 8
"""Methods beside each other in a figure of distributions: the first of the ranking."""


def heat_map(board: Leaderboard, style: Style, *, unseen: bool) -> Drawing | None:
    """Methods against domains, shaded as the tables are."""
    import seaborn as sns
    from matplotlib import pyplot as plt
    from matplotlib.colors import LinearSegmentedColormap

    # A method with holes has no mean to be held against; the tables show what it has.
    whole = board.table.loc[board.table["track"] != "incomplete", "method"].tolist()
    domains = list(dict.fromkeys(board.domains["domain"]))
    if not whole or not domains:
        return None
    wide = board.domains.pivot_table("dice", "domain", "method", sort=False).loc[domains, whole].astype(float)
    # The tables' shading: one colour that grows denser from 0 to 1, over the page's paper in either theme.
    scale = LinearSegmentedColormap.from_list("shade", [(*SHADE, 0.0), (*SHADE, SHADE_OPACITY)])
    # Domains go down: their names are long, and a phone has more height than width.
    figure, axes = plt.subplots(figsize=(max(2.4, 0.62 * len(whole)), 0.6 + 0.3 * len(domains)))
    sns.heatmap(
        wide, vmin=0, vmax=1, cmap=scale, annot=True, fmt=".2f", linewidths=1.5, linecolor=style.theme.paper, ax=axes,
        cbar=False, annot_kws={"size": 9, "color": style.theme.ink},
    )  # fmt: skip
    names = [style.short[name] for name in whole]
    axes.set_xticklabels(names, rotation=35, ha="right", rotation_mode="anchor", color=style.theme.ink)
    axes.set_yticklabels([shortened(name, 48) for name in domains], color=style.theme.ink, rotation=0)
    axes.set_xlabel("")
    axes.set_ylabel("")
    axes.grid(visible=False)
    alt = f"Dice of {len(whole)} methods on {len(domains)} domains; the table “By domain” has the same values."
    left = len(board.table) - len(whole)
    alt += f" Left out because incomplete: {left}." if left else ""
    title = f"{'Unseen' if unseen else 'Test'} Dice by domain" + (", complete methods only" if left else "")
    return Drawing("heat", title, alt, figure)


def distributions(board: Leaderboard, style: Style, *, unseen: bool) -> Iterator[Drawing]:
    """For every modality the spread of the Dice over the images of each domain: quartiles, whiskers at 5 and 95 %."""
    names = board.table.loc[board.table["track"] != "incomplete", "method"].tolist()[:MAX_BOXES]
    images = board.images[board.images["method"].isin(names)].dropna(subset=["dice"])
    if images.empty:  # a run that stopped before its first trial ended
        return
    modalities = images["domain_key"].str.partition("/")[0]
    for number, (modality, rows) in enumerate(images.groupby(modalities, sort=False)):
        yield _boxes(rows, str(modality), names, style, number, unseen)


def _boxes(rows: pd.DataFrame, modality: str, names: list[str], style: Style, number: int, unseen: bool) -> Drawing:
    import seaborn as sns
    from matplotlib import pyplot as plt
    from matplotlib.patches import Patch

    places = sorted(rows["domain_key"].unique())
    figure, axes = plt.subplots(figsize=(4.6, 0.8 + len(places) * (0.12 + 0.16 * len(names))))
    sns.boxplot(
        rows, x="dice", y="domain_key", hue="method", order=places, hue_order=names, palette=style.palette, whis=(5, 95),
        showfliers=False, width=0.82, linewidth=0.9, linecolor=style.theme.ink, saturation=0.9, legend=False, ax=axes,
    )  # fmt: skip
    axes.set_yticks(
        range(len(places)), [shortened(name.partition("/")[2], 24) for name in places], color=style.theme.ink
    )
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel("Dice of the images")
    axes.set_ylabel("")
    axes.grid(axis="x", visible=True)
    height = figure.get_figheight()
    legend_below(axes, [Patch(color=style.palette[name], label=style.short[name]) for name in names], -0.55 / height)
    medians = rows.groupby(["domain_key", "method"])["dice"].median()
    listed = "; ".join(
        f"{place.partition('/')[2]}: "
        + ", ".join(f"{style.short[name]} {medians[place, name]:.2f}" for name in names if (place, name) in medians)
        for place in places
    )
    kind = "Unseen" if unseen else "Test"
    alt = f"Quartiles of the images' Dice in {modality}, whiskers at 5 and 95 %. Medians: {listed}."
    return Drawing(f"spread-{number}", f"Spread of the {kind.lower()} Dice: {modality}", alt, figure)
