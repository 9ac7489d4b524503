"""One metric over the layers of the models in a layers table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from layerscope.errors import unknown
from layerscope.figures.curves import Panel, in_common, phrase, phrases, prompt_counts, shared_by, split_panels
from layerscope.figures.numbers import stretches
from layerscope.figures.style import (
    AXIS_LABELS,
    GAP,
    INK,
    LINE,
    MUTED,
    PALETTE,
    WIDTH,
    Sheet,
    Stroke,
    draw_curve,
    finish_axes,
    legend_columns,
    lines_of,
    set_ticks,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Inches.
LEFT, AXES = 0.85, 2.65


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
    rows = layers.filter(pl.col("metric") == metric)
    if rows.is_empty():
        raise unknown("metric in this table", metric, layers["metric"].unique().to_list())
    panels = split_panels(rows)
    curves = [curve for panel in panels for curve in panel.curves]
    texts = [_Texts.of(panel, panels) for panel in panels]
    about = " · ".join(in_common(curves, "band: 95 % interval"))
    sheet = Sheet(panels[0].title, about, body=sum(text.height for text in texts))
    top = sheet.top
    for panel, text in zip(panels, texts, strict=True):
        _place(sheet, panel, text, top)
        top += text.height
    return sheet.figure


def axis_label(panel: Panel) -> str:
    """The y axis in words: the metric and its unit."""
    normalization = phrase("normalization", dict(panel.shared).get("normalization", "none"))
    name = ", ".join(filter(None, (panel.title, normalization)))
    return f"{name} ({panel.unit})" if panel.unit else name


@dataclass(frozen=True)
class _Texts:
    """The lines around one panel. Their number fixes its height, so that nothing can overlap."""

    heading: list[str]
    columns: int
    legend_rows: int
    below: list[str]

    @classmethod
    def of(cls, panel: Panel, panels: Sequence[Panel]) -> _Texts:
        curves = [curve for one in panels for curve in one.curves]
        own = [phrases(pair for pair in panel.shared if pair not in shared_by(curves))]
        if panel.split_by_prompts:
            own.append(f"{prompt_counts(panel.curves)}, apart: this metric depends on the number of prompts")
        columns = legend_columns([curve.label for curve in panel.curves])
        named = len(panel.curves) > 1 or len({curve.source for curve in curves}) > 1
        return cls(
            heading=lines_of(" · ".join(filter(None, own))),
            columns=columns,
            legend_rows=-(-len(panel.curves) // columns) if named else 0,
            below=[line for gap in panel.gaps() for line in lines_of(gap)],
        )

    @property
    def above_axes(self) -> float:
        return 0.14 + LINE * (len(self.heading) + self.legend_rows)

    @property
    def height(self) -> float:
        return self.above_axes + AXES + 0.5 + LINE * len(self.below) + 0.08


def _place(sheet: Sheet, panel: Panel, text: _Texts, top: float) -> None:
    axes = sheet.axes(LEFT, top + text.above_axes, WIDTH - LEFT - 0.2, AXES)
    handles = [
        draw_curve(axes, curve.x(panel.axis), curve.value, curve.low, curve.high, stroke)
        for curve in panel.curves
        for stroke in [Stroke(PALETTE[curve.color], curve.label, curve.dash)]
    ]
    if len(panel.curves) == 1:
        x = panel.curves[0].x(panel.axis)
        step = 0.5 if panel.axis == "layer" else 0.5 / max(1, len(x) - 1)
        for start, stop in stretches(np.isnan(panel.curves[0].value)):
            axes.axvspan(x[start] - step, x[stop - 1] + step, color=GAP, lw=0, zorder=0)
    finish_axes(axes, x=AXIS_LABELS[panel.axis], y=axis_label(panel))
    set_ticks(axes, panel.axis)
    below = sheet.write(text.heading, top + 0.06, MUTED)
    sheet.write(text.below, top + text.above_axes + AXES + 0.5, INK)
    if text.legend_rows:
        sheet.legend(axes, handles, below, text.columns)
