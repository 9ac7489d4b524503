from __future__ import annotations

import numpy as np
import pytest

from layerscope.studies.curves import BANDS, LayerCurve, PromptCurves, band, chart_line, paired, valley_weights


def curves(values, ids=None, layers=None):
    values = np.asarray(values, dtype=float)
    layers = tuple(range(values.shape[1])) if layers is None else layers
    ids = tuple(f"p{i}" for i in range(len(values))) if ids is None else ids
    return PromptCurves(ids, np.full(len(ids), 9.0), layers, np.array(layers) / layers[-1], values, "nats")


@pytest.mark.parametrize("blocks", [3, 6, 24, 30, 32])
def test_thirds_hold_every_layer_once(blocks):
    depth = np.arange(blocks + 1) / blocks
    masks = np.stack([band(depth, name) for name in BANDS])
    assert (masks.sum(axis=0) == 1).all()
    assert masks[0, 0]
    assert masks[2, -1]
    if blocks % 3 == 0:
        assert masks[:, 1:].sum(axis=1).tolist() == [blocks / 3] * 3


def test_a_flat_curve_has_no_valley_and_a_dip_has_its_depth():
    depth = np.arange(7) / 6
    weights = valley_weights(depth)
    assert weights @ np.ones(7) == pytest.approx(0)
    assert weights @ np.array([2, 2, 2, 1, 1, 2, 2.0]) == pytest.approx(-1)
    falling = np.array([9, 8, 7, 2, 1, 1, 0.0])
    assert valley_weights(depth, ("early",)) @ falling == pytest.approx(1.5 - 8)
    assert valley_weights(depth, ("late",)) @ falling == pytest.approx(1.5 - 0.5)


def test_pairs_are_of_the_same_prompts():
    a, b = paired(curves([[1, 2], [3, 4]], ("x", "y")), curves([[5, 6], [7, 8], [9, 9]], ("y", "z", "x")))
    assert a.ids == b.ids == ("x", "y")
    assert b.values.tolist() == [[9, 9], [5, 6]]


def curve(value, half=0.1):
    value = np.asarray(value, dtype=float)
    depth = np.arange(len(value)) / (len(value) - 1)
    return LayerCurve(depth, value, value - half, value + half, "nats", 40)


def test_spread_is_the_standard_deviation_over_the_blocks():
    one = curve([9.0, 1.0, 3.0, 2.0])
    assert one.spread.value == pytest.approx(np.std([1.0, 3.0, 2.0]))
    # The gradient's weights add up to zero, so a shift of all layers changes nothing.
    assert curve([109.0, 101.0, 103.0, 102.0]).spread.value == pytest.approx(one.spread.value)
    assert one.spread.low < one.spread.value < one.spread.high


def test_a_flat_curve_has_no_spread():
    assert curve([1.0, 1.0, 1.0, 1.0]).spread.value == 0


def test_a_line_of_a_chart_is_the_curve():
    data = curve([0.0, 1.0, 2.0]).line(("row", "column", "line"), step=4.0)
    assert data["value"].to_list() == [0, 1, 2]
    assert data["x"].to_list() == [0, 0.5, 1]
    assert data["step"].to_list() == [4.0] * 3
    assert data["low"].to_list() == pytest.approx([-0.1, 0.9, 1.9])
    without = chart_line(("row", "column", "line"), [0.0, 1.0], [2.0, 3.0])
    assert without["low"].null_count() == without["step"].null_count() == 2
