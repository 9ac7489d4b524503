"""Curves over the checkpoints of a training run; and checkpoints that are not what their names say."""

from __future__ import annotations

from tests.results.test_same_weights import runs  # noqa: F401
from tests.studies.test_curves import curves

from layerscope.studies.training_curves import distinct, middle_lead, movement


def test_copies_are_left_out_of_a_training_run_and_named(runs):  # noqa: F811
    kept, notes = distinct(runs)
    # 3 and 4 may be equal because nothing changed; between 0 and 2 lie other weights, so one label is wrong.
    assert list(kept) == [1, 3]
    [apart, together] = notes
    assert "step0" in apart
    assert "are left out, because other weights lie between them" in apart
    assert together.endswith("step4 is left out.")


def test_movement_adds_up_the_changes_between_checkpoints():
    series = [curves([[0, 0, 0, 0]]), curves([[0, 1, 2, 1]]), curves([[0, 0, 4, 1]])]
    assert movement(series).tolist() == [[0, 2, 4, 1]]
    # Thirds of three blocks, without the embeddings: 1, 2, 3.
    assert middle_lead(series, "early").tolist() == [4 - 2]
    assert middle_lead(series, "late").tolist() == [4 - 1]
