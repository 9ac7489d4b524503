"""Whether a metric's curve over layers goes with the scores of the tasks, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float

from layerscope.errors import UserError
from layerscope.picking.scores import TaskScores, read_scores
from layerscope.statistics.adjustment import benjamini_hochberg
from layerscope.statistics.association import STATISTICS, ShiftTest, Statistic, embed, is_flat, read_cosine, shift_test
from layerscope.statistics.intervals import LEVEL, bootstrap_weights

MIN_LAYERS = 5
MIN_TASKS = 5
AVERAGE = "(average)"
ENUMERATED = 12
CURVE = ("metric", "variant", "alpha", "readout", "positions", "normalization", "pooling")

RELATIONS = pl.Schema(
    {
        "model": pl.String(),
        "revision": pl.String(),
        "metric": pl.String(),
        "variant": pl.String(),
        "alpha": pl.Float64(),
        "readout": pl.String(),
        "positions": pl.String(),
        "normalization": pl.String(),
        "pooling": pl.String(),
        "score_readout": pl.String(),
        "score_positions": pl.String(),
        "score_pooling": pl.String(),
        "task": pl.String(),
        "statistic": pl.String(),
        "value": pl.Float64(),
        "ci_low": pl.Float64(),
        "ci_high": pl.Float64(),
        "p_shift": pl.Float64(),
        "p_shift_adjusted": pl.Float64(),
        "p_task": pl.Float64(),
        "p_task_adjusted": pl.Float64(),
        "null_q95": pl.Float64(),
        "n_layers": pl.Int32(),
        "n_tasks": pl.Int32(),
        "note": pl.String(),
    }
)


@dataclass(frozen=True)
class _Curves:
    """Metric curves that are finite at the same layers, which are layers of the scores too."""

    keys: list[dict[str, Any]]
    columns: list[int]
    values: Float[np.ndarray, "curves layers"]
    note: str


def relate(layers: pl.DataFrame, scores: pl.DataFrame, *, resamples: int = 1000, seed: int = 0) -> pl.DataFrame:
    """Spearman, Kendall and distance correlation of every metric's curve with every task's score and their average.

    Two nulls, and no p-value that takes layers for independent: `p_shift` asks whether two unrelated curves this smooth
    would go together as well (`shift_test`); `p_task`, on the rows of the average, whether tasks drawn like these would
    agree on the direction (sign flips of the per-task values; for dcor, of their excess over the mean of the shifts).
    `p_task` alone is no evidence of a relation: all tasks may share one shape over layers. A relation stands where
    both are small.

    Args:
        layers: the layers table of one run; metrics measured with any readout, positions and pooling.
        scores: the scores table of the same run; every readout, positions and pooling is related to every metric. The
            average is over the layers that all tasks have, a single task over all that it has itself.
        resamples: bootstrap samples for the intervals: of the tasks for the average, of the experiments for a task.
        seed: seed of the resampling and of the sign flips.

    Returns:
        The table `relations`, one row per curve, setting of the scores, task and statistic. Both p-values are
        adjusted by Benjamini-Hochberg over the whole table. NaN where `note` says why; null where a column does not
        apply (p_task of a single task).

    Raises:
        UserError: no model and revision is in both tables.
    """
    settings = read_scores(scores)
    rows: list[dict[str, Any]] = []
    for setting in settings:
        mine = layers.filter(_is_of(layers, setting))
        if mine.is_empty():
            continue
        # A task's own rows are about all layers that it has; only the average needs those that every task has.
        alone = _with_more_layers(scores, setting)
        for curves, statistic in product(_curves(mine, setting), STATISTICS):
            found = _relate_group(curves, setting, statistic, (resamples, seed))
            rows.extend(row for row in found if row["task"] not in alone)
        for task, own in alone.items():
            for curves, statistic in product(_curves(mine, own), STATISTICS):
                found = _relate_group(curves, own, statistic, (resamples, seed))
                rows.extend(row for row in found if row["task"] == task)
    if not rows:
        raise UserError(
            f"expected metrics and scores of one model; metrics are of {_names(layers)}, scores of {_names(scores)} "
            "(imported scores take the model's name from `layerscope tasks NAME --import DIR`)"
        )
    table = pl.DataFrame(rows, schema=RELATIONS)
    return table.with_columns(
        pl.Series(f"{name}_adjusted", _adjusted(table[name]), dtype=pl.Float64) for name in ("p_shift", "p_task")
    )


def _with_more_layers(scores: pl.DataFrame, setting: TaskScores) -> dict[str, TaskScores]:
    """The tasks of a setting with scores at layers that some other task lacks, each alone."""
    own = (pl.col(name).fill_null("") == wanted for name, wanted in setting.setting.items())
    mine = scores.filter(*own, pl.col("task").is_in(setting.tasks))
    alone = {str(part["task"][0]): read_scores(part)[0] for part in mine.partition_by("task", maintain_order=True)}
    return {task: one for task, one in alone.items() if len(one.layers) > len(setting.layers)}


def _is_of(layers: pl.DataFrame, setting: TaskScores) -> pl.Series:
    pairs = layers.select(pl.col("model").fill_null(""), pl.col("revision").fill_null("")).iter_rows()
    return pl.Series([setting.is_of(*pair) for pair in pairs], dtype=pl.Boolean)


def _relate_group(
    curves: _Curves, setting: TaskScores, statistic: Statistic, draws: tuple[int, int]
) -> list[dict[str, Any]]:
    n_layers, n_tasks = len(curves.columns), len(setting.tasks)
    reason = _refusal(n_layers, n_tasks)
    per_task = setting.values[:, curves.columns]
    targets = np.vstack([per_task, per_task.mean(axis=0)]) if n_tasks else np.empty((1, n_layers))
    shape = (len(curves.keys), n_tasks + 1)
    if reason:
        unknown = np.full(shape, np.nan)
        test, ends, p_task = ShiftTest(unknown, unknown, unknown, unknown), np.full((*shape, 2), np.nan), unknown[:, 0]
    else:
        test = shift_test(curves.values, targets, statistic)
        ends = _intervals(curves, setting, statistic, draws)
        p_task = _sign_flips(test, statistic, draws[1])
    rows = []
    for (c, key), (t, task) in product(enumerate(curves.keys), enumerate((*setting.tasks, AVERAGE))):
        average = task == AVERAGE
        notes = [curves.note, *(setting.left_out if average else ())]
        if reason:
            notes.append(reason)
        elif np.isnan(test.value[c, t]):
            who = "the metric" if is_flat(curves.values[c]) else "the score"
            notes.append(f"no value: {who} is the same at every layer")
        else:
            notes.extend(_caveats(n_layers, n_tasks if average else None, bool(np.isnan(ends[c, t]).any())))
            if average and n_tasks >= MIN_TASKS and np.isnan(p_task[c]):
                notes.append("no p_task: the score of some task is the same at every layer")
        rows.append(
            {
                "model": setting.model,
                "revision": setting.revision,
                **key,
                "score_readout": setting.readout,
                "score_positions": setting.positions,
                "score_pooling": setting.pooling,
                "task": task,
                "statistic": statistic,
                "value": float(test.value[c, t]),
                "ci_low": float(ends[c, t, 0]),
                "ci_high": float(ends[c, t, 1]),
                "p_shift": float(test.p[c, t]),
                "p_task": float(p_task[c]) if average else None,
                "null_q95": float(test.null_q95[c, t]),
                "n_layers": n_layers,
                "n_tasks": n_tasks if average else 1,
                "note": "; ".join(note for note in notes if note),
            }
        )
    return rows


def _refusal(n_layers: int, n_tasks: int) -> str:
    if not n_tasks:
        return "no value: no task has a score"
    if n_layers < MIN_LAYERS:
        return f"no value: {n_layers} layers have the metric and all scores, at least {MIN_LAYERS} are needed"
    return ""


def _caveats(n_layers: int, n_tasks: int | None, no_interval: bool) -> list[str]:
    notes = []
    smallest = 1 / (2 * n_layers)
    if smallest > 1 - LEVEL:
        notes.append(f"with {n_layers} layers p_shift cannot be below {smallest:.3f}")
    if n_tasks is None:
        if no_interval:
            notes.append("no interval: the task has no single experiments")
    elif n_tasks < MIN_TASKS:
        notes.append(f"no interval and no p_task: {n_tasks} tasks, at least {MIN_TASKS} are needed")
    elif 2.0 ** (1 - n_tasks) > 1 - LEVEL:
        notes.append(f"with {n_tasks} tasks p_task cannot be below {2.0 ** (1 - n_tasks):.4f}")
    return notes


def _curves(layers: pl.DataFrame, setting: TaskScores) -> list[_Curves]:
    groups: dict[tuple[int, ...], tuple[list[dict[str, Any]], list[list[float]]]] = {}
    for rows in layers.partition_by(CURVE, maintain_order=True):
        key = {name: rows[name][0] for name in CURVE}
        by_layer = dict(zip(rows["layer"].to_list(), rows["value"].fill_null(float("nan")).to_list(), strict=True))
        if len(by_layer) != len(rows):
            raise UserError(f"expected one value of {key['metric']} a layer and found several: give one run at a time")
        columns = tuple(i for i, layer in enumerate(setting.layers) if np.isfinite(by_layer.get(layer, np.nan)))
        keys, values = groups.setdefault(columns, ([], []))
        keys.append(key)
        values.append([by_layer[setting.layers[i]] for i in columns])
    made = []
    for columns, (keys, values) in groups.items():
        lacking = [layer for i, layer in enumerate(setting.layers) if i not in columns]
        note = f"the metric has no value at layers {', '.join(map(str, lacking))}" if lacking else ""
        made.append(_Curves(keys, list(columns), np.array(values).reshape(len(keys), len(columns)), note))
    return made


def _intervals(
    curves: _Curves, setting: TaskScores, statistic: Statistic, draws: tuple[int, int]
) -> Float[np.ndarray, "curves targets 2"]:
    n_tasks = len(setting.tasks)
    ends = np.full((len(curves.keys), n_tasks + 1, 2), np.nan)
    features = embed(curves.values, statistic)
    units = [experiments if len(experiments) > 1 else None for experiments in setting.experiments]
    for t, unit in enumerate([*units, setting.values if n_tasks >= MIN_TASKS else None]):
        if unit is not None:
            weights = bootstrap_weights(len(unit), *draws) / len(unit)
            resampled = read_cosine(features @ embed(weights @ unit[:, curves.columns], statistic).T, statistic)
            known = ~np.isnan(features[:, 0]) & (np.isfinite(resampled).sum(axis=1) > 1)
            tail = (1 - LEVEL) / 2
            if not known.any():
                continue
            ends[known, t] = np.nanquantile(resampled[known], [tail, 1 - tail], axis=1).T
    return ends


def _sign_flips(test: ShiftTest, statistic: Statistic, seed: int) -> Float[np.ndarray, " curves"]:
    values = test.value[:, :-1]
    if statistic == "dcor":
        values = values - test.null_mean[:, :-1]
    p = np.full(len(values), np.nan)
    n_tasks = values.shape[1]
    if n_tasks < MIN_TASKS:
        return p
    signs = all_signs(n_tasks, seed)
    for row, mine in enumerate(values):
        if np.isfinite(mine).all():
            sums = np.abs(signs @ mine)
            p[row] = np.mean(sums >= sums[0] * (1 - 1e-12))
    return p


def all_signs(n: int, seed: int, most: int = 9999) -> Float[np.ndarray, "flips n"]:
    """Every pattern of n signs, or `most` random ones after the unflipped where there are too many; the first is +1."""
    if n <= ENUMERATED:
        return np.array(list(product((1.0, -1.0), repeat=n)))
    rng = np.random.default_rng(np.random.SeedSequence([seed, n, 2]))
    return np.vstack([np.ones(n), rng.choice((1.0, -1.0), size=(most, n))])


def _adjusted(p: pl.Series) -> list[float | None]:
    filled = p.fill_null(float("nan")).to_numpy()
    return [None if raw is None else float(a) for raw, a in zip(p.to_list(), benjamini_hochberg(filled), strict=True)]


def _names(table: pl.DataFrame) -> str:
    pairs = table.select("model", "revision").unique(maintain_order=True).iter_rows()
    return ", ".join(f"{model} ({revision})" if revision else str(model) for model, revision in pairs) or "none"
