from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest

from layerscope.errors import UserError
from layerscope.figures.curves import (
    PALETTE,
    phrase,
    short_name,
    spans,
    split_curves,
    split_panels,
    title,
    usual_variant,
)


def rows(metric="prompt_entropy", blocks=4, **given):
    return [
        {
            "model": "m", "revision": "r", "texts": "t", "layer": layer, "depth": layer / blocks, "metric": metric,
            "variant": "paper", "alpha": 1.0, "readout": "raw", "positions": "all", "pooling": None,
            "normalization": "none", "value": float(layer), "ci_low": layer - 0.5, "ci_high": layer + 0.5,
            "unit": "nats", "n_prompts": 8, "note": None,
        } | given
        for layer in range(blocks + 1)
    ]  # fmt: skip


def table(*parts):
    return pl.DataFrame([row for part in parts for row in part], infer_schema_length=None)


def test_a_curve_holds_its_rows_in_the_order_of_the_layers() -> None:
    (curve,) = split_curves(table(rows()[::-1]))
    np.testing.assert_array_equal(curve.layer, range(5))
    np.testing.assert_array_equal(curve.value, range(5))
    np.testing.assert_array_equal(curve.low, np.arange(5) - 0.5)
    np.testing.assert_array_equal(curve.x("depth"), np.arange(5) / 4)


@pytest.mark.parametrize(
    ("column", "value"),
    [("variant", "unit"), ("alpha", 2.0), ("alpha", None), ("readout", "normed"), ("positions", "no-first"),
     ("normalization", "max"), ("pooling", "mean"), ("model", "other"), ("texts", "other"), ("revision", "other")],
)  # fmt: skip
def test_every_condition_makes_a_curve_of_its_own(column, value) -> None:
    curves = split_curves(table(rows(), rows(**{column: value})))
    assert len(curves) == 2
    assert all(len(curve.layer) == 5 for curve in curves)


def test_two_values_for_one_point_are_refused_and_a_run_column_tells_them_apart() -> None:
    twice = table(rows(), rows())
    with pytest.raises(UserError, match="several"):
        split_curves(twice)
    assert len(split_curves(table(rows(run="a"), rows(run="b")))) == 2


def test_units_never_share_a_panel() -> None:
    panels = split_panels(table(rows(), rows(normalization="max", unit="")))
    assert [(panel.unit, dict(panel.shared)["normalization"]) for panel in panels] == [("nats", "none"), ("", "max")]


@pytest.mark.parametrize(("pooling", "expected"), [(None, 1), ("mean", 2)])
def test_pooled_metrics_over_different_numbers_of_prompts_never_share_a_panel(pooling, expected) -> None:
    panels = split_panels(table(rows(pooling=pooling), rows(pooling=pooling, model="other", n_prompts=16)))
    assert len(panels) == expected
    assert all(panel.split_by_prompts == (expected == 2) for panel in panels)


def test_panels_of_one_metric_stand_together() -> None:
    tables = [rows(metric, pooling="mean", n_prompts=n, model=f"m{n}") for n in (8, 16) for metric in ("b", "a")]
    assert [panel.metric for panel in split_panels(table(*tables))] == ["b", "b", "a", "a"]


@pytest.mark.parametrize(("blocks", "axis"), [((4, 4), "layer"), ((4, 6), "depth")])
def test_models_of_different_depth_are_drawn_against_depth(blocks, axis) -> None:
    panels = split_panels(table(*(rows(blocks=n, model=f"m{i}") for i, n in enumerate(blocks))))
    assert [panel.axis for panel in panels] == [axis]


def test_labels_name_only_what_differs() -> None:
    (panel,) = split_panels(table(rows(), rows(readout="normed"), rows(positions="no-first")))
    assert [curve.label for curve in panel.curves] == [
        "raw readout · all tokens", "normed readout · all tokens", "raw readout · no-first",
    ]  # fmt: skip
    (panel,) = split_panels(table(rows(model="a"), rows(model="b", revision="r2")))
    assert [curve.label for curve in panel.curves] == ["a", "b"]
    (panel,) = split_panels(table(rows(revision="step1"), rows(revision="step2")))
    assert [curve.label for curve in panel.curves] == ["m · step1", "m · step2"]


def test_a_source_keeps_its_colour_where_another_panel_lacks_the_first() -> None:
    panels = split_panels(table(rows(model="a"), rows(model="b"), rows("curvature", model="b")))
    assert [curve.color for curve in panels[0].curves] == [0, 1]
    assert [curve.color for curve in panels[1].curves] == [1]


def test_curves_of_more_sources_than_colours_still_look_different() -> None:
    (panel,) = split_panels(table(*(rows(revision=f"step{i}") for i in range(len(PALETTE) + 3))))
    assert len({(curve.color, curve.dash) for curve in panel.curves}) == len(PALETTE) + 3


def test_gaps_are_said_once_a_reason() -> None:
    part = rows()
    for layer, note in ((1, "one token"), (2, "one token"), (4, "not finite"), (0, None)):
        part[layer] |= {"value": math.nan, "note": note}
    (curve,) = split_curves(table(part))
    assert set(curve.gaps()) == {
        "no value at layers 1–2: one token",
        "no value at layer 4: not finite",
        "no value at layer 0: no reason was recorded",
    }


def test_an_infinite_value_is_a_gap_and_a_null_one_too() -> None:
    part = rows()
    part[0] |= {"value": math.inf}
    part[1] |= {"value": None}
    (curve,) = split_curves(table(part))
    assert np.isnan(curve.value).tolist() == [True, True, False, False, False]


def test_an_empty_table_has_no_panels() -> None:
    assert split_panels(table(rows()).clear()) == ()


def test_the_usual_variant_is_the_commonest() -> None:
    curves = split_curves(table(rows(), rows("a"), rows("b", variant="unit")))
    assert usual_variant(curves) == ("variant", "paper")
    assert usual_variant(()) is None


@pytest.mark.parametrize(
    ("layers", "words"), [([3], "layer 3"), ([5, 3, 4, 9], "layers 3–5, 9"), ([0, 2], "layers 0, 2")]
)
def test_spans(layers, words) -> None:
    assert spans(layers) == words


def test_words() -> None:
    assert title("prompt_entropy") == "Prompt entropy"
    assert title("rankme") == "RankMe"
    assert title("infonce_bound") == "InfoNCE bound"
    assert title("alpha_req") == "α-ReQ"
    assert phrase("alpha", "∞") == "α = ∞"
    assert dict(split_curves(table(rows(alpha=math.inf)))[0].conditions)["alpha"] == "∞"


@pytest.mark.parametrize(
    ("name", "short"),
    [("org/name", "org/name"), ("/models/deep/model.gguf", "model.gguf"), ("a" * 40, "a" * 10),
     ("sha256:0123456789abcdef", "sha256:01234567")],
)  # fmt: skip
def test_short_names(name, short) -> None:
    assert short_name(name) == short
