from __future__ import annotations

import io
import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from layerscope.figures.curves import split_curves
from layerscope.figures.numbers import MISSING, NumberFormat
from layerscope.figures.table import BLOCKS, bar, layer_table, sparkline, summary_table


def rows(metric="prompt_entropy", blocks=30, *, value=math.sin, half=0.04, **given):
    return [
        {
            "model": "m", "revision": "r", "texts": "t", "layer": layer, "depth": layer / blocks if blocks else 0.0,
            "metric": metric, "variant": "paper", "alpha": 1.0, "readout": "raw", "positions": "all",
            "pooling": None, "normalization": "none", "value": float(value(layer)),
            "ci_low": None if half is None else value(layer) - half,
            "ci_high": None if half is None else value(layer) + half,
            "unit": "nats", "n_prompts": 8, "note": None,
        } | given
        for layer in range(blocks + 1)
    ]  # fmt: skip


def table(*parts):
    return pl.DataFrame([row for part in parts for row in part], infer_schema_length=None)


def printed(thing, width=100):
    screen = Console(width=width, file=io.StringIO(), color_system=None)
    screen.print(thing)
    return screen.file.getvalue()


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=60))
def test_a_sparkline_has_a_character_a_value_and_a_dot_where_there_is_none(values) -> None:
    line = sparkline([value / 4 for value in values])
    assert len(line) == len(values)
    assert [mark == MISSING for mark in line] == [not math.isfinite(value) for value in values]


def test_a_sparkline_runs_from_the_lowest_to_the_highest_block() -> None:
    assert sparkline(range(8)) == BLOCKS
    assert sparkline([7.0, math.nan, 0.0]) == "█·▁"
    assert len(set(sparkline([3.0, 3.0, 3.0]))) == 1


def test_a_long_sparkline_is_averaged_to_the_width() -> None:
    assert sparkline([0.0, 0.0, 1.0, 1.0], width=2) == "▁█"
    assert sparkline([math.nan, math.nan, 1.0, 2.0], width=2)[0] == MISSING


@given(st.floats(0, 1))
def test_a_bar_is_never_empty_and_never_over_its_width(share) -> None:
    assert len(bar(share)) == 5
    assert bar(share).strip()


def test_bars_grow_with_the_share() -> None:
    full, half = bar(1.0), bar(0.5)
    assert full == "█████"
    assert half.rstrip() == "██▌"


@pytest.mark.parametrize(
    ("value", "half", "expected"),
    [
        (1.83, 0.041, "1.83 ±.04"),
        (150.0, 5.2, "150 ±5"),
        (3.5, 0.12, "3.50 ±.12"),
        (9065.0, 63.0, "9065 ±63"),
        (0.0, 0.0, "0.00 ±.00"),
    ],
)
def test_numbers_have_the_decimals_their_intervals_bear(value, half, expected) -> None:
    (curve,) = split_curves(table(rows(value=lambda _: value, half=half)))
    style = curve.format
    assert f"{style.value(value)} {style.half(half)}" == expected


def test_an_interval_too_small_to_show_is_never_written_as_zero() -> None:
    style = NumberFormat(decimals=2, scientific=False)
    assert style.half(0.001) == "±<.01"
    assert style.half(0.0) == "±.00"
    assert style.half(math.nan) == ""


def test_numbers_beyond_six_digits_are_scientific() -> None:
    (curve,) = split_curves(table(rows(value=lambda _: 2.5e7, half=1e5)))
    assert curve.format.value(2.5e7) == "2.5e+07"


METRICS = [f"metric_number_{i}" for i in range(13)]


def test_thirteen_metrics_fit_in_100_columns_and_nothing_is_cut_off() -> None:
    text = printed(layer_table(table(*(rows(metric) for metric in METRICS))))
    assert max(map(cell_len, text.splitlines())) <= 100
    assert "…" not in text
    # Once in the summary and once above its column.
    assert all(text.split().count(metric) == 2 for metric in METRICS)


def test_every_value_is_in_exactly_one_of_the_stacked_tables() -> None:
    parts = [rows(metric, value=lambda layer, i=i: 10 * i + layer / 100, half=None) for i, metric in enumerate(METRICS)]
    text = printed(layer_table(table(*parts)))
    body = [line.split() for line in text.splitlines() if line.strip()[:2].strip().isdigit() and " 1.00 " in line]
    last = [word for line in body for word in line[2:] if word.replace(".", "").isdigit()]
    np.testing.assert_allclose([float(word) for word in last], [10 * i + 0.3 for i in range(13)], atol=0.06)


def test_the_summary_comes_first_with_extremes_their_layers_and_the_unit() -> None:
    text = printed(layer_table(table(rows(blocks=3, value=lambda layer: [2, 9, 1, 5][layer], half=0.4))))
    summary = next(line for line in text.splitlines() if line.startswith("prompt_entropy"))
    assert summary.split() == ["prompt_entropy", "nats", "1.0", "at", "2", "9.0", "at", "1", "▂█▁▅"]
    assert text.splitlines()[0].startswith("m on t")


def test_an_interval_stands_beside_its_value_and_a_missing_value_is_a_dot_with_its_reason_below() -> None:
    part = rows(blocks=2, value=lambda _: 1.83, half=0.041)
    part[1] |= {"value": math.nan, "ci_low": None, "ci_high": None, "note": "one token"}
    text = printed(layer_table(table(part)))
    assert "1.83 ±.04" in text
    assert "prompt_entropy: no value at layer 1: one token" in text
    assert next(line for line in text.splitlines() if line.split()[:1] == ["1"]).split() == ["1", "0.50", "·", "·"]


def test_conditions_that_differ_are_named_and_shared_ones_stand_in_the_title() -> None:
    text = printed(layer_table(table(rows(blocks=2), rows(blocks=2, positions="no-first"))))
    assert "raw readout" in text.splitlines()[0]
    assert "prompt_entropy · no-first" in text
    assert "prompt_entropy · all tokens" in text


def test_models_of_different_depth_have_tables_of_their_own() -> None:
    group = layer_table(table(rows(blocks=4, model="a"), rows(blocks=2, model="b")))
    tables = [part for part in group.renderables if hasattr(part, "columns")]
    assert [len(part.columns[0].cells) for part in tables] == [2, 5, 3]


def test_markup_in_names_is_shown_as_text() -> None:
    text = printed(layer_table(table(rows("[bold]x[/bold]", blocks=2, model="[red]m", texts="[/]"))))
    assert "[bold]x[/bold]" in text
    assert "[red]m on [/]" in text


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_lines_stay_within_the_width(width) -> None:
    text = printed(layer_table(table(*(rows(metric) for metric in METRICS)), width), width)
    assert max(map(cell_len, text.splitlines())) <= width
    assert "…" not in text


def test_a_single_layer_and_no_layers() -> None:
    assert "layer 0" in printed(layer_table(table(rows(blocks=0))))
    assert "No layers" in printed(layer_table(table(rows()).clear()))
    nothing = printed(summary_table(table(rows(blocks=2, value=lambda _: math.nan, half=None))))
    assert nothing.splitlines()[-1].split() == ["prompt_entropy", "nats", MISSING, MISSING, MISSING * 3]
