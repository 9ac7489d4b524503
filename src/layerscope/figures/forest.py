"""Effects with their intervals, one a line, side by side for several kinds of effect."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from layerscope.errors import UserError
from layerscope.figures.style import INK, MUTED, PALETTE, Sheet, as_text, finish_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FOREST = pl.Schema(
    dict.fromkeys(("panel", "name"), pl.String())
    | dict.fromkeys(("value", "low", "high"), pl.Float64())
    | {"marked": pl.Boolean(), "words": pl.String()}
)
"""What `plot_forest` draws: an effect (`name`) in a panel; a `marked` one is filled; `words` stand where there is no value."""

# Inches.
LEFT, PANEL, GAP, ROW = 2.3, 2.5, 0.25, 0.25


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
    panels, names = (data[column].unique(maintain_order=True).to_list() for column in ("panel", "name"))
    if not names:
        raise UserError("there is nothing to draw: the table has no rows")
    width = LEFT + len(panels) * (PANEL + GAP) - GAP + 0.2
    sheet = Sheet(title, about, width=width, body=0.9 + ROW * len(names), left=0.2)
    for column, panel in enumerate(panels):
        axes = sheet.axes(LEFT + column * (PANEL + GAP), sheet.top + 0.5, PANEL, ROW * len(names))
        finish_axes(axes, title="\n".join(textwrap.wrap(panel, 34)), y_axis=False, grid="x")
        _draw(axes, data.filter(pl.col("panel") == panel), names)
        axes.set_yticks(range(len(names)), [as_text(name) for name in names] if column == 0 else [""] * len(names))
        axes.tick_params(axis="y", length=0, labelcolor=INK)
    return sheet.figure


def _draw(axes: Axes, rows: pl.DataFrame, names: list[str]) -> None:
    ends = np.abs(rows.select("value", "low", "high").to_numpy())
    known = ends[np.isfinite(ends)]
    limit = max(0.1, 1.08 * float(known.max())) if len(known) else 1.0
    axes.axvline(0, color=MUTED, lw=0.9, zorder=1)
    for row in rows.iter_rows(named=True):
        y = names.index(row["name"])
        if row["value"] is None or not np.isfinite(row["value"]):
            axes.text(0, y, as_text(f" {row['words']}"), size=7, color=MUTED, va="center", ha="left")
            continue
        color = PALETTE[1] if row["marked"] else PALETTE[0]
        axes.plot([row["low"], row["high"]], [y, y], color=color, lw=1.6, zorder=2)
        face = color if row["marked"] else "white"
        axes.plot([row["value"]], [y], marker="o", ms=4.5, mfc=face, mec=color, zorder=3)
    lowest = rows.select(pl.min_horizontal("low", "value").min()).item()
    start = -limit if lowest is not None and lowest < -0.02 * limit else -0.05 * limit
    axes.set_xlim(start, limit)
    axes.set_ylim(len(names) - 0.5, -0.5)
