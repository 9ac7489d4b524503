"""The scores as a small table for the terminal: layers down, tasks across."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl


def task_scores(scores: pl.DataFrame) -> pl.DataFrame:
    """One score a task, layer and state: the mean of its main scores over splits and subsets.

    A score that is NaN for one subset makes the task's score NaN: a mean over other subsets would not be comparable.
    """
    main = scores.filter(pl.col("experiment").is_null())
    keys = ["model", "readout", "positions", "pooling", "task", "task_type", "layer", "depth"]
    return main.group_by(keys, maintain_order=True).agg(pl.col("score").mean())


def summarize(scores: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    """For every state: a title, and a table of layer x task with the average over tasks.

    A task without any score has no column: its reason is said elsewhere, and it would make every average NaN. A layer
    that lacks a task has no average: that of fewer tasks could not be compared with the others.
    """
    for (readout, positions), part in task_scores(scores).group_by(["readout", "positions"], maintain_order=True):
        wide = part.pivot("task", index="layer", values="score", aggregate_function="first").sort("layer")
        wide = wide.select("layer", *(name for name in wide.columns[1:] if wide[name].is_finite().any()))
        tasks = wide.columns[1:]
        if len(tasks) > 1:
            whole = ~pl.any_horizontal(pl.col(tasks).is_null())
            wide = wide.with_columns(pl.when(whole).then(pl.mean_horizontal(tasks)).alias("average"))
        yield f"readout {readout or '?'}, positions {positions or '?'}", wide
