"""scores.parquet: one row per layer, state, task, split, subset and experiment."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from layerscope.errors import UserError
from layerscope.results.tables import read_table, write_table

SCORES_FILE = "scores.parquet"
MAKE_AGAIN = "delete it and run the same command again, which makes it again"

SCORES = pl.Schema(
    {
        "model": pl.String(),
        "revision": pl.String(),
        "layer": pl.Int32(),
        "depth": pl.Float64(),
        "readout": pl.String(),
        "positions": pl.String(),
        "pooling": pl.String(),
        "task": pl.String(),
        "task_type": pl.String(),
        "split": pl.String(),
        "subset": pl.String(),
        "experiment": pl.Int32(),
        "score_name": pl.String(),
        "score": pl.Float64(),
        "n_samples": pl.Int32(),
        "note": pl.String(),
    }
)

ORDER = ("readout", "positions", "task", "layer", "split", "subset", "experiment")


@dataclass(frozen=True)
class Where:
    """The columns that a result's own file does not hold."""

    model: str
    revision: str
    layer: int
    depth: float
    readout: str | None
    positions: str | None
    pooling: str | None


class TaskFacts(Protocol):
    """What the table says about a task."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def type(self) -> str: ...  # noqa: D102
    @property
    def main_score(self) -> str: ...  # noqa: D102
    @property
    def samples(self) -> Mapping[str, int]:
        """Samples by "split/subset"."""


def load_scores(folder: str | Path) -> pl.DataFrame:
    """The scores of a run.

    `experiment` is null in the rows of a task's own main score, and counts the single experiments where the task has
    them; they are paired across layers. A score that could not be had is NaN, and `note` says why.

    Raises:
        UserError: the folder holds no scores.
        RunFailedError: the table is damaged.
    """
    path = Path(folder) / SCORES_FILE
    if not path.exists():
        raise UserError(f"{folder} holds no scores: make them with `layerscope tasks MODEL --tasks ... --out {folder}`")
    return read_table(path, SCORES, MAKE_AGAIN)


def write_scores(rows: Iterable[Mapping[str, object]], folder: Path) -> pl.DataFrame:
    """Write the table, sorted, whole or not at all."""
    table = pl.DataFrame(list(rows), schema=SCORES).sort(ORDER, nulls_last=False)
    write_table([table], SCORES, folder / SCORES_FILE)
    return table


def result_rows(scores_by_split: Mapping[str, Any], where: Where, task: TaskFacts) -> Iterator[dict[str, object]]:
    """Rows of a result (scores by split, as MTEB writes them): the main score of every split and subset, then its single experiments."""
    for split, subsets in scores_by_split.items():
        for scores in subsets:
            subset = scores["hf_subset"]
            fixed = {
                **vars(where),
                "task": task.name,
                "task_type": task.type,
                "split": split,
                "subset": subset,
                "score_name": task.main_score,
                "n_samples": task.samples.get(f"{split}/{subset}"),
            }
            yield {**fixed, "experiment": None, **_valued(scores.get("main_score"))}
            for number, value in enumerate(experiments(scores, task.main_score)):
                yield {**fixed, "experiment": number, **_valued(value)}


def failed_row(where: Where, task: TaskFacts, reason: str) -> dict[str, object]:
    """The row of a layer whose evaluation failed."""
    return {
        **vars(where),
        "task": task.name,
        "task_type": task.type,
        "score_name": task.main_score,
        "score": math.nan,
        "note": reason,
    }


def experiments(scores: Mapping[str, Any], main_score: str) -> list[object]:
    """The single experiments behind a main score, where the result has them.

    Classification: `scores_per_experiment`. Clustering: `v_measures`, a list, or lists by level of a hierarchy; the main
    score is the mean over levels and experiments, so an experiment's score is its mean over the levels.
    """
    single = scores.get("scores_per_experiment")
    if isinstance(single, Sequence) and not isinstance(single, str):
        values = [entry.get(main_score) for entry in single if isinstance(entry, Mapping)]
        return [] if all(value is None for value in values) else values
    measures = scores.get("v_measures") if main_score == "v_measure" else None
    if isinstance(measures, Mapping):
        levels = [level for level in measures.values() if isinstance(level, Sequence)]
        if levels and len({len(level) for level in levels}) == 1:
            return [sum(values) / len(values) for values in zip(*levels, strict=True)]
        return []
    return list(measures) if isinstance(measures, Sequence) and not isinstance(measures, str) else []


def _valued(value: object) -> dict[str, object]:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return {"score": math.nan, "note": "the result has no score here"}
    if not math.isfinite(value):
        return {"score": math.nan, "note": f"the task's own score is {value}"}
    return {"score": float(value), "note": None}
