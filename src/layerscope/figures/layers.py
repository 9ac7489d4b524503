"""One metric over the layers of the models in a layers table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from layerscope.errors import unknown
from layerscope.figures import style
from layerscope.figures.curves import Curve, Panel, in_common, phrase, phrases, prompt_counts, shared_by, split_panels
from layerscope.figures.numbers import stretches

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
    texts = [_Texts(panel, curves) for panel in panels]
    about = " · ".join(in_common(curves, "band: 95 % interval"))
    sheet = style.Sheet(panels[0].title, about, body=sum(text.height for text in texts))
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


class _Texts:
    """The lines around one panel. Their number fixes its height, so that nothing can overlap."""

    def __init__(self, panel: Panel, curves: Sequence[Curve]) -> None:
        own = [phrases(pair for pair in panel.shared if pair not in shared_by(curves))]
        if panel.split_by_prompts:
            own.append(f"{prompt_counts(panel.curves)}, apart: this metric depends on the number of prompts")
        named = len(panel.curves) > 1 or len({curve.source for curve in curves}) > 1
        self.heading = style.lines_of(" · ".join(filter(None, own)))
        self.columns = style.legend_columns([curve.label for curve in panel.curves])
        self.legend_rows = -(-len(panel.curves) // self.columns) if named else 0
        self.below = [line for gap in panel.gaps() for line in style.lines_of(gap)]
        self.above_axes = 0.14 + style.LINE * (len(self.heading) + self.legend_rows)
        self.height = self.above_axes + AXES + 0.5 + style.LINE * len(self.below) + 0.08


def _place(sheet: style.Sheet, panel: Panel, text: _Texts, top: float) -> None:
    axes = sheet.axes(LEFT, top + text.above_axes, style.WIDTH - LEFT - 0.2, AXES)
    handles = [
        style.draw_curve(axes, curve.x(panel.axis), curve.value, (curve.low, curve.high), stroke)
        for curve in panel.curves
        for stroke in [style.Stroke(style.PALETTE[curve.color], curve.label, curve.dash)]
    ]
    if len(panel.curves) == 1:
        x = panel.curves[0].x(panel.axis)
        step = 0.5 if panel.axis == "layer" else 0.5 / max(1, len(x) - 1)
        for start, stop in stretches(np.isnan(panel.curves[0].value)):
            axes.axvspan(x[start] - step, x[stop - 1] + step, color=style.GAP, lw=0, zorder=0)
    style.finish_axes(axes, x=style.AXIS_LABELS[panel.axis], y=axis_label(panel))
    style.set_ticks(axes, panel.axis)
    below = sheet.write(text.heading, top + 0.06, style.MUTED)
    sheet.write(text.below, top + text.above_axes + AXES + 0.5, style.INK)
    if text.legend_rows:
        sheet.legend(axes, handles, below, text.columns)
