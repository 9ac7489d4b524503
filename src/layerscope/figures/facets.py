"""A grid of small charts that share their x axis, from one long table: rows of quantities, columns of conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
import polars as pl

from layerscope.errors import UserError
from layerscope.figures import style

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap, Normalize
    from matplotlib.figure import Figure

FACETS = pl.Schema(
    dict.fromkeys(("row", "column", "line"), pl.String())
    | dict.fromkeys(("step", "x", "value", "low", "high"), pl.Float64())
)
"""What `plot_facets` draws: a point of a line in a cell of the grid. `step` is the place on the colour scale, or null."""

# Inches.
CELL, ONE_CELL, CELL_HEIGHT, LEFT, GAP_X, GAP_Y, BAR = 2.9, 4.8, 2.0, 0.78, 0.85, 0.78, 0.95
MOST_TICKS = 8
# The palest end of the map would vanish on white.
PALEST = 0.88


@dataclass(frozen=True)
class FacetLook:
    """The words around a grid of charts, and what colours mean.

    `y_labels` names the y axis of each row (the row's name where it has none); `color` is `line`, a colour a line, or
    `step`, a colour on a logarithmic scale that is named `scale_label`. `same_y` lets the charts of a row share an axis.
    """

    title: str
    about: str
    x_label: str = "depth (layer / number of layers)"
    y_labels: Mapping[str, str] = field(default_factory=dict)
    color: Literal["line", "step"] = "line"
    scale_label: str = "training step"
    same_y: bool = False
    wrap: int | None = None
    """Let the charts follow one another, this many abreast, instead of a grid of rows and columns."""
    reference: Mapping[str, float] = field(default_factory=dict)
    """A grey horizontal line in the charts of a row, such as a chance level."""


def plot_facets(data: pl.DataFrame, look: FacetLook) -> Figure:
    """Draw a table of lines as a grid of charts.

    Args:
        data: table with the columns of `FACETS`; rows, columns and lines stand in the order of their first appearance.
            Points without a value are gaps; an interval is drawn as a band where `low` and `high` are there.
        look: titles, labels and the meaning of colours.

    Returns:
        A figure of its own, unknown to pyplot. Legend and colour scale stand outside of the charts.

    Raises:
        UserError: nothing to draw, columns are missing, or colours by step without steps.
    """
    missing = [name for name in FACETS if name not in data.columns]
    if missing:
        raise UserError(f"expected a table with {', '.join(FACETS)}; it lacks {', '.join(missing)}")
    if data.is_empty():
        raise UserError("there is nothing to draw: the table has no rows")
    if look.color == "step" and data["step"].is_null().any():
        raise UserError("colours by step need a step for every point")
    lines = data["line"].unique(maintain_order=True).to_list()
    cells = _cells(data, look.wrap)
    n_rows, n_columns = (max(place) + 1 for place in zip(*cells, strict=True))
    # A chart alone in its row has room for the words above it.
    cell = ONE_CELL if n_columns == 1 else CELL
    right = BAR if look.color == "step" else 0.2
    width = LEFT + n_columns * (cell + GAP_X) - GAP_X + right
    # A single line is named by the title.
    named = lines if look.color == "line" and len(lines) > 1 else []
    abreast = style.legend_columns(named, width - LEFT)
    head = 0.4 + style.LINE * 1.1 * -(-len(named) // abreast)
    body = head + n_rows * (CELL_HEIGHT + GAP_Y) - GAP_Y + 0.55
    sheet = style.Sheet(look.title, look.about, width=width, body=body, left=LEFT)
    scale = _scale(data) if look.color == "step" else None
    strokes = _strokes(data, scale)
    handles: dict[str, Artist] = {}
    first: dict[str, Axes] = {}
    for (i, j), (row, column) in cells.items():
        left, top = LEFT + j * (cell + GAP_X), sheet.top + head + i * (CELL_HEIGHT + GAP_Y)
        axes = sheet.axes(left, top, cell, CELL_HEIGHT, first.get(row) if look.same_y else None)
        first.setdefault(row, axes)
        part = data.filter(pl.col("row") == row, pl.col("column") == column)
        for line in part.partition_by("line", maintain_order=True):
            points = line.sort("x").select(pl.col("x", "value", "low", "high").cast(pl.Float64).fill_null(np.nan))
            x, value, *ends = (points[name].to_numpy() for name in points.columns)
            handles[line["line"][0]] = style.draw_curve(axes, x, value, (ends[0], ends[1]), strokes[line["line"][0]])
        if row in look.reference:
            axes.axhline(look.reference[row], color=style.MUTED, lw=0.9, ls=(0, (4, 3)), zorder=1)
        lowest = i == max(other for other, beside in cells if beside == j)
        named_y = look.y_labels.get(row, row) if j == 0 or look.wrap is not None else ""
        style.finish_axes(axes, look.x_label if lowest else "", named_y, column)
    for axes in sheet.figure.axes:
        # Charts that share an axis know its ends only now.
        style.set_ticks(axes)
    if named:
        sheet.legend(sheet.figure, [handles[line] for line in named], sheet.top + 0.08, abreast)
    if scale is not None:
        bar = sheet.axes(width - right + 0.14, sheet.top + head, 0.13, CELL_HEIGHT)
        _color_scale(bar, scale, sorted(data["step"].unique().to_list()), look.scale_label)
    return sheet.figure


def _cells(data: pl.DataFrame, wrap: int | None) -> dict[tuple[int, int], tuple[str, str]]:
    """The place of each chart in the grid, and the row and column of the table that it shows."""
    pairs = data.select("row", "column").unique(maintain_order=True).rows()
    if wrap is not None:
        return {divmod(place, wrap): (row, column) for place, (row, column) in enumerate(pairs)}
    rows, columns = (data[name].unique(maintain_order=True).to_list() for name in ("row", "column"))
    return {(rows.index(row), columns.index(column)): (row, column) for row, column in pairs}


def _scale(data: pl.DataFrame) -> tuple[Normalize, Colormap]:
    import matplotlib as mpl
    from matplotlib.colors import ListedColormap, SymLogNorm

    least, most = float(data["step"].min()), float(data["step"].max())  # type: ignore[arg-type]
    # Linear up to step 1, so that step 0 has a colour too; a single step needs a scale of some width.
    norm = SymLogNorm(linthresh=1.0, linscale=0.5, vmin=least, vmax=most if most > least else least + 1.0)
    return norm, ListedColormap(mpl.colormaps["viridis"](np.linspace(0.0, PALEST, 256)))


def _strokes(data: pl.DataFrame, scale: tuple[Normalize, Colormap] | None) -> dict[str, style.Stroke]:
    """The colour and the dashes of each line, the same in every chart."""
    from matplotlib.colors import to_hex

    steps = data.select("line", "step").unique(maintain_order=True).rows()
    if scale is not None:
        norm, colormap = scale
        return {line: style.Stroke(to_hex(colormap(float(norm(step)))), line, fine=True) for line, step in steps}
    turns = {line: divmod(i, len(style.PALETTE)) for i, line in enumerate(dict.fromkeys(line for line, _ in steps))}
    return {line: style.Stroke(style.PALETTE[color], line, dash) for line, (dash, color) in turns.items()}


def _color_scale(bar: Axes, scale: tuple[Normalize, Colormap], steps: Sequence[float], label: str) -> None:
    """The colours with the steps themselves where they are few, else every other, third, ... of them and the last."""
    from matplotlib.cm import ScalarMappable

    drawn = bar.figure.colorbar(ScalarMappable(*scale), cax=bar)
    drawn.set_label(label, fontsize=8, color=style.INK)
    every = -(-len(steps) // MOST_TICKS)
    drawn.set_ticks(steps[::-every][::-1])
    drawn.minorticks_off()
    bar.tick_params(labelsize=7.5, color=style.RULE, labelcolor=style.MUTED)
    bar.yaxis.set_major_formatter(lambda step, _: f"{step:,g}")
    drawn.outline.set_visible(False)
