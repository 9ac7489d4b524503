"""Table 1 of the paper: how much better than the last layer the best layer is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from layerscope.picking.resampling import Resampling, at_layer, minus
from layerscope.picking.scores import SETTING, TaskScores
from layerscope.statistics.intervals import with_ends

TABLE1 = pl.Schema(
    dict.fromkeys(SETTING, pl.String())
    | dict.fromkeys(("n_tasks", "n_layers", "best_not_last"), pl.Int32())
    | {"share_not_last": pl.Float64(), "average_last": pl.Float64(), "best_layer": pl.Int32()}
    | dict.fromkeys(("average_best_layer", "average_task_best", "average_task_best_common"), pl.Float64())
    | dict.fromkeys((*with_ends("gain_best_layer"), *with_ends("gain_task_best")), pl.Float64())
    | {"note": pl.String()}
)


def compare_with_last(settings: Sequence[Resampling]) -> pl.DataFrame:
    """Best layer against last layer over tasks, one row for each model, revision, readout, positions and pooling.

    `best_not_last`: tasks whose best layer is not the last (a task whose last layer ties with its best is not counted).
    `average_best_layer`: the one layer with the highest average, among the layers that all tasks have.
    `average_task_best`: every task at the best of its own layers, which is never below; `average_task_best_common`: at
    the best of the common layers, where that is not the same. Both are chosen on the scores they report, so the gains
    cannot be negative, and their intervals are of the difference at the layers chosen here, not of the choice;
    `select_layer` has the estimate on left-out tasks. Averages are in the scores' unit; NaN and null where `note` says
    why.

    Paper: arXiv 2412.09563, table 1.
    """
    return pl.DataFrame([_row(one) for one in settings], schema=TABLE1)


def _row(resampling: Resampling) -> dict[str, object]:
    scores, notes = resampling.scores, list(resampling.scores.left_out)
    row: dict[str, object] = {name: np.nan for name, kind in TABLE1.items() if kind == pl.Float64()}
    row |= {**scores.setting, "n_tasks": len(scores.tasks), "n_layers": len(scores.layers)}
    if not scores.usable:
        reason = "no layer that all tasks have" if scores.tasks else "no task has a score"
        return row | {"note": "; ".join([*notes, f"no table: {reason}"])}
    means = scores.values.mean(axis=0)
    best = scores.layers[int(means.argmax())]
    row |= {"best_layer": best, "average_best_layer": float(means.max())}
    row["average_task_best"], row["average_task_best_common"] = _task_best(scores)
    notes += own_layers_note(scores)
    last, peak = np.array([(one.at(scores.n_blocks), one.values.max()) for one in scores.own]).T
    if not np.isfinite(last).all():
        missing = f"nothing about the last layer: not every task has a score at layer {scores.n_blocks}"
        return row | {"note": "; ".join([*notes, missing])}
    row |= {"best_not_last": int((last < peak).sum()), "share_not_last": float((last < peak).mean())}
    row["average_last"] = float(last.mean())
    at_last = resampling.read(at_layer(scores, scores.n_blocks))
    ways = {"gain_best_layer": resampling.read(at_layer(scores, best)), "gain_task_best": resampling.own_best()}
    for name, reading in ways.items():
        row |= resampling.estimate(minus(reading, at_last)).columns(*with_ends(name))
    if resampling.units < 2:
        notes.append("no intervals: one task without experiments")
    elif len(scores.tasks) == 1:
        notes.append("the intervals are of the one task's experiments")
    return row | {"note": "; ".join(notes)}


def own_layers_note(scores: TaskScores) -> list[str]:
    """What the common layers leave out of the tasks' own best; nothing where that is nothing."""
    both = zip(scores.own, scores.values, strict=True)
    elsewhere = sum(one.values.max() > row.max() for one, row in both) if scores.layers else 0
    if not elsewhere:
        return []
    own, common = _task_best(scores)
    return [
        f"every task at its own best layer: {own:.4g} over all layers that it has, {common:.4g} over the "
        f"{len(scores.layers)} that all tasks have ({elsewhere} of {len(scores.tasks)} tasks are best at another)"
    ]


def _task_best(scores: TaskScores) -> tuple[float, float]:
    own = float(np.mean([one.values.max() for one in scores.own]))
    return own, float(scores.values.max(axis=1).mean())
