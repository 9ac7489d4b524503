"""The one style of all figures: colours and sizes, how a curve and an axis are drawn, and where the words stand."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from layerscope.figures.numbers import Axis, nice_ticks, stretches, tick_words, x_ticks
from layerscope.wording import lines_on_screen, on_screen

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Numbers = NDArray[np.float64]
# Okabe and Ito's colours without yellow, as dark as lines on white have to be; and as light as on black.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#c2619a", "#a97500", "#3d9fd8", "#3b3b3b")
PALETTE_ON_BLACK = ("#56b4e9", "#f28e52", "#3ecf9c", "#e79fc9", "#e0ac45", "#a5d8fa", "#c9cdd3")
INK, MUTED, RULE, GAP = "#1c1c1e", "#5b5f66", "#e2e4e8", "#f3ecdf"
# On and off, in widths of the line.
DASHES: tuple[tuple[float, ...], ...] = ((), (5, 2), (1.2, 1.6), (6, 2, 1.2, 2))
AXIS_LABELS: dict[Axis, str] = {"layer": "layer (0 = embeddings)", "depth": "depth (layer / number of layers)"}
# Past this many points a marker on each hides the line.
MOST_MARKERS = 40
# Inches: a page, a line of the title, one of small text; points: small text.
WIDTH, TITLE, LINE, SMALL = 7.2, 0.28, 0.185, 8.5


@dataclass(frozen=True)
class Stroke:
    """How a curve is drawn, the same in every chart of a figure."""

    color: str
    label: str = ""
    dash: int = 0
    fine: bool = False
    """One of very many: thinner, its band fainter, and without markers."""


class Sheet:
    """A figure with a title and what it is about, measured in inches from its upper edge, so that nothing can overlap."""

    def __init__(self, title: str, about: str, *, width: float = WIDTH, body: float, left: float = 0.85) -> None:
        """`body` is the height of all that stands below the words, which begins at `top`; lines begin at `left`."""
        # The module costs a second, and tables need none of it.
        from matplotlib.figure import Figure

        room = width - left
        titles = textwrap.wrap(on_screen(title), int((room - 0.2) * 9.5))
        self.left, self.width = left, width
        self.top = 0.14 + TITLE * len(titles) + LINE * len(lines_of(about, room))
        self.height = self.top + body
        self.figure: Figure = Figure(figsize=(width, self.height), facecolor="white")
        for number, line in enumerate(titles):
            self._text(line, 0.12 + TITLE * number, size=13, weight="bold", color=INK)
        self.write(lines_of(about, room), 0.14 + TITLE * len(titles), MUTED)

    def write(self, lines: Sequence[str], top: float, color: str) -> float:
        """Write lines of small text from `top` downwards; returns where the next one goes."""
        for number, line in enumerate(lines):
            self._text(line, top + LINE * number, size=SMALL, color=color)
        return top + LINE * len(lines)

    def axes(self, left: float, top: float, width: float, height: float, sharey: Axes | None = None) -> Axes:
        """A chart with its upper left corner there."""
        bottom = self.height - top - height
        box = (left / self.width, bottom / self.height, width / self.width, height / self.height)
        return self.figure.add_axes(box, sharey=sharey)

    def legend(self, owner: Axes | Figure, handles: Sequence[Artist], top: float, columns: int) -> None:
        """The names of curves, in columns below `top`."""
        owner.legend(
            handles=list(handles),
            loc="upper left",
            bbox_transform=self.figure.transFigure,
            bbox_to_anchor=(self.left / self.width, 1 - top / self.height),
            ncols=columns,
            frameon=False,
            fontsize=SMALL,
            labelcolor=INK,
            handlelength=2.4,
            columnspacing=1.5,
            borderaxespad=0,
            borderpad=0,
            labelspacing=0.45,
        )

    def _text(self, line: str, top: float, **look: object) -> None:
        self.figure.text(self.left / self.width, 1 - top / self.height, as_text(line), va="top", **look)  # type: ignore[arg-type]


def lines_of(text: str, width: float = WIDTH - 0.85) -> list[str]:
    """Small text in lines of at most `width` inches."""
    return textwrap.wrap(on_screen(text), int(width * 15))


def as_text(text: str) -> str:
    """A text that Matplotlib draws as it is: no formulas, no legend entries that hide behind an underscore."""
    shown = lines_on_screen(text).replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown


def legend_columns(labels: Sequence[str], width: float = WIDTH - 0.85) -> int:
    """How many names of curves stand beside each other in `width` inches."""
    return max(1, min(len(labels), int(width * 15.5 // (max(map(len, labels), default=0) + 9))))


def draw_curve(axes: Axes, x: Numbers, value: Numbers, interval: tuple[Numbers, Numbers], stroke: Stroke) -> Artist:
    """Draw a line with its interval as a band; a point between gaps keeps both, as a dot and a bar."""
    low, high = interval
    alone = [start for start, stop in stretches(np.isfinite(value)) if stop - start == 1]
    marked = list(range(len(x))) if len(x) <= MOST_MARKERS and not stroke.fine else alone
    (line,) = axes.plot(
        x,
        value,
        color=stroke.color,
        linestyle=(0, DASHES[stroke.dash % len(DASHES)]),
        lw=1.2 if stroke.fine else 1.8,
        marker="o",
        ms=3,
        markevery=marked,
        label=as_text(stroke.label),
        zorder=3,
    )
    if np.isfinite(low).any():
        axes.fill_between(x, low, high, color=stroke.color, alpha=0.08 if stroke.fine else 0.18, lw=0, zorder=2)
        for point in alone:
            axes.plot([x[point]] * 2, [low[point], high[point]], color=stroke.color, alpha=0.45, lw=3, zorder=2)
    return line


def finish_axes(
    axes: Axes,
    x: str = "",
    y: str = "",
    title: str = "",
    *,
    y_axis: bool = True,
    grid: Literal["both", "x", ""] = "both",
) -> None:
    """Give a chart its words, its grid, and an axis below and, where it has one, at the left."""
    axes.set_title(as_text(title), fontsize=9.5, color=INK, loc="left", pad=5)
    axes.set_ylabel(as_text(y), fontsize=SMALL, color=INK)
    axes.set_xlabel(as_text(x), fontsize=SMALL, color=INK)
    axes.tick_params(labelsize=8, color=RULE, labelcolor=MUTED)
    if grid:
        axes.grid(axis=grid, color=RULE, lw=0.7)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom" or (side == "left" and y_axis))
        spine.set_color(RULE)


def set_ticks(axes: Axes, axis: Axis = "depth") -> None:
    """Put ticks at round numbers within what is drawn; whole ones where x is the layer."""
    axes.margins(x=0.02, y=0.08)
    low, high = axes.get_ylim()
    for place, ticks in (
        (axes.xaxis, x_ticks(*axes.get_xlim(), axis)),
        (axes.yaxis, [tick for tick in nice_ticks(low, high, 7) if low <= tick <= high]),
    ):
        place.set_ticks(ticks, tick_words(ticks))
