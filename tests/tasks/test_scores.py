"""The table of scores for the terminal: an average is of all tasks or it is none."""

import polars as pl
from tests.picking.tables import score_table

from layerscope.tasks.scores import summarize


def test_an_average_is_of_all_tasks() -> None:
    ((title, table),) = summarize(score_table([[0.1, 0.2], [0.3, 0.6]]))
    assert title == "readout normed, positions all"
    assert table["average"].round(6).to_list() == [0.2, 0.4]


def test_a_layer_that_lacks_a_task_has_no_average() -> None:
    scores = score_table([[0.1, 0.2], [0.3, 0.6]]).filter((pl.col("task") == "task0") | (pl.col("layer") == 1))
    ((_, table),) = summarize(scores)
    assert [None if value is None else round(value, 6) for value in table["average"]] == [None, 0.4]
