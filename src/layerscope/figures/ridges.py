"""Distributions one above the other, one a layer, each over the layer's own range."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from layerscope.errors import UserError
from layerscope.figures.style import AXIS_LABELS, INK, MUTED, PALETTE, WIDTH, Sheet, as_text, finish_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RIDGES = pl.Schema(
    {"layer": pl.Int32()}
    | dict.fromkeys(("place", "density", "split"), pl.Float64())
    | {"marked": pl.Boolean(), "words": pl.String()}
)
"""What `plot_ridges` draws: a point of a layer's density at a place in [0, 1] of the layer's range. `split` is a place too,
or null; a `marked` layer has the other colour; `words` stand beside it."""

# Inches; and how far a density may reach over those above it, in rows.
LEFT, RIGHT, ROW = 0.7, 2.65, 0.3
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
    layers = data["layer"].unique().sort().to_list()
    if not layers:
        raise UserError("there is nothing to draw: the table has no rows")
    height = ROW * (len(layers) + OVERLAP)
    sheet = Sheet(title, about, body=height + 0.8, left=LEFT)
    axes = sheet.axes(LEFT, sheet.top + 0.25, WIDTH - LEFT - RIGHT, height)
    finish_axes(axes, x=x_label, y=AXIS_LABELS["layer"], y_axis=False, grid="")
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
        beside = color if rows["marked"][0] else MUTED
        axes.text(1.03, base + 0.1, as_text(rows["words"][0]), size=7.5, color=beside, va="bottom")
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.1, len(layers) - 1 + OVERLAP)
    axes.set_yticks(range(len(layers)), [str(layer) for layer in layers])
    return sheet.figure
