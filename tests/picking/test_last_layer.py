"""Table 1: counts and averages by hand."""

import numpy as np
import polars as pl
import pytest
from tests.picking.tables import drawn, score_table

from layerscope.picking import last_layer


def compare_with_last(table):
    return last_layer.compare_with_last(drawn(table))


VALUES = np.array([[0.2, 0.6, 0.5], [0.3, 0.4, 0.4], [0.1, 0.5, 0.7], [0.9, 0.5, 0.2]])


def test_counts_and_averages():
    row = compare_with_last(score_table(VALUES)).row(0, named=True)
    # The second task's last layer ties with its best, so it is not counted.
    assert (row["n_tasks"], row["best_not_last"], row["share_not_last"]) == (4, 2, 0.5)
    assert row["average_last"] == pytest.approx(0.45)
    assert (row["best_layer"], row["average_best_layer"]) == (1, pytest.approx(0.5))
    assert row["average_task_best"] == pytest.approx(0.65)
    assert row["gain_task_best"] == pytest.approx(0.2)
    assert row["gain_best_layer"] == pytest.approx(0.05)
    assert row["gain_best_layer_ci_low"] < 0.05 < row["gain_best_layer_ci_high"]


def test_a_task_is_best_at_a_layer_of_its_own_that_another_task_lacks():
    table = score_table(VALUES).filter((pl.col("task") != "task0") | (pl.col("layer") != 0))
    row = compare_with_last(table).row(0, named=True)
    # Task 3 is best at layer 0, which task 0 lacks: .9 there, .5 at the best of the common layers 1 and 2.
    assert row["average_task_best"] == pytest.approx((0.6 + 0.4 + 0.7 + 0.9) / 4)
    assert row["average_task_best_common"] == pytest.approx((0.6 + 0.4 + 0.7 + 0.5) / 4)
    assert row["gain_task_best"] == pytest.approx(row["average_task_best"] - row["average_last"])
    assert (row["best_layer"], row["best_not_last"]) == (1, 2)
    assert "0.65 over all layers that it has, 0.55 over the 2 that all tasks have (1 of 4 tasks are" in row["note"]
    assert "own best layer" not in compare_with_last(score_table(VALUES)).row(0, named=True)["note"]


def test_one_row_a_run():
    table = pl.concat([score_table(VALUES), score_table(VALUES[:, ::-1], model="other")])
    assert compare_with_last(table)["model"].to_list() == ["m", "other"]


def test_one_task_has_no_interval():
    row = compare_with_last(score_table(VALUES[:1])).row(0, named=True)
    assert row["gain_best_layer"] == pytest.approx(0.1)
    assert np.isnan(row["gain_best_layer_ci_low"])
    assert "no intervals" in row["note"]


def test_a_missing_last_layer_is_said():
    table = score_table(VALUES).filter((pl.col("task") != "task0") | (pl.col("layer") != 2))
    row = compare_with_last(table).row(0, named=True)
    assert row["best_not_last"] is None
    assert np.isnan(row["average_last"])
    assert "nothing about the last layer" in row["note"]
    assert row["average_best_layer"] == pytest.approx(0.5)


def test_no_score_is_a_row_with_the_reason():
    row = compare_with_last(score_table([[np.nan]], note="failed")).row(0, named=True)
    assert row["note"] == "task0 left out: failed; no table: no task has a score"
    assert np.isnan(row["average_last"])
