"""Panels as the geometry of inline SVG charts: paths, ticks and what a reader sees when pointing at a layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from layerscope.figures.curves import Curve, Panel, prompt_counts
from layerscope.figures.numbers import MISSING, Axis, nice_ticks, stretches, tick_words, x_ticks
from layerscope.figures.style import AXIS_LABELS, DASHES
from layerscope.wording import on_screen

WIDTH, HEIGHT = 560.0, 242.0
LEFT, RIGHT, TOP, BOTTOM = 58.0, 10.0, 8.0, 40.0
SPARK_WIDTH, SPARK_HEIGHT = 120.0, 22.0


@dataclass(frozen=True)
class Line:
    """One curve of a chart."""

    label: str
    color: int
    dash: int
    path: str
    band: str
    dots: tuple[tuple[float, float], ...]
    bars: tuple[tuple[float, float, float], ...]
    course: str
    points: dict[str, list[object]]


@dataclass(frozen=True)
class Chart:
    """One panel, ready to be written as SVG."""

    name: str
    metric: str
    title: str
    unit: str
    about: str
    apart: str
    x_label: str
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    lines: tuple[Line, ...]
    legend: bool
    gaps: tuple[str, ...]
    shaded: tuple[tuple[float, float], ...]
    marks: tuple[tuple[float, str], ...] = ()
    """Upright lines with a word at the top, such as the layer that is recommended."""


@dataclass(frozen=True)
class Frame:
    """Where the numbers of a chart are drawn."""

    x: tuple[float, float]
    y: tuple[float, float]

    def across(self, value: float) -> float:
        """The place of a layer or depth from left to right."""
        low, high = self.x
        share = (value - low) / (high - low) if high > low else 0.5
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 2)

    def up(self, value: float) -> float:
        """The place of a value from top to bottom."""
        low, high = self.y
        return round(HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM), 2)


def make_chart(panel: Panel, name: str, x_range: tuple[float, float], about: str, *, legend: bool) -> Chart:
    """Lay out one panel.

    Args:
        panel: the curves.
        name: the chart's id in the page.
        x_range: first and last layer (or depth) of all charts, so that they line up.
        about: the conditions of this panel, in words.
        legend: whether its curves are named also where there is only one.

    Returns:
        The chart.
    """
    ticks = nice_ticks(*_y_range(panel.curves))
    frame = Frame(x=x_range, y=(ticks[0], ticks[-1]))
    across = x_ticks(*x_range, panel.axis)
    return Chart(
        name=name,
        metric=panel.metric,
        title=panel.title,
        unit=panel.unit,
        about=about,
        apart=prompt_counts(panel.curves) if panel.split_by_prompts else "",
        x_label=AXIS_LABELS[panel.axis],
        x_ticks=tuple(zip(map(frame.across, across), tick_words(across), strict=True)),
        y_ticks=tuple(zip(map(frame.up, ticks), tick_words(ticks), strict=True)),
        lines=tuple(_line(curve, panel.axis, frame) for curve in panel.curves),
        legend=legend or len(panel.curves) > 1,
        gaps=panel.gaps(),
        shaded=_shaded(panel, frame),
    )


def spark_path(values: NDArray[np.float64]) -> str:
    """A curve as a small path without axes; empty where there is no value."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return ""
    low, span = float(finite.min()), float(np.ptp(finite)) or 1.0
    across = np.linspace(1, SPARK_WIDTH - 1, len(values)) if len(values) > 1 else np.array([SPARK_WIDTH / 2])
    up = SPARK_HEIGHT - 2 - (values - low) / span * (SPARK_HEIGHT - 4)
    return _path(np.round(across, 1), np.round(up, 1))


def _y_range(curves: Sequence[Curve]) -> tuple[float, float]:
    numbers = np.concatenate([part for curve in curves for part in (curve.value, curve.low, curve.high)])
    finite = numbers[np.isfinite(numbers)]
    if not len(finite):
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    if max(abs(low), abs(high)) < 1e-300:
        return 0.0, 1.0
    # A constant curve has no range of its own; a range of rounding errors would show noise as a course.
    least = max(abs(low), abs(high)) * 1e-3
    return (low, high) if high - low >= least else (low - least, high + least)


def _line(curve: Curve, axis: Axis, frame: Frame) -> Line:
    across = np.array([frame.across(x) for x in curve.x(axis).tolist()])
    up, low, high = (
        np.array([frame.up(value) if math.isfinite(value) else math.nan for value in part.tolist()])
        for part in (curve.value, curve.low, curve.high)
    )
    pieces = stretches(np.isfinite(up))
    alone = {start for start, stop in pieces if stop - start == 1}
    dotted = range(len(up)) if len(up) <= 41 else sorted(alone)
    return Line(
        label=curve.label,
        color=curve.color,
        dash=curve.dash % len(DASHES),
        path=_path(across, up),
        band=_band(across, low, high),
        dots=tuple((float(across[i]), float(up[i])) for i in dotted if math.isfinite(up[i])),
        bars=tuple((float(across[i]), float(low[i]), float(high[i])) for i in sorted(alone) if math.isfinite(low[i])),
        course=_course(curve),
        points={
            "x": across.tolist(),
            "y": [value if math.isfinite(value) else None for value in up.tolist()],
            "layer": curve.layer.tolist(),
            "text": [_reading(curve, i) for i in range(len(up))],
        },
    )


def _reading(curve: Curve, i: int) -> str:
    """What is read at one layer: the value and its interval, or why there is none."""
    if not math.isfinite(curve.value[i]):
        return f"no value: {on_screen(curve.notes[i])}" if curve.notes[i] else "no value"
    value, low, high = (curve.format.value(float(part[i])) for part in (curve.value, curve.low, curve.high))
    if math.isfinite(curve.low[i]) and math.isfinite(curve.high[i]):
        return f"{value} [{low}, {high}]"
    return value


def _course(curve: Curve) -> str:
    """What is read before anything is pointed at: the extremes."""
    low, high = curve.extremes()
    if low == MISSING:
        return "no value at any layer"
    return low if low == high else f"min {low} · max {high}"


def _path(across: NDArray[np.float64], up: NDArray[np.float64]) -> str:
    parts = []
    for start, stop in stretches(np.isfinite(up)):
        points = [f"{x:g},{y:g}" for x, y in zip(across[start:stop].tolist(), up[start:stop].tolist(), strict=True)]
        parts.append("M" + "L".join(points))
    return "".join(parts)


def _band(across: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64]) -> str:
    parts = []
    for start, stop in stretches(np.isfinite(low) & np.isfinite(high)):
        if stop - start > 1:
            there = [f"{across[i]:g},{high[i]:g}" for i in range(start, stop)]
            back = [f"{across[i]:g},{low[i]:g}" for i in reversed(range(start, stop))]
            parts.append("M" + "L".join(there + back) + "Z")
    return "".join(parts)


def _shaded(panel: Panel, frame: Frame) -> tuple[tuple[float, float], ...]:
    """The stretches without a value, as (left, width), where the panel is of one curve."""
    if len(panel.curves) > 1:
        return ()
    curve = panel.curves[0]
    x = curve.x(panel.axis)
    half = 0.5 * float(x[1] - x[0]) if len(x) > 1 else 0.0
    edges = [
        (frame.across(max(frame.x[0], x[start] - half)), frame.across(min(frame.x[1], x[stop - 1] + half)))
        for start, stop in stretches(np.isnan(curve.value))
    ]
    return tuple((left, round(right - left, 2)) for left, right in edges)
