from __future__ import annotations

import numpy as np
import pytest

from layerscope.studies.prompt_curves import BANDS, PromptCurves, band, paired, valley_weights
from layerscope.studies.training_curves import middle_lead, movement


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


def test_movement_adds_up_the_changes_between_checkpoints():
    series = [curves([[0, 0, 0, 0]]), curves([[0, 1, 2, 1]]), curves([[0, 0, 4, 1]])]
    assert movement(series).tolist() == [[0, 2, 4, 1]]
    # Thirds of three blocks, without the embeddings: 1, 2, 3.
    assert middle_lead(series, "early").tolist() == [4 - 2]
    assert middle_lead(series, "late").tolist() == [4 - 1]
