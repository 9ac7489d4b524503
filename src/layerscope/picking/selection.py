"""What the scores of one setting say: every layer, every way to choose one, and the layer that is recommended."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Any

import polars as pl
from pydantic import BaseModel, ConfigDict, PlainSerializer, PlainValidator

from layerscope.figures.curves import spans
from layerscope.picking.answers import answer_by_scores
from layerscope.picking.best import BestSet, Choice, choose
from layerscope.picking.last_layer import own_layers_note
from layerscope.picking.resampling import Reading, Resampling, at_layer, at_layers, at_random, minus, resample
from layerscope.picking.scores import HOW_READ
from layerscope.picking.spec import MARGIN
from layerscope.statistics.intervals import with_ends

LAYER_TABLE = pl.Schema(
    {"layer": pl.Int32()}
    | dict.fromkeys(("depth", "average", "ci_low", "ci_high"), pl.Float64())
    | dict.fromkeys((*with_ends("behind_best"), "most_lost", "p"), pl.Float64())
    | {"in_set": pl.Boolean()}
)
CHOICE_TABLE = pl.Schema(
    {"choice": pl.String(), "layer": pl.Int32()}
    | dict.fromkeys(("average", "ci_low", "ci_high"), pl.Float64())
    | dict.fromkeys((*with_ends("minus_last"), *with_ends("minus_oracle")), pl.Float64())
    | {"note": pl.String()}
)
LEFT_OUT_RESAMPLES = 1000


AS_ROWS = PlainSerializer(lambda table: table.fill_nan(None).to_dicts(), when_used="json")


def rows_of(schema: pl.Schema) -> PlainValidator:
    """Beside `AS_ROWS` it annotates a DataFrame of this schema: rows in JSON, where a number that is NaN is null."""

    def table(rows: list[dict[str, object]] | pl.DataFrame) -> pl.DataFrame:
        try:
            return rows if isinstance(rows, pl.DataFrame) else pl.DataFrame(rows, schema=schema)
        except (pl.exceptions.PolarsError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"expected the rows of a table: {error}") from error

    return PlainValidator(table)


class Selection(BaseModel):
    """The choice of a layer for one setting: a model, readout, positions and pooling.

    `best` has the highest average and `recommended` is the layer to use, both None where there is no score; see
    `Choice` for `shown` and `most_lost` (None where not known). `indistinguishable` are the layers that cannot be told
    from the best, which is no evidence that they are as good. `values` are the scores of every task at the layers of
    `layers`, which has a row a layer; `choices` has one for each way to choose. `answer` is all that in words, and
    `notes` say what cannot be told and why.
    """

    model_config = ConfigDict(frozen=True)

    model: str
    revision: str
    readout: str
    positions: str
    pooling: str
    n_blocks: int
    tasks: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]
    best: int | None = None
    recommended: int | None = None
    shown: bool | None = None
    most_lost: float | None = None
    indistinguishable: tuple[int, ...] = ()
    layers: Annotated[pl.DataFrame, rows_of(LAYER_TABLE), AS_ROWS] = pl.DataFrame(schema=LAYER_TABLE)
    choices: Annotated[pl.DataFrame, rows_of(CHOICE_TABLE), AS_ROWS] = pl.DataFrame(schema=CHOICE_TABLE)
    answer: str
    notes: tuple[str, ...]

    @property
    def state(self) -> str:
        """Readout, positions and pooling in a word: normed/all/mean."""
        return "/".join(getattr(self, name) or "?" for name in HOW_READ)


_Way = tuple[str, int | None, Reading | None, str]
"""One way to choose: its name, its layer, what it reads of each task (None where that cannot be said), and a note."""


def select_layer(resampling: Resampling, margin: float = MARGIN) -> Selection:
    """Choose a layer by the scores of tasks, with the set of layers that cannot be told from the best.

    What is recommended, the set and the most a layer may lose come from `choose` and `best_set` on a bootstrap over
    tasks, and over experiments within a task, paired over layers. `choices` compares, each with its interval and its
    paired difference to the last layer and to the oracle (every task's own best layer):

    - `last`, `middle` (block ceil(L / 2)), `random` (the mean over layers);
    - `best` and `recommended`, scored on the tasks they were chosen on, so best is too good by construction;
    - `best, left-out task` and `recommended, left-out task`: chosen on the other tasks, scored on the one left out,
      averaged over which one; what the choice is worth on a new task of this kind;
    - `oracle`: too good by construction as well.

    The recommended layer may lose `margin` against the best, in the scores' unit, which all scores keep.
    """
    scores = resampling.scores
    fixed: dict[str, Any] = {**scores.setting, "n_blocks": scores.n_blocks, "tasks": scores.tasks}
    fixed["values"] = scores.values.tolist()
    if not scores.usable:
        reason = "there is no layer that all tasks have" if scores.tasks else "no task has a score"
        notes = (*scores.left_out, f"nothing can be chosen: {reason}")
        return Selection(**fixed, answer=f"No layer can be chosen: {reason}.", notes=notes)
    choice, found = choose(resampling, margin)
    choices = pl.DataFrame(list(_choices(resampling, choice)), schema=CHOICE_TABLE)
    return Selection(
        **fixed,
        best=choice.best,
        recommended=choice.recommended,
        shown=choice.shown,
        most_lost=choice.most_lost if math.isfinite(choice.most_lost) else None,
        indistinguishable=found.members,
        layers=pl.DataFrame(list(_layers(resampling, found, choice.best)), schema=LAYER_TABLE),
        choices=choices,
        answer=answer_by_scores(scores, choice, choices),
        notes=(*scores.left_out, *own_layers_note(scores), *_notes(resampling, found)),
    )


def _layers(resampling: Resampling, found: BestSet, best: int) -> Iterator[dict[str, Any]]:
    scores = resampling.scores
    for layer, p, most_lost in zip(scores.layers, found.p, found.most_lost, strict=True):
        mine = resampling.estimate(at_layer(scores, layer))
        behind = resampling.estimate(at_layer(scores, best) - at_layer(scores, layer))
        yield {
            "layer": layer,
            "depth": layer / max(scores.n_blocks, 1),
            **mine.columns("average", "ci_low", "ci_high"),
            **behind.columns(*with_ends("behind_best")),
            "most_lost": float(most_lost),
            "p": float(p),
            "in_set": layer in found.members if found.members else None,
        }


def _choices(resampling: Resampling, choice: Choice) -> Iterator[dict[str, Any]]:
    scores, estimate = resampling.scores, resampling.estimate

    def way(name: str, layer: int, note: str) -> _Way:
        if layer not in scores.layers:
            return name, layer, None, f"not every task has a score at layer {layer}"
        return name, layer, resampling.read(at_layer(scores, layer)), note

    ways: list[_Way] = [
        way("last", scores.n_blocks, ""),
        way("middle", scores.middle, ""),
        ("random", None, resampling.read(at_random(scores)), "the mean over layers"),
        way("best", choice.best, "chosen and scored on the same tasks"),
        way("recommended", choice.recommended, "chosen and scored on the same tasks"),
        *_left_out(resampling, choice.margin),
        ("oracle", None, resampling.own_best(), "every task at its own best layer"),
    ]
    last, oracle = ways[0][2], ways[-1][2]
    for name, layer, reading, note in ways:
        yield {
            **{"choice": name, "layer": layer, "note": note},
            **estimate(reading).columns("average", "ci_low", "ci_high"),
            **estimate(minus(reading, last)).columns(*with_ends("minus_last")),
            **estimate(minus(reading, oracle)).columns(*with_ends("minus_oracle")),
        }


def _left_out(resampling: Resampling, margin: float) -> list[_Way]:
    names = ("best, left-out task", "recommended, left-out task")
    scores, n = resampling.scores, len(resampling.scores.tasks)
    if n < 2:
        return [(name, None, None, "one task: there is no other to choose on") for name in names]
    chosen = []
    for t in range(n):
        others = scores.of_tasks([i for i in range(n) if i != t])
        again = resample(others, min(LEFT_OUT_RESAMPLES, len(resampling.weights[0])), resampling.seed)
        choice, _ = choose(again, margin)
        chosen.append((choice.best, choice.recommended))
    ways: list[_Way] = []
    for name, layers in zip(names, zip(*chosen, strict=True), strict=True):
        counts = ", ".join(f"{layer} ({often})" for layer, often in sorted(Counter(layers).items()))
        ways.append((name, None, resampling.read(at_layers(scores, layers)), f"layers chosen (how often): {counts}"))
    return ways


def _notes(resampling: Resampling, found: BestSet) -> list[str]:
    scores, n = resampling.scores, resampling.units
    notes = []
    if len(scores.layers) == 1:
        notes.append(f"only layer {scores.layers[0]} has scores: there is nothing to choose between")
    if len(scores.tasks) == 1:
        alone = "" if n > 1 else ", and without experiments nothing about its own chance either"
        about = f"all that is said is about {scores.tasks[0]} alone, on its own texts"
        notes.append(f"{about}: one task says nothing about others{alone}")
    if n < 2:
        return [*notes, "which layers cannot be told from the best, and what may be lost: unknown"]
    units = f"{n} tasks" if len(scores.tasks) > 1 else f"{n} experiments"
    members, many = found.members, len(scores.layers)
    if len(members) == 1 < many:
        others = "layer" if scores.whole else f"of the {many} layers compared"
        notes.append(f"{units} tell {spans(members)} from every other {others}")
    elif many > 1:
        which = "any layer" if len(members) == many else f"{len(members)} of {many} layers ({spans(members)})"
        notes.append(f"{units} cannot tell {which} from the best, which is no evidence that they are as good")
    return notes
