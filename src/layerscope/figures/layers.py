"""One metric over the layers of the models in a layers table."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from layerscope.errors import unknown
from layerscope.figures.curves import PALETTE, Axis, Curve, Panel, phrase, phrases, shared_by, short_name, split_panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DASHES: tuple[tuple[int, tuple[float, ...]], ...] = ((0, ()), (0, (5, 2)), (0, (1.2, 1.6)), (0, (6, 2, 1.2, 2)))
AXIS_LABELS: dict[Axis, str] = {"layer": "layer (0 = embeddings)", "depth": "depth (layer / number of layers)"}
# Inches: the page, the left margin, one axes, the title, one line of small text; and characters in such a line.
WIDTH, LEFT, AXES, TITLE, LINE, WRAP = 7.2, 0.85, 2.65, 0.42, 0.185, 104
INK, MUTED, RULE, GAP = "#1c1c1e", "#5b5f66", "#e3e5e8", "#f3ecdf"
# Past this many points a marker on each hides the line.
MOST_MARKERS = 40


def plot_layers(layers: pl.DataFrame, metric: str) -> Figure:
    """Draw one metric over the layers, with its interval as a band.

    One curve for each model, texts, variant, α, readout, positions, pooling and normalisation the table holds; one
    panel for each unit among them, and for each number of prompts where the metric is of pooled vectors. The x axis
    is the layer, or layer / L where the models differ in L. A layer without a value is a gap in the curve and is said
    below the panel with its reason.

    Args:
        layers: table with the columns of layers.parquet.
        metric: one of its metrics.

    Returns:
        A figure of its own, unknown to pyplot.

    Raises:
        UserError: the table has no such metric, or two values for one point.
    """
    from matplotlib.figure import Figure

    rows = layers.filter(pl.col("metric") == metric)
    if rows.is_empty():
        raise unknown("metric in this table", metric, layers["metric"].unique().to_list())
    panels = split_panels(rows)
    about = textwrap.wrap(_about(panels), WRAP)
    texts = [_Texts.of(panel, panels) for panel in panels]
    height = TITLE + LINE * len(about) + sum(text.height for text in texts)
    figure = Figure(figsize=(WIDTH, height), facecolor="white")
    top = height - 0.12
    figure.text(LEFT / WIDTH, top / height, panels[0].title, size=13, weight="bold", color=INK, va="top")
    top = _write(figure, about, top - TITLE + 0.12, MUTED)
    for panel, text in zip(panels, texts, strict=True):
        _place(figure, panel, text, top)
        top -= text.height
    return figure


def stretches(present: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Stretches without a gap, as (first, one past the last): [1, 1, 0, 1] is [(0, 2), (3, 4)]."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], present, [False])).astype(np.int8)))
    return [(int(start), int(stop)) for start, stop in zip(edges[::2], edges[1::2], strict=True)]


def prompt_counts(curves: Sequence[Curve]) -> str:
    """How many prompts stand behind the curves, in words."""
    counts = sorted({curve.n_prompts for curve in curves if curve.n_prompts is not None})
    return f"{' or '.join(f'{count:,}' for count in counts)} prompts" if counts else ""


def axis_label(panel: Panel) -> str:
    """The y axis in words: the metric and its unit."""
    normalization = dict(panel.shared).get("normalization", "none")
    name = panel.title if normalization == "none" else f"{panel.title}, {phrase('normalization', normalization)}"
    return f"{name} ({panel.unit})" if panel.unit else name


@dataclass(frozen=True)
class _Texts:
    """The lines around one panel. Their number fixes its height, so that nothing can overlap."""

    heading: list[str]
    legend_columns: int
    legend_rows: int
    below: list[str]

    @classmethod
    def of(cls, panel: Panel, panels: Sequence[Panel]) -> _Texts:
        overall = set(shared_by([curve for one in panels for curve in one.curves]))
        own = [phrases(pair for pair in panel.shared if pair not in overall)]
        if panel.split_by_prompts:
            own.append(f"{prompt_counts(panel.curves)}, apart: this metric depends on the number of prompts")
        longest = max(len(curve.label) for curve in panel.curves)
        columns = max(1, min(len(panel.curves), 100 // (longest + 9)))
        return cls(
            heading=textwrap.wrap(" · ".join(word for word in own if word), WRAP),
            legend_columns=columns,
            legend_rows=-(-len(panel.curves) // columns) if _needs_legend(panel, panels) else 0,
            below=[line for gap in panel.gaps() for line in textwrap.wrap(gap, WRAP)],
        )

    @property
    def above_axes(self) -> float:
        return 0.14 + LINE * (len(self.heading) + self.legend_rows)

    @property
    def height(self) -> float:
        return self.above_axes + AXES + 0.5 + LINE * len(self.below) + 0.08


def _needs_legend(panel: Panel, panels: Sequence[Panel]) -> bool:
    return len(panel.curves) > 1 or len({curve.source for one in panels for curve in one.curves}) > 1


def _write(figure: Figure, lines: Sequence[str], top: float, color: str) -> float:
    """Write lines from `top` (inches) downwards; returns where the next one goes."""
    height = figure.get_figheight()
    for line in lines:
        figure.text(LEFT / WIDTH, top / height, line, size=8.5, color=color, va="top")
        top -= LINE
    return top


def _place(figure: Figure, panel: Panel, text: _Texts, top: float) -> None:
    height = figure.get_figheight()
    bottom = top - text.above_axes - AXES
    axes = figure.add_axes((LEFT / WIDTH, bottom / height, (WIDTH - LEFT - 0.2) / WIDTH, AXES / height))
    _draw(axes, panel)
    below_heading = _write(figure, text.heading, top - 0.06, MUTED)
    _write(figure, text.below, bottom - 0.5, INK)
    if text.legend_rows:
        axes.legend(
            loc="upper left", bbox_to_anchor=(LEFT / WIDTH, (below_heading + 0.02) / height),
            bbox_transform=figure.transFigure, ncols=text.legend_columns, frameon=False, fontsize=8.5, labelcolor=INK,
            handlelength=2.4, columnspacing=1.6, borderaxespad=0, borderpad=0, labelspacing=0.45,
        )  # fmt: skip


def _draw(axes: Axes, panel: Panel) -> None:
    for curve in panel.curves:
        _draw_curve(axes, curve, panel.axis)
    if len(panel.curves) == 1:
        x = panel.curves[0].x(panel.axis)
        step = 0.5 if panel.axis == "layer" else 0.5 / max(1, len(x) - 1)
        for start, stop in stretches(np.isnan(panel.curves[0].value)):
            axes.axvspan(x[start] - step, x[stop - 1] + step, color=GAP, lw=0, zorder=0)
    axes.set_ylabel(axis_label(panel), fontsize=9, color=INK)
    axes.set_xlabel(AXIS_LABELS[panel.axis], fontsize=9, color=INK)
    if panel.axis == "layer":
        axes.xaxis.get_major_locator().set_params(integer=True)  # type: ignore[call-arg]
    axes.tick_params(labelsize=8.5, color=RULE, labelcolor=MUTED)
    axes.grid(color=RULE, lw=0.7)
    axes.set_axisbelow(True)
    axes.margins(x=0.02, y=0.08)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(RULE)


def _draw_curve(axes: Axes, curve: Curve, axis: Axis) -> None:
    color, dash = PALETTE[curve.color], DASHES[curve.dash % len(DASHES)]
    x = curve.x(axis)
    pieces = stretches(np.isfinite(curve.value))
    alone = [start for start, stop in pieces if stop - start == 1]
    marked = list(range(len(x))) if len(x) <= MOST_MARKERS else alone
    axes.plot(
        x, curve.value, color=color, linestyle=dash, lw=1.8, marker="o", ms=3.2, markevery=marked, label=curve.label,
        zorder=3,
    )  # fmt: skip
    axes.fill_between(x, curve.low, curve.high, color=color, alpha=0.18, lw=0, zorder=2)
    # A band needs two neighbours; a layer between gaps would lose its interval.
    for point in alone:
        axes.plot([x[point]] * 2, [curve.low[point], curve.high[point]], color=color, alpha=0.45, lw=3, zorder=2)


def _about(panels: Sequence[Panel]) -> str:
    """What all curves of a figure have in common."""
    curves = [curve for panel in panels for curve in panel.curves]
    sources = {curve.source for curve in curves}
    words = [phrases(shared_by(curves)), prompt_counts(curves)]
    if len(sources) == 1:
        source = dict(next(iter(sources)))
        words.insert(0, f"{short_name(source.get('model', '?'))} on {short_name(source.get('texts', '?'))}")
    if any(np.isfinite(curve.low).any() for curve in curves):
        words.append("band: 95 % interval")
    return " · ".join(word for word in words if word)
