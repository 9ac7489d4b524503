"""Effects with their intervals, one a line, side by side for several kinds of effect."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from layerscope.errors import UserError
from layerscope.figures.curves import PALETTE
from layerscope.figures.layers import INK, MUTED, RULE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FOREST = pl.Schema(
    {
        "panel": pl.String(),
        "name": pl.String(),
        "value": pl.Float64(),
        "low": pl.Float64(),
        "high": pl.Float64(),
        "marked": pl.Boolean(),
        "words": pl.String(),
    }
)
"""What `plot_forest` draws: an effect (`name`) in a panel; a `marked` one is filled; `words` stand where there is no value."""

LEFT, PANEL, GAP, ROW, LINE = 2.3, 2.5, 0.25, 0.25, 0.185


def plot_forest(data: pl.DataFrame, title: str, about: str) -> Figure:
    """Draw effects as points with intervals, a line at 0, one row a name and one column a panel.

    Args:
        data: table with the columns of `FOREST`; names and panels stand in the order of their first appearance.
        title: heading.
        about: the line below it.

    Returns:
        A figure of its own, unknown to pyplot.

    Raises:
        UserError: there is nothing to draw.
    """
    from matplotlib.figure import Figure

    panels, names = (data[column].unique(maintain_order=True).to_list() for column in ("panel", "name"))
    if not names:
        raise UserError("there is nothing to draw: the table has no rows")
    width = LEFT + len(panels) * PANEL + (len(panels) - 1) * GAP + 0.2
    heading = textwrap.wrap(title, int((width - 0.4) * 9.5))
    lines = textwrap.wrap(about, int((width - 0.4) * 15))
    above = 0.12 + 0.28 * len(heading)
    head = above + LINE * len(lines) + 0.5
    height = head + ROW * len(names) + 0.4
    figure = Figure(figsize=(width, height), facecolor="white")
    figure.text(0.2 / width, 1 - 0.12 / height, "\n".join(heading), size=13, weight="bold", color=INK, va="top")
    for i, line in enumerate(lines):
        figure.text(0.2 / width, 1 - (above + LINE * i) / height, line, size=8.5, color=MUTED, va="top")
    for column, panel in enumerate(panels):
        left = LEFT + column * (PANEL + GAP)
        axes = figure.add_axes((left / width, 0.35 / height, PANEL / width, ROW * len(names) / height))
        _draw(axes, data.filter(pl.col("panel") == panel), names)
        axes.set_title("\n".join(textwrap.wrap(panel, 38)), fontsize=8.5, color=INK, loc="left", pad=5)
        axes.set_yticks(range(len(names)), names if column == 0 else [""] * len(names))
    return figure


def _draw(axes: Axes, rows: pl.DataFrame, names: list[str]) -> None:
    ends = np.abs(rows.select("value", "low", "high").to_numpy())
    known = ends[np.isfinite(ends)]
    limit = max(0.1, 1.08 * float(known.max())) if len(known) else 1.0
    axes.axvline(0, color=MUTED, lw=0.9, zorder=1)
    for row in rows.iter_rows(named=True):
        y = names.index(row["name"])
        if row["value"] is None or not np.isfinite(row["value"]):
            axes.text(0, y, f" {row['words']}", size=7, color=MUTED, va="center", ha="left")
            continue
        color = PALETTE[1] if row["marked"] else PALETTE[0]
        axes.plot([row["low"], row["high"]], [y, y], color=color, lw=1.6, zorder=2)
        face = color if row["marked"] else "white"
        axes.plot([row["value"]], [y], marker="o", ms=4.5, mfc=face, mec=color, zorder=3)
    lowest = rows.select(pl.min_horizontal("low", "value").min()).item()
    start = -limit if lowest is not None and lowest < -0.02 * limit else -0.05 * limit
    axes.set_xlim(start, limit)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(labelsize=8, color=RULE, labelcolor=MUTED)
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.grid(axis="x", color=RULE, lw=0.7)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(RULE)
