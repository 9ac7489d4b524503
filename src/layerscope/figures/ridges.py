"""Distributions one above the other, one a layer, each over the layer's own range."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from layerscope.errors import UserError
from layerscope.figures.curves import PALETTE
from layerscope.figures.layers import INK, MUTED, RULE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RIDGES = pl.Schema(
    {
        "layer": pl.Int32(),
        "place": pl.Float64(),
        "density": pl.Float64(),
        "split": pl.Float64(),
        "marked": pl.Boolean(),
        "words": pl.String(),
    }
)
"""What `plot_ridges` draws: a point of a layer's density at a place in [0, 1] of the layer's range. `split` is a place too,
or null; a `marked` layer has the other colour; `words` stand beside it."""

WIDTH, LEFT, RIGHT, ROW, TITLE, LINE = 7.2, 0.7, 2.65, 0.3, 0.42, 0.185
OVERLAP = 1.7


def plot_ridges(data: pl.DataFrame, title: str, about: str, x_label: str) -> Figure:
    """Draw one density a layer, the embeddings at the bottom.

    Args:
        data: table with the columns of `RIDGES`; densities are drawn relative to the layer's own highest point.
        title: heading.
        about: the line below it.
        x_label: what the places are places of.

    Returns:
        A figure of its own, unknown to pyplot.

    Raises:
        UserError: there is nothing to draw.
    """
    from matplotlib.figure import Figure

    layers = data["layer"].unique().sort().to_list()
    if not layers:
        raise UserError("there is nothing to draw: the table has no rows")
    lines = textwrap.wrap(about, 104)
    head = TITLE + LINE * len(lines) + 0.25
    height = head + ROW * (len(layers) + OVERLAP) + 0.55
    figure = Figure(figsize=(WIDTH, height), facecolor="white")
    figure.text(LEFT / WIDTH, 1 - 0.12 / height, title, size=13, weight="bold", color=INK, va="top")
    for i, line in enumerate(lines):
        figure.text(LEFT / WIDTH, 1 - (TITLE + LINE * i) / height, line, size=8.5, color=MUTED, va="top")
    axes = figure.add_axes(
        (LEFT / WIDTH, 0.5 / height, (WIDTH - LEFT - RIGHT) / WIDTH, (height - head - 0.5) / height)
    )  # fmt: skip
    for base, layer in enumerate(layers):
        rows = data.filter(pl.col("layer") == layer).sort("place")
        top = float(rows["density"].max() or 0.0)  # type: ignore[arg-type]
        heights = rows["density"].to_numpy() / top * OVERLAP * 0.9 if top > 0 else np.zeros(len(rows))
        color = PALETTE[1] if rows["marked"][0] else PALETTE[0]
        # The lower a layer, the nearer to the reader.
        order = 10 * (len(layers) - base)
        axes.fill_between(rows["place"], base, base + heights, color=color, alpha=0.35, lw=0, zorder=order)
        axes.plot(rows["place"], base + heights, color=color, lw=1.1, zorder=order + 1)
        split = rows["split"][0]
        if split is not None and np.isfinite(split):
            axes.plot([split] * 2, [base, base + OVERLAP * 0.9], color=INK, lw=0.9, ls=(0, (2, 2)), zorder=order + 2)
        axes.text(
            1.03, base + 0.1, rows["words"][0], size=7.5, color=color if rows["marked"][0] else MUTED, va="bottom"
        )
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.1, len(layers) - 1 + OVERLAP)
    axes.set_yticks(range(len(layers)), [str(layer) for layer in layers])
    axes.set_ylabel("layer (0 = embeddings)", fontsize=9, color=INK)
    axes.set_xlabel(x_label, fontsize=9, color=INK)
    axes.tick_params(labelsize=8, color=RULE, labelcolor=MUTED)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(RULE)
    return figure
