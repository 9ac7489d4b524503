"""Scores tables made complete: what is averaged, what is left out, and what is said about it."""

import numpy as np
import polars as pl
import pytest
from tests.picking.tables import score_table

from layerscope.errors import UserError
from layerscope.picking.scores import read_scores

VALUES = np.array([[0.1, 0.2, 0.3], [0.5, 0.4, 0.3]])


def test_tasks_by_layers():
    (read,) = read_scores(score_table(VALUES))
    assert read.tasks == ("task0", "task1")
    assert read.layers == (0, 1, 2)
    assert np.array_equal(read.values, VALUES)
    assert (read.n_blocks, read.middle, read.left_out) == (2, 1, ())
    assert read.setting == {"model": "m", "revision": "r", "readout": "normed", "positions": "all", "pooling": "mean"}


@pytest.mark.parametrize(("layers", "middle"), [(2, 1), (7, 3), (8, 4), (31, 15)])
def test_middle_is_half_the_blocks_rounded_up(layers, middle):
    assert read_scores(score_table(np.zeros((1, layers))))[0].middle == middle


def test_readouts_and_positions_are_separate():
    both = pl.concat(
        [score_table(VALUES), score_table(VALUES, readout="raw"), score_table(VALUES, positions="no-sink")]
    )
    assert [(s.readout, s.positions) for s in read_scores(both)] == [
        ("normed", "all"),
        ("raw", "all"),
        ("normed", "no-sink"),
    ]


def test_subsets_and_splits_are_averaged_within_their_task():
    both = pl.concat([score_table(VALUES, subset="en"), score_table(VALUES + 0.2, subset="de")])
    (read,) = read_scores(both)
    assert read.tasks == ("task0", "task1")
    assert read.values == pytest.approx(VALUES + 0.1)


def test_a_layer_that_one_task_lacks_is_left_out_for_all_and_named():
    table = score_table(VALUES).filter(~((pl.col("task") == "task1") & (pl.col("layer") == 1)))
    (read,) = read_scores(table)
    assert read.layers == (0, 2)
    assert read.left_out == ("layer 1 left out for all tasks: task1 has no score there",)


def test_a_nan_score_is_left_out_with_its_reason():
    gap = (pl.col("task") == "task0") & (pl.col("layer") == 2)
    table = score_table(VALUES).with_columns(
        score=pl.when(gap).then(float("nan")).otherwise("score"),
        note=pl.when(gap).then(pl.lit("overflow")).otherwise("note"),
    )
    (read,) = read_scores(table)
    assert read.layers == (0, 1)
    assert read.n_blocks == 2
    assert "task0 has 'overflow'" in read.left_out[0]


def test_a_task_that_failed_everywhere_does_not_cost_the_others_their_layers():
    failed = score_table([[np.nan] * 3], tasks=["broken"], note="no data offline")
    (read,) = read_scores(pl.concat([score_table(VALUES), failed]))
    assert read.tasks == ("task0", "task1")
    assert read.layers == (0, 1, 2)
    assert read.left_out == ("broken left out: no data offline",)


def test_layers_that_failed_as_a_whole_give_the_reason_for_the_gap():
    scored = score_table(VALUES).filter((pl.col("task") != "task1") | (pl.col("layer") != 2))
    failed = score_table(VALUES[1:], tasks=["task1"], split=None, subset=None, note="out of memory")
    failed = failed.filter(pl.col("layer") == 2).with_columns(score=pl.lit(float("nan")))
    (read,) = read_scores(pl.concat([scored, failed]))
    assert read.layers == (0, 1)
    assert read.left_out == ("layer 2 left out for all tasks: task1 has 'out of memory'",)


def lacking(tasks=5, layers=4):
    """Tasks that each lack another layer, as released results do."""
    values = np.arange(tasks * layers).reshape(tasks, layers) / 100
    table = score_table(values)
    return values, table.filter(pl.col("task").str.slice(4).cast(int) % layers != pl.col("layer") + 1)


def test_many_gaps_are_one_line_and_their_details():
    _, table = lacking()
    (read,) = read_scores(table)
    assert read.layers == (3,)
    assert read.left_out == (
        "layers 0–2 left out for all tasks, since not every task has them: 3 tasks (task1, task2, task3) have "
        "no score there",
    )
    assert read.details == tuple(f"layer {t - 1} left out for all tasks: task{t} has no score there" for t in (1, 2, 3))


def test_many_tasks_without_a_score_are_one_line_a_reason():
    failed = score_table([[np.nan] * 3] * 5, tasks=[f"broken{t}" for t in range(5)], note="no data offline")
    (read,) = read_scores(pl.concat([score_table(VALUES), failed]))
    assert read.left_out == ("5 tasks (broken0, broken1, broken2 and 2 more) left out: no data offline",)
    assert read.details == tuple(f"broken{t} left out: no data offline" for t in range(5))


def test_a_task_keeps_its_own_best_layer_though_another_lacks_it():
    values, table = lacking()
    (read,) = read_scores(table)
    assert [one.layers[one.values.argmax()] for one in read.own] == [3] * 5
    falling = score_table(values[:, ::-1]).filter(~((pl.col("task") == "task1") & (pl.col("layer") == 0)))
    (read,) = read_scores(falling)
    assert read.layers == (1, 2, 3)
    assert [one.layers[one.values.argmax()] for one in read.own] == [0, 1, 0, 0, 0]
    assert [one.values.max() for one in read.own] == pytest.approx([0.03, 0.06, 0.11, 0.15, 0.19])
    assert [one.at(3) for one in read.own] == pytest.approx(values[:, 0])


def test_the_own_best_layer_keeps_its_experiments_where_they_are_those_of_the_others():
    single = np.array([[0.1, 0.2, 0.9], [0.3, 0.4, 0.7]])
    gap = ~((pl.col("task") == "task1") & (pl.col("layer") == 2))
    table = score_table([[0.2, 0.3, 0.8], [0.5, 0.4, 0.3]], experiments={"task0": single}).filter(gap)
    assert read_scores(table)[0].own[0].at_best == pytest.approx([0.9, 0.7])
    without = table.filter(~((pl.col("layer") == 2) & (pl.col("experiment").fill_null(-1) == 1)))
    assert read_scores(without)[0].own[0].at_best == pytest.approx([0.8, 0.8])


def test_no_layer_that_all_tasks_have():
    table = score_table(VALUES).filter((pl.col("task") == "task0") == (pl.col("layer") == 0))
    (read,) = read_scores(table)
    assert read.layers == ()
    assert read.values.shape == (2, 0)


def test_no_task_with_a_score():
    (read,) = read_scores(score_table([[np.nan, np.nan]], note="failed"))
    assert read.tasks == ()
    assert read.left_out == ("task0 left out: failed",)


def test_experiments_keep_their_spread_around_the_main_score():
    single = np.array([[0.0, 0.1, 0.2], [0.4, 0.5, 0.6]])
    (read,) = read_scores(score_table(VALUES, experiments={"task0": single}))
    assert read.experiments[0].mean(axis=0) == pytest.approx(VALUES[0])
    assert np.diff(read.experiments[0], axis=0) == pytest.approx(np.diff(single, axis=0))
    assert read.experiments[1].shape == (1, 3)


def test_experiments_that_are_not_complete_are_not_used():
    table = score_table(VALUES, experiments={"task0": [[0.0, 0.1, np.nan], [0.4, 0.5, 0.6]]})
    assert read_scores(table)[0].experiments[0].shape == (1, 3)


def test_two_main_scores_for_one_layer_are_refused():
    with pytest.raises(UserError, match="one main score of task0 at layer 0"):
        read_scores(pl.concat([score_table(VALUES), score_table(VALUES)]))


def test_a_table_of_something_else_is_refused():
    with pytest.raises(UserError, match="lacks readout"):
        read_scores(score_table(VALUES).drop("readout"))
