"""Panels as the geometry of inline SVG charts: paths, ticks and what a reader sees when pointing at a layer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from layerscope.figures.curves import Curve, Panel
from layerscope.figures.numbers import MISSING, nice_ticks, stretches, tick_words, x_ticks
from layerscope.figures.style import AXIS_LABELS
from layerscope.wording import on_screen

WIDTH, HEIGHT = 560.0, 242.0
LEFT, RIGHT, TOP, BOTTOM = 58.0, 10.0, 8.0, 40.0
SPARK_WIDTH, SPARK_HEIGHT = 120.0, 22.0


@dataclass(frozen=True)
class Line:
    """One curve of a chart as it is drawn; `points` is what is read at each layer."""

    curve: Curve
    path: str
    band: str
    dots: tuple[tuple[float, float], ...]
    bars: tuple[tuple[float, float, float], ...]
    points: dict[str, list[object]]

    @property
    def course(self) -> str:
        """What is read before anything is pointed at: the extremes."""
        low, high = self.curve.extremes()
        if low == MISSING:
            return "no value at any layer"
        return low if low == high else f"min {low} · max {high}"


class Chart:
    """One panel, ready to be written as SVG.

    Ticks and `marks` (upright lines, such as the layer that is recommended) are places with a word each. `shaded` are the
    stretches without a value, as (left, width), where there is one curve.
    """

    def __init__(self, panel: Panel, name: str, x_range: tuple[float, float], about: str, *, legend: bool) -> None:
        """Lay out one panel.

        Args:
            panel: the curves.
            name: the chart's id in the page.
            x_range: first and last layer (or depth) of all charts, so that they line up.
            about: the conditions of this panel, in words.
            legend: whether its curves are named also where there is only one.
        """
        up, across = nice_ticks(*_y_range(panel.curves)), x_ticks(*x_range, panel.axis)
        self.panel, self.name, self.about = panel, name, about
        self.legend = legend or len(panel.curves) > 1
        self.x_range, self.y_range = x_range, (up[0], up[-1])
        self.x_label = AXIS_LABELS[panel.axis]
        self.x_ticks = list(zip(map(self.across, across), tick_words(across), strict=True))
        self.y_ticks = list(zip(map(self.up, up), tick_words(up), strict=True))
        self.lines = [self._line(curve) for curve in panel.curves]
        self.shaded = self._shaded(panel.curves[0]) if len(panel.curves) == 1 else []
        self.marks: list[tuple[float, str]] = []

    def across(self, value: float) -> float:
        """The place of a layer or depth from left to right."""
        low, high = self.x_range
        share = (value - low) / (high - low) if high > low else 0.5
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 2)

    def up(self, value: float) -> float:
        """The place of a value from top to bottom; NaN for what is none."""
        low, high = self.y_range
        share = (value - low) / (high - low) if math.isfinite(value) else math.nan
        return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 2)

    def _line(self, curve: Curve) -> Line:
        across = [self.across(x) for x in curve.x(self.panel.axis).tolist()]
        up, low, high = ([self.up(value) for value in part.tolist()] for part in (curve.value, curve.low, curve.high))
        pieces = stretches(np.isfinite(up))
        alone = [start for start, stop in pieces if stop - start == 1]
        dotted = range(len(up)) if len(up) <= 41 else alone
        bands = [piece for piece in stretches(np.isfinite(low) & np.isfinite(high)) if piece[1] - piece[0] > 1]
        there, back = list(zip(across, high, strict=True)), list(zip(across, low, strict=True))
        return Line(
            curve=curve,
            path=_path(list(zip(across, up, strict=True))[start:stop] for start, stop in pieces),
            band=_path((there[start:stop] + back[start:stop][::-1] for start, stop in bands), end="Z"),
            dots=tuple((across[i], up[i]) for i in dotted if math.isfinite(up[i])),
            bars=tuple((across[i], low[i], high[i]) for i in alone if math.isfinite(low[i])),
            points={
                "x": [*across],
                "y": [value if math.isfinite(value) else None for value in up],
                "layer": curve.layer.tolist(),
                "text": [_reading(curve, i) for i in range(len(up))],
            },
        )

    def _shaded(self, curve: Curve) -> list[tuple[float, float]]:
        x = curve.x(self.panel.axis)
        half = 0.5 * float(x[1] - x[0]) if len(x) > 1 else 0.0
        edges = [
            (self.across(max(self.x_range[0], x[start] - half)), self.across(min(self.x_range[1], x[stop - 1] + half)))
            for start, stop in stretches(np.isnan(curve.value))
        ]
        return [(left, round(right - left, 2)) for left, right in edges]


def spark_path(course: Sequence[float] | NDArray[np.float64]) -> str:
    """A curve as a small path without axes; empty where there is no value."""
    values = np.asarray(course)
    finite = values[np.isfinite(values)]
    if not len(finite):
        return ""
    low, span = float(finite.min()), float(np.ptp(finite)) or 1.0
    across = np.linspace(1, SPARK_WIDTH - 1, len(values)) if len(values) > 1 else np.array([SPARK_WIDTH / 2])
    up = SPARK_HEIGHT - 2 - (values - low) / span * (SPARK_HEIGHT - 4)
    points = list(zip(np.round(across, 1), np.round(up, 1), strict=True))
    return _path(points[start:stop] for start, stop in stretches(np.isfinite(up)))


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


def _reading(curve: Curve, i: int) -> str:
    """What is read at one layer: the value and its interval, or why there is none."""
    if not math.isfinite(curve.value[i]):
        return f"no value: {on_screen(curve.notes[i])}" if curve.notes[i] else "no value"
    value, low, high = (curve.format.value(float(part[i])) for part in (curve.value, curve.low, curve.high))
    if math.isfinite(curve.low[i]) and math.isfinite(curve.high[i]):
        return f"{value} [{low}, {high}]"
    return value


def _path(pieces: Iterable[Sequence[tuple[float, float]]], end: str = "") -> str:
    """Lines through points, one a piece."""
    return "".join("M" + "L".join(f"{x:g},{y:g}" for x, y in piece) + end for piece in pieces)
