"""The grid of charts: axes, labels, lines and colours of the Figure itself."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from layerscope.errors import UserError
from layerscope.figures import FACETS, FacetLook, plot_facets
from layerscope.figures.style import PALETTE


def table(rows=("a", "b"), columns=("left", "right"), lines=(1.0, 64.0)):
    points = [
        (row, column, f"step {step:g}", step, x, x * step, x * step - 1, x * step + 1)
        for row in rows
        for column in columns
        for step in lines
        for x in (0.0, 0.5, 1.0)
    ]
    return pl.DataFrame(points, schema=FACETS, orient="row")


LOOK = FacetLook("A title", "About it", "depth", {"a": "A (nats)"})


def charts(figure):
    return [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]


def test_a_chart_for_each_row_and_column_with_labels_on_the_edges():
    figure = plot_facets(table(), LOOK)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["left", "right"] * 2
    assert [axes.get_ylabel() for axes in figure.axes] == ["A (nats)", "", "b", ""]
    assert [axes.get_xlabel() for axes in figure.axes] == ["", "", "depth", "depth"]
    assert [len(axes.get_lines()) for axes in figure.axes] == [2] * 4
    assert [text.get_text() for text in figure.texts] == ["A title", "About it"]


def test_lines_are_the_table():
    (axes,) = plot_facets(table(rows="a", columns="c"), LOOK).axes
    assert axes.get_lines()[1].get_ydata().tolist() == [0.0, 32.0, 64.0]
    assert len(axes.collections) == 2


def test_the_legend_stands_above_the_charts():
    figure = plot_facets(table(), LOOK)
    figure.draw_without_rendering()
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["step 1", "step 64"]
    box = legend.get_window_extent()
    assert all(box.y0 > axes.get_window_extent().y1 for axes in figure.axes)
    assert [line.get_color() for line in figure.axes[0].get_lines()] == list(PALETTE[:2])


def test_colours_by_step_have_a_scale_and_no_legend():
    figure = plot_facets(table(lines=(0.0, 1.0, 8.0, 64.0)), FacetLook("T", "", "x", color="step"))
    assert figure.legends == []
    bar = figure.axes[-1]
    assert bar.get_ylabel() == "training step"
    assert [label.get_text() for label in bar.get_yticklabels()] == ["0", "1", "8", "64"]
    colors = [line.get_color() for line in figure.axes[0].get_lines()]
    assert len(set(colors)) == 4
    with pytest.raises(UserError, match="need a step for every point"):
        plot_facets(table().with_columns(step=pl.lit(None, pl.Float64)), FacetLook("T", "", "x", color="step"))


def test_charts_follow_one_another_where_asked():
    data = pl.concat([table(rows=(name,), columns=(name.upper(),)) for name in "abcd"])
    figure = plot_facets(data, FacetLook("T", "", "x", wrap=3))
    boxes = [axes.get_position() for axes in figure.axes]
    assert len(boxes) == 4
    assert boxes[3].x0 == boxes[0].x0
    assert boxes[3].y1 < boxes[0].y0
    assert [axes.get_xlabel() for axes in figure.axes] == ["", "x", "x", "x"]


def test_a_gap_is_a_gap_and_nothing_to_draw_is_an_error():
    data = table(rows="a", columns="c").with_columns(value=pl.when(pl.col("x") == 0.5).then(np.nan).otherwise("value"))
    (axes,) = plot_facets(data, LOOK).axes
    assert np.isnan(axes.get_lines()[0].get_ydata()[1])
    with pytest.raises(UserError, match="nothing to draw"):
        plot_facets(data.head(0), LOOK)
    with pytest.raises(UserError, match="it lacks high"):
        plot_facets(data.drop("high"), LOOK)
