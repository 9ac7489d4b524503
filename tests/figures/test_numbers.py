from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from layerscope.figures.numbers import NumberFormat, nice_ticks, stretches, tick_words, x_ticks


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
    ticks = x_ticks(0, blocks, "layer")
    assert all(tick == int(tick) and 0 <= tick <= blocks for tick in ticks)
    assert len(ticks) >= 2


def test_small_values_keep_their_steps() -> None:
    assert nice_ticks(0, 2e-13) == pytest.approx([0, 5e-14, 1e-13, 1.5e-13, 2e-13], rel=1e-9)


def test_ticks_are_written_with_the_decimals_of_their_step() -> None:
    assert tick_words([0.0, 0.2, 0.4]) == ["0.0", "0.2", "0.4"]
    assert tick_words([1000.0, 1000.25, 1000.5]) == ["1,000.00", "1,000.25", "1,000.50"]
    assert tick_words([0.0, 2.0]) == ["0", "2"]
    assert tick_words([3.0]) == ["3"]
    assert tick_words([1e6, 2e6]) == ["1e+06", "2e+06"]
    assert tick_words([0.0, 2e-13]) == ["0", "2e-13"]


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([0.683, 0.6337], ["0.6830", "0.6337"]),
        ([1.0, 2.0, math.nan], ["1", "2", "·"]),
        ([12345.6, 0.5], ["12345.6", "0.5"]),
        ([-0.25, 123.0], ["-0.25", "123.00"]),
        ([1e-9, 1.0], ["1.000e-09", "1.000e+00"]),
        ([12345678.0], ["1.235e+07"]),
        ([], []),
    ],
)
def test_a_column_has_one_number_of_decimals(values, shown) -> None:
    style = NumberFormat.of_values(np.array(values))
    assert [style.value(value) for value in values] == shown


@given(st.lists(st.floats(-1e6, 1e6).filter(lambda value: value == 0 or abs(value) > 1e-3), min_size=1))
def test_no_number_of_a_column_is_cut(values) -> None:
    style = NumberFormat.of_values(np.array(values))
    shown = [style.value(value) for value in values]
    assert len({len(one.partition(".")[2]) for one in shown}) == 1
    for value, one in zip(values, shown, strict=True):
        assert float(one) == pytest.approx(value, rel=6e-4)


@pytest.mark.parametrize(
    ("present", "expected"),
    [([], []), ([True], [(0, 1)]), ([False], []), ([True, True, False, True], [(0, 2), (3, 4)])],
)
def test_stretches(present, expected) -> None:
    assert stretches(np.array(present, dtype=bool)) == expected
