"""Checkpoints of one training run that are not what their names say."""

from __future__ import annotations

from tests.results.test_same_weights import runs  # noqa: F401

from layerscope.studies.experiments.checkpoints import distinct


def test_copies_are_left_out_of_a_training_run_and_named(runs):  # noqa: F811
    kept, notes = distinct(runs)
    # 3 and 4 may be equal because nothing changed; between 0 and 2 lie other weights, so one label is wrong.
    assert list(kept) == [1, 3]
    [apart, together] = notes
    assert "step0" in apart
    assert "are left out, because other weights lie between them" in apart
    assert together.endswith("step4 is left out.")
