"""Which layer to use, from the scores of tasks, and how sure the choice is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float

from layerscope.analysis.resampling import (
    MIN_UNITS,
    BestSet,
    Resampling,
    at_layer,
    at_layers,
    at_random,
    best_set,
    resample,
)
from layerscope.analysis.scores import TaskScores, read_scores

LAYER_TABLE = pl.Schema(
    {
        "layer": pl.Int32(),
        "depth": pl.Float64(),
        "average": pl.Float64(),
        "ci_low": pl.Float64(),
        "ci_high": pl.Float64(),
        "behind_best": pl.Float64(),
        "behind_best_ci_low": pl.Float64(),
        "behind_best_ci_high": pl.Float64(),
        "p": pl.Float64(),
        "in_set": pl.Boolean(),
    }
)
CHOICE_TABLE = pl.Schema(
    {
        "choice": pl.String(),
        "layer": pl.Int32(),
        "average": pl.Float64(),
        "ci_low": pl.Float64(),
        "ci_high": pl.Float64(),
        "minus_last": pl.Float64(),
        "minus_last_ci_low": pl.Float64(),
        "minus_last_ci_high": pl.Float64(),
        "minus_oracle": pl.Float64(),
        "minus_oracle_ci_low": pl.Float64(),
        "minus_oracle_ci_high": pl.Float64(),
        "note": pl.String(),
    }
)
LEFT_OUT_RESAMPLES = 1000


@dataclass(frozen=True)
class _Way:
    """One way to choose: which layer it reads for each task, None where that cannot be said."""

    name: str
    layer: int | None
    contrast: Float[np.ndarray, "tasks layers"] | None
    note: str


@dataclass(frozen=True)
class Selection:
    """The choice of a layer for one model, readout, positions and pooling.

    `recommended` is the earliest of `indistinguishable`, the layers that cannot be told from the best; with fewer than
    five tasks (or one task without experiments) it is `best`, the one with the highest average. None where there is no
    score. `layers` has a row a layer, `choices` a row for each way to choose, `notes` what cannot be told and why.
    """

    scores: TaskScores
    best: int | None
    recommended: int | None
    indistinguishable: tuple[int, ...]
    layers: pl.DataFrame
    choices: pl.DataFrame
    notes: tuple[str, ...]


def select_layers(scores: pl.DataFrame, *, resamples: int = 2000, seed: int = 0) -> tuple[Selection, ...]:
    """Choose a layer by the scores of tasks, with the set of layers that cannot be told from the best.

    The set comes from `best_set` on a bootstrap over tasks, and over experiments within a task, paired over layers.
    `choices` compares, each with its interval and its paired difference to the last layer and to the oracle (every
    task's own best layer):

    - `last`, `middle` (block ceil(L / 2)), `random` (the mean over layers);
    - `best` and `recommended`, scored on the tasks they were chosen on, so best is too good by construction;
    - `best, left-out task` and `recommended, left-out task`: chosen on the other tasks, scored on the one left out,
      averaged over which one; what the choice is worth on a new task of this kind;
    - `oracle`: too good by construction as well.

    Args:
        scores: a scores table; every model, revision, readout, positions and pooling is a selection of its own.
        resamples: bootstrap samples.
        seed: seed of the resampling.

    Returns:
        One Selection a setting, in the table's order. Scores keep their unit.

    Raises:
        UserError: the table is not a scores table, or holds two main scores for one task and layer.
    """
    return tuple(_select(setting, resamples, seed) for setting in read_scores(scores))


def _select(scores: TaskScores, resamples: int, seed: int) -> Selection:
    if not scores.tasks or not scores.layers:
        reason = "no task has a score" if not scores.tasks else "there is no layer that all tasks have"
        notes = (*scores.left_out, f"nothing can be chosen: {reason}")
        empty = pl.DataFrame(schema=LAYER_TABLE), pl.DataFrame(schema=CHOICE_TABLE)
        return Selection(scores, None, None, (), *empty, notes)
    resampling = resample(scores, resamples, seed)
    found = best_set(resampling)
    best = _best(scores)
    recommended = _recommended(resampling, found)
    choices = _choices(resampling, {"best": best, "recommended": recommended}, seed)
    return Selection(
        scores=scores,
        best=best,
        recommended=recommended,
        indistinguishable=found.members,
        layers=_layer_table(resampling, found, best),
        choices=choices,
        notes=(*scores.left_out, *_notes(resampling, found), *_price(resampling, best, recommended)),
    )


def _best(scores: TaskScores) -> int:
    """The layer with the highest average, the earliest of equals."""
    return scores.layers[int(np.argmax(scores.values.mean(axis=0)))]


def _recommended(resampling: Resampling, found: BestSet) -> int:
    if resampling.units < MIN_UNITS or not found.members:
        return _best(resampling.scores)
    return found.members[0]


def _layer_table(resampling: Resampling, found: BestSet, best: int) -> pl.DataFrame:
    scores = resampling.scores
    rows = []
    for layer, p in zip(scores.layers, found.p, strict=True):
        mine = resampling.estimate(at_layer(scores, layer))
        behind = resampling.estimate(at_layer(scores, best) - at_layer(scores, layer))
        rows.append(
            {
                "layer": layer,
                "depth": layer / max(scores.n_blocks, 1),
                "average": mine.value,
                "ci_low": mine.low,
                "ci_high": mine.high,
                "behind_best": behind.value,
                "behind_best_ci_low": behind.low,
                "behind_best_ci_high": behind.high,
                "p": float(p),
                "in_set": layer in found.members if found.members else None,
            }
        )
    return pl.DataFrame(rows, schema=LAYER_TABLE)


def _choices(resampling: Resampling, chosen: dict[str, int], seed: int) -> pl.DataFrame:
    scores = resampling.scores
    ways: list[_Way] = []
    for name, layer in {"last": scores.n_blocks, "middle": scores.middle}.items():
        has = scores.column(layer) is not None
        note = "" if has else f"not every task has a score at layer {layer}"
        ways.append(_Way(name, layer, at_layer(scores, layer) if has else None, note))
    ways.append(_Way("random", None, at_random(scores), "the mean over layers"))
    ways += [_Way(name, k, at_layer(scores, k), "chosen and scored on the same tasks") for name, k in chosen.items()]
    ways += _left_out(scores, resampling, seed)
    oracle = at_layers(scores, [scores.layers[int(k)] for k in scores.values.argmax(axis=1)])
    ways.append(_Way("oracle", None, oracle, "every task at its own best layer"))
    last = at_layer(scores, scores.n_blocks) if scores.column(scores.n_blocks) is not None else None
    return pl.DataFrame([_choice(resampling, way, last, oracle) for way in ways], schema=CHOICE_TABLE)


def _choice(
    resampling: Resampling,
    way: _Way,
    last: Float[np.ndarray, "tasks layers"] | None,
    oracle: Float[np.ndarray, "tasks layers"],
) -> dict[str, Any]:
    made: dict[str, Any] = {"choice": way.name, "layer": way.layer, "note": way.note}
    for column, against in (("average", None), ("minus_last", last), ("minus_oracle", oracle)):
        low, high = ("ci_low", "ci_high") if column == "average" else (f"{column}_ci_low", f"{column}_ci_high")
        if way.contrast is None or (column == "minus_last" and last is None):
            made |= {column: float("nan"), low: float("nan"), high: float("nan")}
            continue
        estimate = resampling.estimate(way.contrast if against is None else way.contrast - against)
        made |= {column: estimate.value, low: estimate.low, high: estimate.high}
    return made


def _left_out(scores: TaskScores, resampling: Resampling, seed: int) -> list[_Way]:
    names = ("best, left-out task", "recommended, left-out task")
    n = len(scores.tasks)
    if n < 2:
        return [_Way(name, None, None, "one task: there is no other to choose on") for name in names]
    best, recommended = [], []
    for t in range(n):
        others = _without(scores, t)
        best.append(_best(others))
        again = resample(others, min(LEFT_OUT_RESAMPLES, len(resampling.weights[0])), seed)
        recommended.append(_recommended(again, best_set(again)))
    made = []
    for name, layers in zip(names, (best, recommended), strict=True):
        counts = ", ".join(f"{k} ({layers.count(k)})" for k in sorted(set(layers)))
        few = f"; {n - 1} tasks choose the best observed" if n - 1 < MIN_UNITS and layers is recommended else ""
        made.append(_Way(name, None, at_layers(scores, layers), f"layers chosen (how often): {counts}{few}"))
    return made


def _without(scores: TaskScores, t: int) -> TaskScores:
    kept = [i for i in range(len(scores.tasks)) if i != t]
    return TaskScores(
        **scores.setting,
        n_blocks=scores.n_blocks,
        layers=scores.layers,
        tasks=tuple(scores.tasks[i] for i in kept),
        values=scores.values[kept],
        experiments=tuple(scores.experiments[i] for i in kept),
        left_out=scores.left_out,
    )


def _price(resampling: Resampling, best: int, recommended: int) -> list[str]:
    """What the cheaper layer may cost in score; nothing where it is the best one."""
    if recommended == best:
        return []
    scores = resampling.scores
    behind = resampling.estimate(at_layer(scores, best) - at_layer(scores, recommended))
    return [
        f"layer {recommended} is recommended because it is the earliest that cannot be told from the best; its average is "
        f"{behind.value:.4g} below that of layer {best} here, and at 95 % may be up to {behind.high:.4g} below"
    ]


def _notes(resampling: Resampling, found: BestSet) -> list[str]:
    scores, n = resampling.scores, resampling.units
    notes = []
    if len(scores.layers) == 1:
        notes.append(f"only layer {scores.layers[0]} has scores: there is nothing to choose between")
    if len(scores.tasks) == 1:
        about = f"all that is said is about {scores.tasks[0]} alone: one task says nothing about others"
        notes.append(about if n > 1 else f"{about}, and without experiments nothing about its own chance either")
    if n < 2:
        notes.append("which layers cannot be told from the best: unknown; recommended is the best observed")
    elif n < MIN_UNITS:
        kind = "tasks" if len(scores.tasks) > 1 else "experiments"
        notes.append(
            f"{n} {kind} cannot tell {len(found.members)} of {len(scores.layers)} layers from the best; "
            f"recommended is the best observed, since the earliest needs at least {MIN_UNITS} {kind}"
        )
    elif len(scores.layers) > 1 and len(found.members) == len(scores.layers):
        notes.append(f"{n} {'tasks' if len(scores.tasks) > 1 else 'experiments'} cannot tell any layer from the best")
    return notes
