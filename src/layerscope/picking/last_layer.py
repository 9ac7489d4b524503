"""Table 1 of the paper: how much better than the last layer the best layer is."""

from __future__ import annotations

import numpy as np
import polars as pl

from layerscope.picking.resampling import Reading, Resampling, at_layer, resample
from layerscope.picking.scores import TaskScores, read_scores

TABLE1 = pl.Schema(
    {
        "model": pl.String(),
        "revision": pl.String(),
        "readout": pl.String(),
        "positions": pl.String(),
        "pooling": pl.String(),
        "n_tasks": pl.Int32(),
        "n_layers": pl.Int32(),
        "best_not_last": pl.Int32(),
        "share_not_last": pl.Float64(),
        "average_last": pl.Float64(),
        "best_layer": pl.Int32(),
        "average_best_layer": pl.Float64(),
        "average_task_best": pl.Float64(),
        "average_task_best_common": pl.Float64(),
        "gain_best_layer": pl.Float64(),
        "gain_best_layer_ci_low": pl.Float64(),
        "gain_best_layer_ci_high": pl.Float64(),
        "gain_task_best": pl.Float64(),
        "gain_task_best_ci_low": pl.Float64(),
        "gain_task_best_ci_high": pl.Float64(),
        "note": pl.String(),
    }
)


def compare_with_last(scores: pl.DataFrame, *, resamples: int = 2000, seed: int = 0) -> pl.DataFrame:
    """Best layer against last layer over tasks, one row for each model, revision, readout, positions and pooling.

    `best_not_last`: tasks whose best layer is not the last (a task whose last layer ties with its best is not counted).
    `average_best_layer`: the one layer with the highest average, among the layers that all tasks have.
    `average_task_best`: every task at the best of its own layers, which is never below; `average_task_best_common`: at
    the best of the common layers, where that is not the same. Both are chosen on the scores they report, so the gains cannot be negative, and their
    intervals are of the difference at the layers chosen here, not of the choice; `select_layers` has the estimate on
    left-out tasks.

    Args:
        scores: scores table of one or many runs.
        resamples: bootstrap samples over tasks.
        seed: seed of the resampling.

    Returns:
        The table, in the order of the runs; averages in the scores' unit; NaN and null where `note` says why.

    Paper: arXiv 2412.09563, table 1.
    """
    return pl.DataFrame([_row(setting, resamples, seed) for setting in read_scores(scores)], schema=TABLE1)


def _row(scores: TaskScores, resamples: int, seed: int) -> dict[str, object]:
    row: dict[str, object] = {**scores.setting, "n_tasks": len(scores.tasks), "n_layers": len(scores.layers)}
    notes = list(scores.left_out)
    numbers = [name for name, kind in TABLE1.items() if kind == pl.Float64()]
    row |= dict.fromkeys(numbers, float("nan"))
    if not scores.tasks or not scores.layers:
        notes.append("no table: no task has a score" if not scores.tasks else "no table: no layer that all tasks have")
        return row | {"note": "; ".join(notes)}
    resampling = resample(scores, resamples, seed)
    means = scores.values.mean(axis=0)
    best = scores.layers[int(means.argmax())]
    own, common = _task_best(scores)
    row |= {
        "best_layer": best,
        "average_best_layer": float(means.max()),
        "average_task_best": own,
        "average_task_best_common": common,
    }
    notes += own_layers_note(scores)
    last = np.array([one.last for one in scores.own])
    if not np.isfinite(last).all():
        notes.append(f"nothing about the last layer: not every task has a score at layer {scores.n_blocks}")
        return row | {"note": "; ".join(notes)}
    behind = last < np.array([one.score for one in scores.own])
    row |= {
        "best_not_last": int(behind.sum()),
        "share_not_last": float(behind.mean()),
        "average_last": float(last.mean()),
    }
    row |= _gain(resampling, "gain_best_layer", resampling.read(at_layer(scores, best)))
    row |= _gain(resampling, "gain_task_best", resampling.own_best())
    if resampling.units < 2:
        notes.append("no intervals: one task without experiments")
    elif len(scores.tasks) == 1:
        notes.append("the intervals are of the one task's experiments")
    return row | {"note": "; ".join(notes)}


def own_layers_note(scores: TaskScores) -> list[str]:
    """What the common layers leave out of the tasks' own best; nothing where that is nothing."""
    if not scores.layers:
        return []
    elsewhere = sum(one.score > row.max() for one, row in zip(scores.own, scores.values, strict=True))
    if not elsewhere:
        return []
    own, common = _task_best(scores)
    return [
        f"every task at its own best layer: {own:.4g} over all layers that it has, {common:.4g} over the "
        f"{len(scores.layers)} that all tasks have ({elsewhere} of {len(scores.tasks)} tasks are best at another)"
    ]


def _task_best(scores: TaskScores) -> tuple[float, float]:
    own = float(np.mean([one.score for one in scores.own]))
    return own, float(scores.values.max(axis=1).mean())


def _gain(resampling: Resampling, name: str, reading: Reading) -> dict[str, float]:
    last = resampling.read(at_layer(resampling.scores, resampling.scores.n_blocks))
    gain = resampling.estimate_reading(tuple(mine - theirs for mine, theirs in zip(reading, last, strict=True)))
    return {name: gain.value, f"{name}_ci_low": gain.low, f"{name}_ci_high": gain.high}
