from __future__ import annotations

import numpy as np
import pytest

from layerscope.studies.layer_curves import LayerCurve, facet


def curve(value, half=0.1):
    value = np.asarray(value, dtype=float)
    depth = np.arange(len(value)) / (len(value) - 1)
    return LayerCurve(depth, tuple(range(len(value))), value, value - half, value + half, "nats", 40)


def test_spread_is_the_standard_deviation_over_the_blocks():
    one = curve([9.0, 1.0, 3.0, 2.0])
    assert one.spread.value == pytest.approx(np.std([1.0, 3.0, 2.0]))
    # The gradient's weights add up to zero, so a shift of all layers changes nothing.
    assert curve([109.0, 101.0, 103.0, 102.0]).spread.value == pytest.approx(one.spread.value)
    assert one.spread.low < one.spread.value < one.spread.high


def test_a_flat_curve_has_no_spread():
    assert curve([1.0, 1.0, 1.0, 1.0]).spread.value == 0


def test_a_facet_is_the_curve():
    data = facet(curve([0.0, 1.0, 2.0]), ("row", "column", "line"), step=4.0)
    assert data["value"].to_list() == [0, 1, 2]
    assert data["x"].to_list() == [0, 0.5, 1]
    assert data["step"].to_list() == [4.0] * 3
