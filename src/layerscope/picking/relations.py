"""Whether a metric's curve over layers goes with the scores of the tasks, and how sure that is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float

from layerscope.errors import UserError
from layerscope.picking.folder import Evidence, RunFolder, read_evidence
from layerscope.picking.scores import HOW_READ, TaskScores
from layerscope.statistics.association import STATISTICS, ShiftTest, Statistic, embed, is_flat, read_cosine, shift_test
from layerscope.statistics.intervals import SIGNIFICANCE, add_adjusted, bootstrap_weights, quantile_ends

Row = dict[str, Any]
MIN_LAYERS = 5
MIN_TASKS = 5
AVERAGE = "(average)"
ENUMERATED = 12
RELATIONS_FILE = "relations.parquet"
ABOUT_OTHERS = ("curvature_skipped_steps", "infonce_bound", "infonce_chance", "dime_standard_error", "lidar_rank")
"""Readings about another metric (a count, an error, a constant minus it): related only where they are named."""
CURVE = ("metric", "variant", "alpha", "readout", "positions", "normalization", "pooling")

RELATIONS = pl.Schema(
    dict.fromkeys(
        ("model", "revision", *CURVE, *(f"score_{name}" for name in HOW_READ), "task", "statistic"), pl.String()
    )
    | {"alpha": pl.Float64()}
    | dict.fromkeys(("value", "ci_low", "ci_high", "p_shift", "p_shift_adjusted"), pl.Float64())
    | dict.fromkeys(("p_task", "p_task_adjusted", "null_q95"), pl.Float64())
    | {"n_layers": pl.Int32(), "n_tasks": pl.Int32(), "note": pl.String()}
)


@dataclass(frozen=True)
class _Curves:
    """Metric curves that are finite at the same layers, which are layers of the scores too."""

    keys: tuple[Row, ...]
    columns: list[int]
    values: Float[np.ndarray, "curves layers"]
    note: str


def relate(
    run: RunFolder,
    *,
    scores: RunFolder | None = None,
    metrics: Sequence[str] = (),
    resamples: int = 1000,
    seed: int = 0,
) -> pl.DataFrame:
    """Spearman, Kendall and distance correlation of every metric's curve with every task's score and their average.

    Two nulls, and no p-value that takes layers for independent: `p_shift` asks whether two unrelated curves this smooth
    would go together as well (`shift_test`); `p_task`, on the rows of the average, whether tasks drawn like these would
    agree on the direction (sign flips of the per-task values; for dcor, of their excess over the mean of the shifts).
    `p_task` alone is no evidence of a relation: all tasks may share one shape over layers. A relation stands where
    both are small.

    Args:
        run: a run's folder, or a run that was opened, with metrics of any readout, positions and pooling; each is
            related to the scores of every readout, positions and pooling. The average is over the layers that all tasks
            have, a single task over all that it has itself.
        scores: the folder of the scores, where it is another one.
        metrics: only these, since p-values are adjusted for what is in the table; default: all but ABOUT_OTHERS.
        resamples: bootstrap samples for the intervals: of the tasks for the average, of the experiments for a task.
        seed: seed of the resampling and of the sign flips.

    Returns:
        The table `relations`, one row per curve, setting of the scores, task and statistic. Both p-values are
        adjusted by Benjamini-Hochberg over the whole table. NaN where `note` says why; null where a column does not
        apply (p_task of a single task).

    Raises:
        UserError: metrics or scores are missing, or of different models.
        RunFailedError: a file is damaged.
    """
    return relate_evidence(read_evidence(run, scores), metrics, resamples=resamples, seed=seed)


def relate_evidence(evidence: Evidence, metrics: Sequence[str], *, resamples: int, seed: int) -> pl.DataFrame:
    """`relate` for a folder that was read. Raises what `relate` raises."""
    layers, settings = evidence.need_layers(), evidence.need_scores()
    known = layers["metric"].unique().sort().to_list()
    absent = [name for name in metrics if name not in known]
    if absent:
        raise UserError(f"metric {absent[0]!r} is not in {evidence.path}: it has {', '.join(known)}")
    wanted = list(metrics) or [name for name in known if name not in ABOUT_OTHERS]
    return relate_curves(layers.filter(pl.col("metric").is_in(wanted)), settings, resamples=resamples, seed=seed)


def relate_curves(
    layers: pl.DataFrame, settings: Sequence[TaskScores], *, resamples: int = 1000, seed: int = 0
) -> pl.DataFrame:
    """`relate` for a layers table and the scores of the same run, in all settings. Raises what `relate` raises."""
    rows: list[Row] = []
    for setting in settings:
        models = layers.select("model", "revision").fill_null("").iter_rows()
        mine = layers.filter([setting.is_of(*model) for model in models])
        # A task's own rows are about all layers that it has; only the average needs those that every task has.
        wider = [t for t, own in enumerate(setting.own) if len(own.layers) > len(setting.layers)]
        alone = [setting.alone(t) for t in wider]
        elsewhere = {task for one in alone for task in one.tasks}
        for one in (setting, *alone) if len(mine) else ():
            wanted = {AVERAGE, *setting.tasks} - elsewhere if one is setting else set(one.tasks)
            for curves, statistic in product(_curves(mine, one), STATISTICS):
                found = _relate_group(curves, one, statistic, (resamples, seed))
                rows.extend(row for row in found if row["task"] in wanted)
    if not rows:
        scored = ((one.model, one.revision) for one in settings)
        raise UserError(
            f"expected metrics and scores of one model; metrics are of "
            f"{_names(layers.select('model', 'revision').iter_rows())}, scores of {_names(scored)} "
            "(imported scores take the model's name from `layerscope tasks NAME --import DIR`)"
        )
    for name in ("p_shift", "p_task"):
        add_adjusted(rows, name)
    return pl.DataFrame(rows, schema=RELATIONS)


def _relate_group(curves: _Curves, setting: TaskScores, statistic: Statistic, draws: tuple[int, int]) -> list[Row]:
    n_layers, n_tasks = len(curves.columns), len(setting.tasks)
    reason = "" if n_tasks else "no value: no task has a score"
    if n_tasks and n_layers < MIN_LAYERS:
        reason = f"no value: {n_layers} layers have the metric and all scores, at least {MIN_LAYERS} are needed"
    if reason:
        ends = np.full((len(curves.keys), n_tasks + 1, 2), np.nan)
        unknown = ends[..., 0]
        test, p_task = ShiftTest(unknown, unknown, unknown, unknown), unknown[:, 0]
    else:
        per_task = setting.values[:, curves.columns]
        test = shift_test(curves.values, np.vstack([per_task, per_task.mean(axis=0)]), statistic)
        ends = _intervals(curves, setting, statistic, draws)
        p_task = _sign_flips(test, statistic, draws[1])
    rows = []
    for (c, key), (t, task) in product(enumerate(curves.keys), enumerate((*setting.tasks, AVERAGE))):
        average = task == AVERAGE
        notes = [curves.note, *(setting.left_out if average else ()), reason]
        if not reason and np.isnan(test.value[c, t]):
            who = "the metric" if is_flat(curves.values[c]) else "the score"
            notes.append(f"no value: {who} is the same at every layer")
        elif not reason:
            notes += _caveats(n_layers, n_tasks if average else None, bool(np.isnan(ends[c, t]).any()))
            if average and n_tasks >= MIN_TASKS and np.isnan(p_task[c]):
                notes.append("no p_task: the score of some task is the same at every layer")
        rows.append(
            {
                "model": setting.model,
                "revision": setting.revision,
                **key,
                **{f"score_{name}": getattr(setting, name) for name in HOW_READ},
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
                "note": "; ".join(filter(None, notes)),
            }
        )
    return rows


def _caveats(n_layers: int, n_tasks: int | None, no_interval: bool) -> list[str]:
    notes = []
    smallest = 1 / (2 * n_layers)
    if smallest > SIGNIFICANCE:
        notes.append(f"with {n_layers} layers p_shift cannot be below {smallest:.3f}")
    if n_tasks is None:
        if no_interval:
            notes.append("no interval: the task has no single experiments")
    elif n_tasks < MIN_TASKS:
        notes.append(f"no interval and no p_task: {n_tasks} tasks, at least {MIN_TASKS} are needed")
    elif 2.0 ** (1 - n_tasks) > SIGNIFICANCE:
        notes.append(f"with {n_tasks} tasks p_task cannot be below {2.0 ** (1 - n_tasks):.4f}")
    return notes


def _curves(layers: pl.DataFrame, setting: TaskScores) -> list[_Curves]:
    groups: dict[tuple[int, ...], list[tuple[Row, list[float]]]] = {}
    for rows in layers.partition_by(CURVE, maintain_order=True):
        key = rows.select(CURVE).row(0, named=True)
        by_layer = dict(rows.select("layer", pl.col("value").fill_null(np.nan)).iter_rows())
        if len(by_layer) != len(rows):
            raise UserError(f"expected one value of {key['metric']} a layer and found several: give one run at a time")
        curve = [by_layer.get(layer, np.nan) for layer in setting.layers]
        groups.setdefault(tuple(np.flatnonzero(np.isfinite(curve)).tolist()), []).append((key, curve))
    made = []
    for columns, curves in groups.items():
        keys, values = zip(*curves, strict=True)
        lacking = [str(layer) for i, layer in enumerate(setting.layers) if i not in columns]
        note = f"the metric has no value at layers {', '.join(lacking)}" if lacking else ""
        made.append(_Curves(keys, list(columns), np.take(values, columns, axis=1), note))
    return made


def _intervals(curves: _Curves, setting: TaskScores, statistic: Statistic, draws: tuple[int, int]) -> np.ndarray:
    n_tasks = len(setting.tasks)
    ends = np.full((len(curves.keys), n_tasks + 1, 2), np.nan)
    features = embed(curves.values, statistic)
    for t, unit in enumerate([*setting.experiments, setting.values]):
        if len(unit) >= (MIN_TASKS if t == n_tasks else 2):
            weights = bootstrap_weights(len(unit), *draws) / len(unit)
            resampled = read_cosine(features @ embed(weights @ unit[:, curves.columns], statistic).T, statistic)
            known = ~np.isnan(features[:, 0]) & (np.isfinite(resampled).sum(axis=1) > 1)
            ends[:, t] = quantile_ends(resampled, known)
    return ends


def _sign_flips(test: ShiftTest, statistic: Statistic, seed: int) -> Float[np.ndarray, " curves"]:
    values = (test.value - test.null_mean if statistic == "dcor" else test.value)[:, :-1]
    p = np.full(len(values), np.nan)
    if values.shape[1] >= MIN_TASKS:
        signs = all_signs(values.shape[1], seed)
        for row in np.flatnonzero(np.isfinite(values).all(axis=1)):
            sums = np.abs(signs @ values[row])
            p[row] = np.mean(sums >= sums[0] * (1 - 1e-12))
    return p


def all_signs(n: int, seed: int, most: int = 9999) -> Float[np.ndarray, "flips n"]:
    """Every pattern of n signs, or `most` random ones after the unflipped where there are too many; the first is +1."""
    if n <= ENUMERATED:
        return np.array(list(product((1.0, -1.0), repeat=n)))
    rng = np.random.default_rng(np.random.SeedSequence([seed, n, 2]))
    return np.vstack([np.ones(n), rng.choice((1.0, -1.0), size=(most, n))])


def _names(models: Iterable[tuple[str, str | None]]) -> str:
    return (
        ", ".join(f"{model} ({revision})" if revision else model for model, revision in dict.fromkeys(models)) or "none"
    )
