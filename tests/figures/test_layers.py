from __future__ import annotations

import math
import xml.etree.ElementTree as ET

import matplotlib as mpl
import numpy as np
import polars as pl
import pytest
from matplotlib.collections import FillBetweenPolyCollection

from layerscope.errors import UserError
from layerscope.figures import plot_layers, save_figure
from layerscope.figures.style import PALETTE


def rows(metric="prompt_entropy", blocks=4, **given):
    return [
        {
            "model": "m", "revision": "r", "texts": "t", "layer": layer, "depth": layer / blocks if blocks else 0.0,
            "metric": metric, "variant": "paper", "alpha": 1.0, "readout": "raw", "positions": "all",
            "pooling": None, "normalization": "none", "value": float(layer), "ci_low": layer - 0.5,
            "ci_high": layer + 0.25, "unit": "nats", "n_prompts": 8, "note": None,
        } | given
        for layer in range(blocks + 1)
    ]  # fmt: skip


def table(*parts):
    return pl.DataFrame([row for part in parts for row in part], infer_schema_length=None)


def texts_of(figure):
    return [text.get_text() for text in figure.texts]


def test_axes_say_metric_unit_and_what_runs_along_x() -> None:
    (axes,) = plot_layers(table(rows()), "prompt_entropy").axes
    assert axes.get_ylabel() == "Prompt entropy (nats)"
    assert axes.get_xlabel() == "layer (0 = embeddings)"


def test_a_unitless_metric_has_no_empty_brackets() -> None:
    (axes,) = plot_layers(table(rows(unit="")), "prompt_entropy").axes
    assert axes.get_ylabel() == "Prompt entropy"
    (axes,) = plot_layers(table(rows(unit="", normalization="max")), "prompt_entropy").axes
    assert axes.get_ylabel() == "Prompt entropy, max-normalised"


def test_the_line_is_the_values_and_the_band_is_the_interval() -> None:
    (axes,) = plot_layers(table(rows()), "prompt_entropy").axes
    (line,) = axes.lines
    np.testing.assert_array_equal(line.get_xydata(), [(layer, layer) for layer in range(5)])
    (band,) = [part for part in axes.collections if isinstance(part, FillBetweenPolyCollection)]
    corners = {tuple(point) for point in band.get_paths()[0].vertices.tolist()}
    assert corners >= {(layer, layer + offset) for layer in range(5) for offset in (-0.5, 0.25)}


def test_one_curve_has_no_legend_and_several_have_one_each() -> None:
    (alone,) = plot_layers(table(rows()), "prompt_entropy").axes
    assert alone.get_legend() is None
    (both,) = plot_layers(table(rows(), rows(readout="normed")), "prompt_entropy").axes
    assert [text.get_text() for text in both.get_legend().get_texts()] == ["raw readout", "normed readout"]
    assert [line.get_color() for line in both.lines] == list(PALETTE[:2])


def test_other_metrics_of_the_table_are_not_drawn() -> None:
    (axes,) = plot_layers(table(rows(), rows("curvature", unit="rad")), "curvature").axes
    assert len(axes.lines) == 1
    assert axes.get_ylabel() == "Curvature (rad)"


def test_units_have_panels_of_their_own() -> None:
    figure = plot_layers(table(rows(), rows(normalization="max", unit="share")), "prompt_entropy")
    labels = ["Prompt entropy (nats)", "Prompt entropy, max-normalised (share)"]
    assert [axes.get_ylabel() for axes in figure.axes] == labels


def test_pooled_curves_over_different_numbers_of_prompts_are_apart_and_say_why() -> None:
    figure = plot_layers(table(rows(pooling="mean"), rows(pooling="mean", model="o", n_prompts=16)), "prompt_entropy")
    assert len(figure.axes) == 2
    assert sum("depends on the number of prompts" in text for text in texts_of(figure)) == 2


def test_models_of_different_depth_share_an_axis_of_depth() -> None:
    (axes,) = plot_layers(table(rows(), rows(blocks=2, model="o")), "prompt_entropy").axes
    assert axes.get_xlabel() == "depth (layer / number of layers)"
    assert [line.get_xdata().tolist() for line in axes.lines] == [[0, 0.25, 0.5, 0.75, 1], [0, 0.5, 1]]


def test_a_missing_value_is_a_gap_in_line_and_band_and_is_said() -> None:
    part = rows()
    part[2] |= {"value": math.nan, "ci_low": None, "ci_high": None, "note": "one token"}
    figure = plot_layers(table(part), "prompt_entropy")
    (axes,) = figure.axes
    assert np.isnan(axes.lines[0].get_ydata()).tolist() == [False, False, True, False, False]
    (band,) = [patch for patch in axes.collections if isinstance(patch, FillBetweenPolyCollection)]
    assert len(band.get_paths()) == 2
    assert "no value at layer 2: one token" in texts_of(figure)
    assert len(axes.patches) == 1


def test_a_layer_between_gaps_keeps_its_interval() -> None:
    part = rows(blocks=2)
    for layer in (0, 2):
        part[layer] |= {"value": None, "ci_low": None, "ci_high": None}
    (axes,) = plot_layers(table(part), "prompt_entropy").axes
    np.testing.assert_array_equal(axes.lines[1].get_ydata(), [0.5, 1.25])


def test_a_single_layer_is_drawn() -> None:
    (axes,) = plot_layers(table(rows(blocks=0)), "prompt_entropy").axes
    assert axes.lines[0].get_xydata().tolist() == [[0, 0]]
    assert axes.lines[0].get_marker() == "o"


def test_a_metric_without_any_value_still_makes_a_figure() -> None:
    nothing = rows(value=None, ci_low=None, ci_high=None, note="one token")
    figure = plot_layers(table(nothing), "prompt_entropy")
    assert "no value at layers 0–4: one token" in texts_of(figure)


def test_an_unknown_metric_is_named_with_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'prompt_entropy'"):
        plot_layers(table(rows()), "prompt_entrpy")


def test_texts_never_overlap_each_other_or_the_axes() -> None:
    part = rows()
    part[2] |= {"value": math.nan, "note": "a long reason " * 20}
    wide = [
        rows(readout=r, positions=p, alpha=a)
        for r in ("raw", "normed")
        for p in ("all", "no-first")
        for a in (1.0, 2.0)
    ]
    figure = plot_layers(table(part, *wide[1:], rows(normalization="max", unit="")), "prompt_entropy")
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.texts]
    for axes in figure.axes:
        boxes += [axes.get_window_extent(), axes.xaxis.label.get_window_extent(), axes.yaxis.label.get_window_extent()]
        boxes += [axes.get_legend().get_window_extent()] if axes.get_legend() else []
    assert len(boxes) > 12
    for number, box in enumerate(boxes):
        assert figure.bbox.x0 <= box.x0
        assert box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0
        assert box.y1 <= figure.bbox.y1
        assert not any(box.overlaps(other) for other in boxes[:number])


def test_drawing_leaves_global_settings_alone() -> None:
    before = dict(mpl.rcParams)
    plot_layers(table(rows()), "prompt_entropy")
    assert dict(mpl.rcParams) == before


def test_saved_files_are_the_same_every_time_and_the_data_is_beside_them(tmp_path) -> None:
    data = table(rows())
    for folder in ("a", "b"):
        save_figure(plot_layers(data, "prompt_entropy"), tmp_path / folder / "v1.5", data)
    names = ["v1.5.parquet", "v1.5.png", "v1.5.svg"]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == names
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert pl.read_parquet(tmp_path / "a" / "v1.5.parquet").equals(data)


def test_text_in_the_svg_is_text_and_escaped(tmp_path) -> None:
    data = table(rows(model="<script>&"))
    _, svg = save_figure(plot_layers(data, "prompt_entropy"), tmp_path / "figure")
    words = "".join(ET.parse(svg).getroot().itertext())
    assert "Prompt entropy (nats)" in words
    assert "<script>&" in words
    assert "<script>" not in svg.read_text(encoding="utf-8")


def test_a_folder_that_cannot_be_made_is_a_users_mistake(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        save_figure(plot_layers(table(rows()), "prompt_entropy"), tmp_path / "file" / "figure")
