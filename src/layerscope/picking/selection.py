"""Which layer to use, from the scores of tasks, and how sure the choice is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from layerscope.figures.curves import spans
from layerscope.picking.last_layer import own_layers_note
from layerscope.picking.resampling import (
    BestSet,
    Reading,
    Resampling,
    at_layer,
    at_layers,
    at_random,
    best_set,
    resample,
)
from layerscope.picking.scores import TaskScores, read_scores

MARGIN = 0.01
"""What the recommended layer may lose against the best, in the scores' unit: a point of a score between 0 and 1."""

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
        "most_lost": pl.Float64(),
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
    """One way to choose: what it reads of each task, None where that cannot be said."""

    name: str
    layer: int | None
    reading: Reading | None
    note: str


@dataclass(frozen=True)
class Choice:
    """The layer to use, and what is known of it.

    `best` has the highest average. `recommended` is the earliest layer that is `shown` to lose at most `margin` against
    the best one, else `best`. `most_lost` is what it may lose against the best at one-sided 95 %, NaN where that is not
    known.
    """

    best: int
    recommended: int
    shown: bool
    most_lost: float
    margin: float


@dataclass(frozen=True)
class Selection:
    """The choice of a layer for one model, readout, positions and pooling.

    `choice` is None where there is no score. `indistinguishable` are the layers that cannot be told from the best, which
    is no evidence that they are as good. `layers` has a row a layer, `choices` a row for each way to choose, `notes` what
    cannot be told and why.
    """

    scores: TaskScores
    choice: Choice | None
    indistinguishable: tuple[int, ...]
    layers: pl.DataFrame
    choices: pl.DataFrame
    notes: tuple[str, ...]

    @property
    def best(self) -> int | None:
        """The layer with the highest average."""
        return None if self.choice is None else self.choice.best

    @property
    def recommended(self) -> int | None:
        """The layer to use."""
        return None if self.choice is None else self.choice.recommended


def select_layers(
    scores: pl.DataFrame, *, margin: float = MARGIN, resamples: int = 2000, seed: int = 0
) -> tuple[Selection, ...]:
    """Choose a layer by the scores of tasks, with the set of layers that cannot be told from the best.

    What is recommended, the set and the most a layer may lose come from `choose` and `best_set` on a bootstrap over
    tasks, and over experiments within a task, paired over layers. `choices` compares, each with its interval and its
    paired difference to the last layer and to the oracle (every task's own best layer):

    - `last`, `middle` (block ceil(L / 2)), `random` (the mean over layers);
    - `best` and `recommended`, scored on the tasks they were chosen on, so best is too good by construction;
    - `best, left-out task` and `recommended, left-out task`: chosen on the other tasks, scored on the one left out,
      averaged over which one; what the choice is worth on a new task of this kind;
    - `oracle`: too good by construction as well.

    Args:
        scores: a scores table; every model, revision, readout, positions and pooling is a selection of its own.
        margin: what the recommended layer may lose against the best, in the scores' unit.
        resamples: bootstrap samples.
        seed: seed of the resampling.

    Returns:
        One Selection a setting, in the table's order. Scores keep their unit.

    Raises:
        UserError: the table is not a scores table, or holds two main scores for one task and layer.
    """
    return tuple(_select(setting, margin, resamples, seed) for setting in read_scores(scores))


def choose(resampling: Resampling, margin: float) -> tuple[Choice, BestSet]:
    """The earliest layer shown to lose at most `margin` against the best, else the best observed.

    Only layers before the best observed are cheaper, so a later one is never taken for it. With fewer than two units
    nothing is shown.

    Args:
        resampling: draws over the tasks of one setting that has layers and tasks.
        margin: at least 0, in the scores' unit.

    Returns:
        The choice, and the set and bounds it was made from.
    """
    scores = resampling.scores
    found = best_set(resampling)
    best = int(np.argmax(scores.values.mean(axis=0)))
    shown = np.flatnonzero(found.most_lost[: best + 1] <= margin)
    column = int(shown[0]) if len(shown) else best
    return Choice(
        best=scores.layers[best],
        recommended=scores.layers[column],
        shown=bool(len(shown)),
        most_lost=float(found.most_lost[column]),
        margin=margin,
    ), found


def _select(scores: TaskScores, margin: float, resamples: int, seed: int) -> Selection:
    if not scores.tasks or not scores.layers:
        reason = "no task has a score" if not scores.tasks else "there is no layer that all tasks have"
        notes = (*scores.left_out, f"nothing can be chosen: {reason}")
        return Selection(scores, None, (), pl.DataFrame(schema=LAYER_TABLE), pl.DataFrame(schema=CHOICE_TABLE), notes)
    resampling = resample(scores, resamples, seed)
    choice, found = choose(resampling, margin)
    return Selection(
        scores=scores,
        choice=choice,
        indistinguishable=found.members,
        layers=_layer_table(resampling, found, choice.best),
        choices=_choices(resampling, choice, seed),
        notes=(*scores.left_out, *own_layers_note(scores), *_notes(resampling, found)),
    )


def _layer_table(resampling: Resampling, found: BestSet, best: int) -> pl.DataFrame:
    scores = resampling.scores
    rows = []
    for layer, p, most_lost in zip(scores.layers, found.p, found.most_lost, strict=True):
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
                "most_lost": float(most_lost),
                "p": float(p),
                "in_set": layer in found.members if found.members else None,
            }
        )
    return pl.DataFrame(rows, schema=LAYER_TABLE)


def _choices(resampling: Resampling, choice: Choice, seed: int) -> pl.DataFrame:
    scores = resampling.scores
    ways: list[_Way] = []
    for name, layer in {"last": scores.n_blocks, "middle": scores.middle}.items():
        has = scores.column(layer) is not None
        note = "" if has else f"not every task has a score at layer {layer}"
        ways.append(_Way(name, layer, resampling.read(at_layer(scores, layer)) if has else None, note))
    ways.append(_Way("random", None, resampling.read(at_random(scores)), "the mean over layers"))
    for name, layer in {"best": choice.best, "recommended": choice.recommended}.items():
        reading = resampling.read(at_layer(scores, layer))
        ways.append(_Way(name, layer, reading, "chosen and scored on the same tasks"))
    ways += _left_out(resampling, choice.margin, seed)
    ways.append(_Way("oracle", None, resampling.own_best(), "every task at its own best layer"))
    return pl.DataFrame([_choice(resampling, way, ways[0], ways[-1]) for way in ways], schema=CHOICE_TABLE)


def _choice(resampling: Resampling, way: _Way, last: _Way, oracle: _Way) -> dict[str, Any]:
    made: dict[str, Any] = {"choice": way.name, "layer": way.layer, "note": way.note}
    for column, other in (("average", None), ("minus_last", last), ("minus_oracle", oracle)):
        low, high = ("ci_low", "ci_high") if other is None else (f"{column}_ci_low", f"{column}_ci_high")
        reading = way.reading
        if reading is not None and other is not None:
            against = other.reading
            reading = against and tuple(mine - theirs for mine, theirs in zip(reading, against, strict=True))
        if reading is None:
            made |= {column: float("nan"), low: float("nan"), high: float("nan")}
            continue
        estimate = resampling.estimate_reading(reading)
        made |= {column: estimate.value, low: estimate.low, high: estimate.high}
    return made


def _left_out(resampling: Resampling, margin: float, seed: int) -> list[_Way]:
    names = ("best, left-out task", "recommended, left-out task")
    scores, n = resampling.scores, len(resampling.scores.tasks)
    if n < 2:
        return [_Way(name, None, None, "one task: there is no other to choose on") for name in names]
    best, recommended = [], []
    for t in range(n):
        others = scores.of_tasks([i for i in range(n) if i != t])
        again = resample(others, min(LEFT_OUT_RESAMPLES, len(resampling.weights[0])), seed)
        choice, _ = choose(again, margin)
        best.append(choice.best)
        recommended.append(choice.recommended)
    made = []
    for name, layers in zip(names, (best, recommended), strict=True):
        counts = ", ".join(f"{k} ({layers.count(k)})" for k in sorted(set(layers)))
        note = f"layers chosen (how often): {counts}"
        made.append(_Way(name, None, resampling.read(at_layers(scores, layers)), note))
    return made


def _notes(resampling: Resampling, found: BestSet) -> list[str]:
    scores, n = resampling.scores, resampling.units
    notes = []
    if len(scores.layers) == 1:
        notes.append(f"only layer {scores.layers[0]} has scores: there is nothing to choose between")
    if len(scores.tasks) == 1:
        about = (
            f"all that is said is about {scores.tasks[0]} alone, on its own texts: one task says nothing about others"
        )
        notes.append(about if n > 1 else f"{about}, and without experiments nothing about its own chance either")
    if n < 2:
        notes.append("which layers cannot be told from the best, and what may be lost: unknown")
    elif len(scores.layers) > 1:
        notes.append(_set_note(scores, found, n))
    return notes


def _set_note(scores: TaskScores, found: BestSet, n: int) -> str:
    units = f"{n} tasks" if len(scores.tasks) > 1 else f"{n} experiments"
    members, many = found.members, len(scores.layers)
    if len(members) == 1:
        others = "layer" if scores.whole else f"of the {many} layers compared"
        return f"{units} tell {spans(members)} from every other {others}"
    which = "any layer" if len(members) == many else f"{len(members)} of {many} layers ({spans(members)})"
    return f"{units} cannot tell {which} from the best, which is no evidence that they are as good"
