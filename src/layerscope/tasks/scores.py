"""scores.parquet: one row per layer, state, task, split, subset and experiment."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from layerscope.errors import UserError
from layerscope.results.contents import again
from layerscope.results.record import read_record
from layerscope.results.tables import read_table, write_table
from layerscope.states.state import State
from layerscope.tasks.record import ScoredTask, TasksRecord

SCORES_FILE = "scores.parquet"
SCORES = pl.Schema(
    dict.fromkeys(("model", "revision"), pl.String())
    | {"layer": pl.Int32(), "depth": pl.Float64()}
    | dict.fromkeys(("readout", "positions", "pooling", "task", "task_type", "split", "subset"), pl.String())
    | {"experiment": pl.Int32(), "score_name": pl.String(), "score": pl.Float64()}
    | {"n_samples": pl.Int32(), "note": pl.String()}
)
ORDER = ("readout", "positions", "task", "layer", "split", "subset", "experiment")

AnyPlace = tuple[State | None, int]
"""A readout and positions, which imported scores do not have, and a layer."""


def load_scores(folder: str | Path) -> pl.DataFrame:
    """The scores of a run.

    `experiment` is null in the rows of a task's own main score, and counts the single experiments where the task has
    them; they are paired across layers. A score that could not be had is NaN, and `note` says why.

    Raises:
        UserError: the folder holds no scores.
        RunFailedError: the table, or the record with its hash, is damaged.
    """
    folder = Path(folder)
    if not (folder / SCORES_FILE).exists():
        raise UserError(f"{folder} holds no scores: make them with `layerscope tasks MODEL --tasks ... --out {folder}`")
    record = read_record(TasksRecord, folder)
    made_again = "run the same `layerscope tasks` command again, which makes it again from the results"
    advice = again(folder, "tasks") if record.spec is None else made_again
    return read_table(record.check(folder, SCORES_FILE, advice), SCORES, advice)


def write_scores(tables: Iterable[pl.DataFrame], folder: Path) -> None:
    """Write the table, sorted, whole or not at all."""
    table = pl.concat([pl.DataFrame(schema=SCORES), *tables]).sort(ORDER, nulls_last=False)
    write_table([table], SCORES, folder / SCORES_FILE)


def table_of(rows: Iterable[Mapping[str, object]]) -> pl.DataFrame:
    """Rows as a part of the table; what a row lacks is null."""
    return pl.DataFrame(list(rows), schema=SCORES)


def result_rows(
    record: TasksRecord, place: AnyPlace, task: ScoredTask, by_split: Mapping[str, Sequence[Mapping[str, Any]]]
) -> Iterator[dict[str, object]]:
    """Rows of a result (scores by split, as MTEB writes them): the main score of every split and subset, then its single experiments."""
    fixed = _fixed(record, place, task)
    for split, subsets in by_split.items():
        for scores in subsets:
            subset = scores["hf_subset"]
            own = {"split": split, "subset": subset, "n_samples": task.samples.get(f"{split}/{subset}")}
            single = enumerate(experiments(scores, task.main_score))
            for number, value in ((None, scores.get("main_score")), *single):
                yield {**fixed, **own, "experiment": number, **_valued(value)}


def failed_row(record: TasksRecord, place: AnyPlace, task: str, reason: str) -> dict[str, object]:
    """The row of a layer whose evaluation failed."""
    unknown = ScoredTask(name=task, type="", main_score="", revision="")
    facts = next((known for known in record.tasks if known.name == task), unknown)
    return {**_fixed(record, place, facts), "score": math.nan, "note": reason}


def _fixed(record: TasksRecord, place: AnyPlace, task: ScoredTask) -> dict[str, object]:
    state, layer = place
    resolved = record.resolved
    return {
        "model": record.model.name,
        "revision": resolved.model_revision if resolved else "",
        "layer": layer,
        "depth": layer / max(1, resolved.n_layers) if resolved else 0.0,
        "readout": state.readout if state else None,
        "positions": state.positions if state else None,
        "pooling": record.spec.pooling if record.spec else None,
        "task": task.name,
        "task_type": task.type,
        "score_name": task.main_score,
    }


def experiments(scores: Mapping[str, Any], main_score: str) -> list[object]:
    """The single experiments behind a main score, where the result has them.

    Classification: `scores_per_experiment`. Clustering: `v_measures`, a list, or lists by level of a hierarchy; the main
    score is the mean over levels and experiments, so an experiment's score is its mean over the levels.
    """
    single = scores.get("scores_per_experiment")
    if isinstance(single, list):
        values = [entry.get(main_score) for entry in single if isinstance(entry, Mapping)]
        return [] if all(value is None for value in values) else values
    measures = scores.get("v_measures") if main_score == "v_measure" else None
    if isinstance(measures, Mapping):
        levels = list(measures.values())
        numbers = all(isinstance(level, list) and all(map(_is_number, level)) for level in levels)
        if not numbers or len(set(map(len, levels))) != 1:
            return []
        return [sum(values) / len(values) for values in zip(*levels, strict=True)]
    return list(measures) if isinstance(measures, list) else []


def _is_number(value: object) -> bool:
    # A whole number of JSON can be too large for a float.
    return isinstance(value, float) or (isinstance(value, int) and abs(value) < 1e300 and not isinstance(value, bool))


def _valued(value: Any) -> dict[str, object]:  # noqa: ANN401
    if _is_number(value) and math.isfinite(value):
        return {"score": float(value), "note": None}
    note = f"the task's own score is {value}" if _is_number(value) else "the result has no score here"
    return {"score": math.nan, "note": note}


def summarize(scores: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    """For every state: a title, and a table of layer x task with the average over tasks.

    A task's score is the mean of its main scores over splits and subsets; NaN for one of them makes it NaN, since a mean
    over the others would not be comparable. A task without any score has no column: its reason is said elsewhere, and it would make every average NaN. A layer
    that lacks a task has no average: that of fewer tasks could not be compared with the others.
    """
    main = scores.filter(pl.col("experiment").is_null())
    for (readout, positions), part in main.group_by(["readout", "positions"], maintain_order=True):
        wide = part.pivot("task", index="layer", values="score", aggregate_function="mean").sort("layer")
        wide = wide.select("layer", *(name for name in wide.columns[1:] if wide[name].is_finite().any()))
        tasks = wide.columns[1:]
        if len(tasks) > 1:
            whole = ~pl.any_horizontal(pl.col(tasks).is_null())
            wide = wide.with_columns(pl.when(whole).then(pl.mean_horizontal(tasks)).alias("average"))
        yield f"readout {readout or '?'}, positions {positions or '?'}", wide
