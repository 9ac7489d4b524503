"""A grid of small charts that share their x axis, from one long table: rows of quantities, columns of conditions."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
import polars as pl

from layerscope.errors import UserError
from layerscope.figures.curves import PALETTE
from layerscope.figures.layers import DASHES, INK, MUTED, RULE, stretches

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap, Normalize
    from matplotlib.figure import Figure

FACETS = pl.Schema(
    {
        "row": pl.String(),
        "column": pl.String(),
        "line": pl.String(),
        "step": pl.Float64(),
        "x": pl.Float64(),
        "value": pl.Float64(),
        "low": pl.Float64(),
        "high": pl.Float64(),
    }
)
"""What `plot_facets` draws: a point of a line in a cell of the grid. `step` is the place on the colour scale, or null."""

# Inches.
CELL, ONE_CELL, CELL_HEIGHT, LEFT, GAP_X, GAP_Y, LINE, BAR = 2.9, 4.8, 2.0, 0.78, 0.85, 0.78, 0.185, 0.95
MOST_MARKERS = 20
MOST_TICKS = 8
# The palest end of the map would vanish on white.
DARKEST, PALEST = 0.0, 0.88


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
    log_x: bool = False
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
    from matplotlib.figure import Figure

    missing = [name for name in FACETS if name not in data.columns]
    if missing:
        raise UserError(f"expected a table with {', '.join(FACETS)}; it lacks {', '.join(missing)}")
    if data.is_empty():
        raise UserError("there is nothing to draw: the table has no rows")
    if look.color == "step" and data["step"].is_null().any():
        raise UserError("colours by step need a step for every point")
    lines = data["line"].unique(maintain_order=True).to_list()
    cells = _cells(data, look.wrap)
    sheet = _Sheet.of(cells, lines if look.color == "line" else [], look)
    figure = Figure(figsize=(sheet.width, sheet.height), facecolor="white")
    sheet.write(figure)
    paint = _Paint.of(data, lines, look)
    first: dict[str, Axes] = {}
    lowest = {cell.j: max(other.i for other in cells if other.j == cell.j) for cell in cells}
    for cell in cells:
        axes = figure.add_axes(sheet.place(cell.i, cell.j), sharey=first.get(cell.row) if look.same_y else None)
        first.setdefault(cell.row, axes)
        _draw(axes, data.filter(pl.col("row") == cell.row, pl.col("column") == cell.column), paint, look)
        edges = (cell.i == lowest[cell.j], cell.j == 0 or look.wrap is not None)
        _label(axes, look, (cell.row, cell.column), edges)
    if look.color == "line" and sheet.legend_rows:
        handles = paint.handles()
        figure.legend(
            handles=handles, loc="upper left", bbox_to_anchor=(LEFT / sheet.width, sheet.legend_top / sheet.height),
            ncols=sheet.legend_columns, frameon=False, fontsize=8.5, labelcolor=INK, handlelength=2.4,
            columnspacing=1.4, borderaxespad=0, borderpad=0, labelspacing=0.45,
        )  # fmt: skip
    if look.color == "step":
        _color_scale(figure, sheet, paint, look)
    return figure


@dataclass(frozen=True)
class _Cell:
    """A chart's place in the grid, and whose rows of the table it shows."""

    i: int
    j: int
    row: str
    column: str


def _cells(data: pl.DataFrame, wrap: int | None) -> list[_Cell]:
    pairs = data.select("row", "column").unique(maintain_order=True).rows()
    if wrap is not None:
        return [_Cell(*divmod(place, wrap), row, column) for place, (row, column) in enumerate(pairs)]
    rows, columns = (data[name].unique(maintain_order=True).to_list() for name in ("row", "column"))
    return [_Cell(rows.index(row), columns.index(column), row, column) for row, column in pairs]


def _cell_width(n_columns: int) -> float:
    """A chart alone in its row has room for the words above it."""
    return ONE_CELL if n_columns == 1 else CELL


@dataclass(frozen=True)
class _Sheet:
    """Where everything stands, in inches, so that nothing can overlap."""

    n_rows: int
    n_columns: int
    title: list[str]
    about: list[str]
    legend_columns: int
    legend_rows: int
    right: float

    @classmethod
    def of(cls, cells: Sequence[_Cell], lines: Sequence[str], look: FacetLook) -> _Sheet:
        n_rows, n_columns = max(cell.i for cell in cells) + 1, max(cell.j for cell in cells) + 1
        right = BAR if look.color == "step" else 0.2
        width = LEFT + n_columns * _cell_width(n_columns) + (n_columns - 1) * GAP_X + right
        wrap = int((width - LEFT) * 16)
        per_row = max(1, int((width - LEFT) * 14 // (max((len(line) for line in lines), default=0) + 9)))
        # A single line is named by the title.
        needed = len(lines) if len(lines) > 1 else 0
        return cls(
            n_rows=n_rows,
            n_columns=n_columns,
            title=textwrap.wrap(look.title, int(wrap * 0.62)),
            about=textwrap.wrap(look.about, wrap),
            legend_columns=min(per_row, max(1, needed)),
            legend_rows=-(-needed // per_row),
            right=right,
        )

    @property
    def width(self) -> float:
        return LEFT + self.n_columns * self.cell + (self.n_columns - 1) * GAP_X + self.right

    @property
    def cell(self) -> float:
        return _cell_width(self.n_columns)

    @property
    def head(self) -> float:
        return 0.12 + 0.27 * len(self.title) + LINE * len(self.about) + 0.08 + LINE * self.legend_rows * 1.1 + 0.32

    @property
    def height(self) -> float:
        return self.head + self.n_rows * CELL_HEIGHT + (self.n_rows - 1) * GAP_Y + 0.55

    @property
    def legend_top(self) -> float:
        return self.height - 0.12 - 0.27 * len(self.title) - LINE * len(self.about) - 0.08

    def place(self, row: int, column: int) -> tuple[float, float, float, float]:
        left = LEFT + column * (self.cell + GAP_X)
        bottom = self.height - self.head - (row + 1) * CELL_HEIGHT - row * GAP_Y
        return left / self.width, bottom / self.height, self.cell / self.width, CELL_HEIGHT / self.height

    def write(self, figure: Figure) -> None:
        top = self.height - 0.12
        for line in self.title:
            figure.text(
                LEFT / self.width, top / self.height, line, size=12.5, weight="bold", color=INK, va="top"
            )  # fmt: skip
            top -= 0.27
        for line in self.about:
            figure.text(LEFT / self.width, top / self.height, line, size=8.5, color=MUTED, va="top")
            top -= LINE


@dataclass(frozen=True)
class _Paint:
    """The colour and the dashes of each line, the same in every chart."""

    lines: tuple[str, ...]
    colors: tuple[str, ...]
    scale: tuple[Normalize, Colormap] | None
    ticks: tuple[float, ...] = ()

    @classmethod
    def of(cls, data: pl.DataFrame, lines: Sequence[str], look: FacetLook) -> _Paint:
        if look.color == "line":
            return cls(tuple(lines), tuple(PALETTE[i % len(PALETTE)] for i in range(len(lines))), None)
        import matplotlib as mpl
        from matplotlib.colors import ListedColormap, SymLogNorm, to_hex

        steps = dict(data.select("line", "step").unique(maintain_order=True).iter_rows())
        least, most = min(steps.values()), max(steps.values())
        # A single step needs a scale of some width.
        most = most if most > least else least + 1.0
        # Linear up to step 1, so that step 0 has a colour too.
        norm = SymLogNorm(linthresh=1.0, linscale=0.5, vmin=least, vmax=most)
        shades = mpl.colormaps["viridis"](np.linspace(DARKEST, PALEST, 256))
        colormap = ListedColormap(shades)
        return cls(
            tuple(lines),
            tuple(to_hex(colormap(float(norm(steps[line])))) for line in lines),
            (norm, colormap),
            _ticks(sorted(set(steps.values()))),
        )

    def dash(self, line: str) -> tuple[int, tuple[float, ...]]:
        return DASHES[(self.lines.index(line) // len(PALETTE)) % len(DASHES)] if self.scale is None else DASHES[0]

    def handles(self) -> list[object]:
        from matplotlib.lines import Line2D

        return [
            Line2D([], [], color=color, linestyle=self.dash(line), lw=1.8, label=line)
            for line, color in zip(self.lines, self.colors, strict=True)
        ]


def _ticks(steps: Sequence[float]) -> tuple[float, ...]:
    """The steps themselves where they are few, else every other, third, ... of them and the last."""
    every = -(-len(steps) // MOST_TICKS)
    return tuple(steps[::-1][::every][::-1])


def _draw(axes: Axes, cell: pl.DataFrame, paint: _Paint, look: FacetLook) -> None:
    for part in cell.partition_by("line", maintain_order=True):
        rows = part.sort("x")
        line = rows["line"][0]
        color = paint.colors[paint.lines.index(line)]
        x, value, low, high = (
            rows[name].cast(pl.Float64).fill_null(float("nan")).to_numpy() for name in ("x", "value", "low", "high")
        )
        pieces = stretches(np.isfinite(value))
        alone = [start for start, stop in pieces if stop - start == 1]
        marked = list(range(len(x))) if len(x) <= MOST_MARKERS and paint.scale is None else alone
        axes.plot(
            x, value, color=color, linestyle=paint.dash(line), lw=1.6 if paint.scale is None else 1.2, marker="o",
            ms=2.6, markevery=marked, label=line, zorder=3,
        )  # fmt: skip
        if np.isfinite(low).any():
            axes.fill_between(x, low, high, color=color, alpha=0.16 if paint.scale is None else 0.08, lw=0, zorder=2)
    if look.log_x:
        axes.set_xscale("log", base=2)


def _label(axes: Axes, look: FacetLook, names: tuple[str, str], edges: tuple[bool, bool]) -> None:
    row, column = names
    axes.set_title(column, fontsize=9.5, color=INK, loc="left", pad=5)
    if edges[1]:
        axes.set_ylabel(look.y_labels.get(row, row), fontsize=8.5, color=INK)
    if edges[0]:
        axes.set_xlabel(look.x_label, fontsize=8.5, color=INK)
    if row in look.reference:
        axes.axhline(look.reference[row], color=MUTED, lw=0.9, ls=(0, (4, 3)), zorder=1)
    axes.tick_params(labelsize=8, color=RULE, labelcolor=MUTED)
    axes.grid(color=RULE, lw=0.7)
    axes.set_axisbelow(True)
    axes.margins(x=0.02, y=0.08)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(RULE)


def _color_scale(figure: Figure, sheet: _Sheet, paint: _Paint, look: FacetLook) -> None:
    from matplotlib.cm import ScalarMappable

    if paint.scale is None:
        return
    norm, colormap = paint.scale
    _, bottom, _, height = sheet.place(0, 0)
    left = (sheet.width - sheet.right + 0.14) / sheet.width
    bar = figure.add_axes((left, bottom, 0.13 / sheet.width, height))
    scale = figure.colorbar(ScalarMappable(norm=norm, cmap=colormap), cax=bar)
    scale.set_label(look.scale_label, fontsize=8, color=INK)
    scale.set_ticks(paint.ticks)
    scale.minorticks_off()
    scale.ax.tick_params(labelsize=7.5, color=RULE, labelcolor=MUTED)
    scale.ax.yaxis.set_major_formatter(lambda step, _: f"{step:,g}")
    scale.outline.set_visible(False)
