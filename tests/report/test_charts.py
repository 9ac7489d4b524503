from __future__ import annotations

import math
import re

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from layerscope.figures.curves import split_panels
from layerscope.report.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Chart, spark_path


def chart_of(values, lows=None, highs=None):
    blocks = len(values) - 1
    rows = {
        "layer": range(blocks + 1), "depth": [i / max(1, blocks) for i in range(blocks + 1)],
        "metric": ["curvature"] * (blocks + 1), "unit": ["rad"] * (blocks + 1), "value": values,
        "ci_low": lows or [None] * (blocks + 1), "ci_high": highs or [None] * (blocks + 1),
    }  # fmt: skip
    schema = {"value": pl.Float64, "ci_low": pl.Float64, "ci_high": pl.Float64}
    (panel,) = split_panels(pl.DataFrame(rows, schema_overrides=schema))
    return Chart(panel, "chart", (0.0, float(blocks)), "", legend=False)


def points(path):
    return [tuple(map(float, pair)) for pair in re.findall(r"([-\d.]+),([-\d.e]+)", path)]


def test_the_line_passes_the_values_from_edge_to_edge() -> None:
    chart = chart_of([1.0, 3.0, 2.0])
    (line,) = chart.lines
    assert points(line.path) == [
        (LEFT, HEIGHT - BOTTOM),
        ((LEFT + WIDTH - RIGHT) / 2, TOP),
        (WIDTH - RIGHT, (TOP + HEIGHT - BOTTOM) / 2),
    ]
    assert [word for _, word in chart.y_ticks] == ["1.0", "1.5", "2.0", "2.5", "3.0"]


def test_the_band_goes_there_along_the_upper_and_back_along_the_lower_bounds() -> None:
    chart = chart_of([2.0, 2.0], [1.0, 1.0], [3.0, 3.0])
    assert points(chart.lines[0].band) == [
        (LEFT, TOP), (WIDTH - RIGHT, TOP), (WIDTH - RIGHT, HEIGHT - BOTTOM), (LEFT, HEIGHT - BOTTOM),
    ]  # fmt: skip


@given(st.lists(st.floats(-1e9, 1e9) | st.just(math.nan), min_size=1, max_size=40))
def test_everything_stays_within_the_frame(values) -> None:
    chart = chart_of(values)
    (line,) = chart.lines
    for x, y in (*points(line.path), *line.dots):
        assert LEFT - 0.01 <= x <= WIDTH - RIGHT + 0.01
        assert TOP - 0.01 <= y <= HEIGHT - BOTTOM + 0.01
    assert [y is None for y in line.points["y"]] == [math.isnan(value) for value in values]


def test_ticks_of_a_quarter_are_not_rounded_to_tenths() -> None:
    assert [word for _, word in chart_of([0.6, 1.6, 1.55]).y_ticks][:2] == ["0.6", "0.8"]
    assert [word for _, word in chart_of([0.5, 1.7]).y_ticks][:3] == ["0.50", "0.75", "1.00"]


def test_a_constant_curve_is_not_blown_up() -> None:
    chart = chart_of([2.0, 2.0 + 1e-12, 2.0])
    heights = [y for _, y in points(chart.lines[0].path)]
    assert max(heights) - min(heights) < 0.1


def test_a_curve_of_zeros_stands_on_the_ground() -> None:
    chart = chart_of([0.0, 0.0])
    assert points(chart.lines[0].path) == [(LEFT, HEIGHT - BOTTOM), (WIDTH - RIGHT, HEIGHT - BOTTOM)]
    assert [word for _, word in chart.y_ticks] == ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]


def test_no_tick_is_minus_nought() -> None:
    assert [word for _, word in chart_of([-1.0, 1.0]).y_ticks] == ["-1.0", "-0.5", "0.0", "0.5", "1.0"]


def test_the_interval_of_a_layer_between_gaps_is_a_bar() -> None:
    nan = math.nan
    chart = chart_of([nan, 2.0, nan], [nan, 1.0, nan], [nan, 3.0, nan])
    ((_, low, high),) = chart.lines[0].bars
    assert (low, high) == (HEIGHT - BOTTOM, TOP)
    assert len(chart.shaded) == 2


def test_a_small_path_leaves_gaps_and_nothing_is_nothing() -> None:
    assert spark_path(np.array([1.0, math.nan, 2.0, 3.0])).count("M") == 2
    assert spark_path(np.array([math.nan])) == ""
