from __future__ import annotations

import math
import re

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from layerscope.figures.curves import split_panels
from layerscope.report.charts import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    make_chart,
    nice_ticks,
    spark_path,
    x_tick_values,
)


def chart_of(values, lows=None, highs=None):
    blocks = len(values) - 1
    rows = {
        "layer": range(blocks + 1), "depth": [i / max(1, blocks) for i in range(blocks + 1)],
        "metric": ["curvature"] * (blocks + 1), "unit": ["rad"] * (blocks + 1), "value": values,
        "ci_low": lows or [None] * (blocks + 1), "ci_high": highs or [None] * (blocks + 1),
    }  # fmt: skip
    schema = {"value": pl.Float64, "ci_low": pl.Float64, "ci_high": pl.Float64}
    (panel,) = split_panels(pl.DataFrame(rows, schema_overrides=schema))
    return make_chart(panel, "chart", (0.0, float(blocks)), "", legend=False)


def points(path):
    return [tuple(map(float, pair)) for pair in re.findall(r"([-\d.]+),([-\d.e]+)", path)]


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_enclose_the_range_at_equal_steps_and_are_few(low, span) -> None:
    assume(low + span > low)
    ticks = nice_ticks(low, low + span)
    slack = 1e-6 * span
    assert ticks[0] <= low + slack
    assert ticks[-1] >= low + span - slack
    assert 2 <= len(ticks) <= 8
    np.testing.assert_allclose(np.diff(ticks), ticks[1] - ticks[0], rtol=1e-6)


def test_ticks_are_round() -> None:
    assert nice_ticks(0.031, 2.514) == [0, 0.5, 1, 1.5, 2, 2.5, 3]
    assert nice_ticks(0.6, 1.6) == [0.6, 0.8, 1, 1.2, 1.4, 1.6]


@pytest.mark.parametrize("blocks", [1, 2, 6, 12, 30, 80])
def test_layers_have_whole_ticks_within_their_range(blocks) -> None:
    ticks = x_tick_values(0, blocks, "layer")
    assert all(tick == int(tick) and 0 <= tick <= blocks for tick in ticks)
    assert len(ticks) >= 2


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


def test_no_tick_is_minus_nought_and_small_values_keep_their_steps() -> None:
    assert [word for _, word in chart_of([-1.0, 1.0]).y_ticks] == ["-1.0", "-0.5", "0.0", "0.5", "1.0"]
    assert nice_ticks(0, 2e-13) == pytest.approx([0, 5e-14, 1e-13, 1.5e-13, 2e-13], rel=1e-9)


def test_the_interval_of_a_layer_between_gaps_is_a_bar() -> None:
    nan = math.nan
    chart = chart_of([nan, 2.0, nan], [nan, 1.0, nan], [nan, 3.0, nan])
    ((_, low, high),) = chart.lines[0].bars
    assert (low, high) == (HEIGHT - BOTTOM, TOP)
    assert len(chart.shaded) == 2


def test_a_small_path_leaves_gaps_and_nothing_is_nothing() -> None:
    assert spark_path(np.array([1.0, math.nan, 2.0, 3.0])).count("M") == 2
    assert spark_path(np.array([math.nan])) == ""
