"""The scores table of a run as complete arrays: tasks by layers, with what had to be left out and why."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from jaxtyping import Float

from layerscope.errors import UserError
from layerscope.figures.curves import spans
from layerscope.wording import some

HOW_READ = ("readout", "positions", "pooling")
SETTING = ("model", "revision", *HOW_READ)
PART = ("task", "split", "subset")
COLUMNS = (*SETTING, *PART, "layer", "depth", "experiment", "score", "note")


@dataclass(frozen=True)
class OwnScores:
    """A task at all layers that it has itself, whether or not the other tasks have them.

    `at_best` are its experiments at its best layer, as many as the task's in `TaskScores.experiments`.
    """

    layers: tuple[int, ...]
    values: Float[np.ndarray, " layers"]
    experiments: Float[np.ndarray, "experiments layers"]
    at_best: Float[np.ndarray, " common_experiments"]

    def at(self, layer: int) -> float:
        """The score at a layer; NaN where the task has none."""
        return float(self.values[self.layers.index(layer)]) if layer in self.layers else math.nan


@dataclass(frozen=True)
class TaskScores:
    """Scores of one model under one readout, positions and pooling, at the layers that all its tasks have.

    `experiments[t]` holds task t's single experiments around its score, or one row (the score) where it has none.
    `left_out` has one line for each kind of thing that is left out, `details` a line for each task and reason.
    """

    model: str
    revision: str
    readout: str
    positions: str
    pooling: str
    n_blocks: int
    layers: tuple[int, ...]
    tasks: tuple[str, ...]
    values: Float[np.ndarray, "tasks layers"]
    experiments: tuple[Float[np.ndarray, "experiments layers"], ...]
    own: tuple[OwnScores, ...]
    left_out: tuple[str, ...]
    details: tuple[str, ...] = ()

    @property
    def setting(self) -> dict[str, str]:
        """Model, revision, readout, positions and pooling by name."""
        return {name: getattr(self, name) for name in SETTING}

    @property
    def usable(self) -> bool:
        """Whether there is a task, and a layer that all tasks have."""
        return bool(self.tasks and self.layers)

    @property
    def middle(self) -> int:
        """The middle layer, ceil(L / 2) with L the number of blocks."""
        return math.ceil(self.n_blocks / 2)

    @property
    def whole(self) -> bool:
        """Whether every layer of the model is among `layers`."""
        return len(self.layers) == self.n_blocks + 1

    def is_of(self, model: str, revision: str) -> bool:
        """Whether the scores are of this model: its name and revision, or a hash of weights that has two names."""
        if self.model == model:
            return not self.revision or self.revision == revision
        return self.revision.startswith("sha256:") and self.revision == revision

    def of_tasks(self, kept: Sequence[int]) -> TaskScores:
        """The same layers for some of the tasks, by their positions."""
        return replace(
            self,
            tasks=tuple(self.tasks[i] for i in kept),
            values=self.values[list(kept)],
            experiments=tuple(self.experiments[i] for i in kept),
            own=tuple(self.own[i] for i in kept),
        )

    def alone(self, task: int) -> TaskScores:
        """One of the tasks, by its position, at all layers that it has itself."""
        own = self.own[task]
        return replace(
            self.of_tasks([task]), layers=own.layers, values=own.values[None], experiments=(own.experiments,)
        )


class _Part:
    """Scores of one task, split and subset by layer, those of its single experiments, and what is noted of them."""

    def __init__(self, rows: pl.DataFrame) -> None:
        main = rows.filter(pl.col("experiment").is_null())
        for layer in main.filter(pl.col("layer").is_duplicated())["layer"]:
            task = rows["task"][0]
            raise UserError(
                f"expected one main score of {task} at layer {layer} and found several: give one run at a time"
            )
        self.scores: dict[int, float] = dict(main.select("layer", "score").iter_rows())
        self.notes: dict[int, str] = dict(main.select("layer", "note").iter_rows())
        self.finite = {layer for layer, score in self.scores.items() if math.isfinite(score)}
        self.reason = next(filter(None, self.notes.values()), "no reason was recorded")
        self.experiments: dict[int, dict[int, float]] = {}
        for layer, number, score in rows.drop_nulls("experiment").select("layer", "experiment", "score").iter_rows():
            self.experiments.setdefault(layer, {})[number] = score


def read_scores(scores: pl.DataFrame) -> tuple[TaskScores, ...]:
    """Split a scores table into settings and make each complete.

    A task's score at a layer is its main score (experiment null), averaged over its splits and subsets. A task without
    any finite score is left out; of the others only the layers that all of them have are used. What is left out is
    named in `left_out` with the reason that the table gives. Settings come in the table's order.

    Raises UserError: a column of `COLUMNS` is missing, or a task has two main scores for one layer.
    """
    missing = [name for name in COLUMNS if name not in scores.columns]
    if missing:
        raise UserError(f"expected a scores table with {', '.join(COLUMNS)}; it lacks {', '.join(missing)}")
    filled = scores.with_columns(
        pl.col(*SETTING, *PART, "note").cast(pl.String).fill_null(""),
        pl.col("score").cast(pl.Float64).fill_null(math.nan),
    )
    return tuple(_read_setting(rows) for rows in filled.partition_by(SETTING, maintain_order=True))


def count_blocks(rows: pl.DataFrame) -> int:
    """How many blocks the model of a table has, by its columns layer and depth."""
    known = rows.filter(pl.col("depth").is_finite() & (pl.col("depth") > 0)).select("layer", "depth").unique()
    totals: list[int] = [round(layer / depth) for layer, depth in known.iter_rows()]
    return max(int(str(rows["layer"].max())), *totals, 0)


def _read_setting(rows: pl.DataFrame) -> TaskScores:
    parts: dict[str, dict[tuple[str, str], _Part]] = {}
    for (task, split, subset), mine in rows.partition_by(PART, as_dict=True, maintain_order=True).items():
        parts.setdefault(task, {})[split, subset] = _Part(mine)
    without: dict[str, list[str]] = {}
    kept: dict[str, list[_Part]] = {}
    for task, by_key in parts.items():
        usable = [part for part in by_key.values() if part.finite]
        if usable and ("", "") in by_key and not by_key["", ""].finite:
            # Layers that failed as a whole have no split or subset: they give the reason for the parts' gaps.
            failed = by_key.pop(("", ""))
            for part in usable:
                part.notes = failed.notes | part.notes
        for key, part in by_key.items():
            if not part.finite:
                name = " ".join(filter(None, (task, *key))) if usable else task
                names = without.setdefault(part.reason, [])
                names += [name] if name not in names else []
        if usable:
            kept[task] = usable
    everywhere = sorted({layer for by_key in parts.values() for part in by_key.values() for layer in part.scores})
    finite = {task: set.intersection(*(part.finite for part in own)) for task, own in kept.items()}
    layers = sorted(set.intersection(*finite.values())) if finite else []
    values = np.array([_main(own, layers) for own in kept.values()], dtype=np.float64).reshape(len(kept), len(layers))
    experiments = tuple(map(_experiments, kept.values(), [layers] * len(kept), values))
    gaps = [(task, *gap) for task, own in kept.items() for gap in _gaps(own, finite[task], everywhere)]
    lines = [f"{spans(lacking)} left out for all tasks: {task} has {reason}" for task, reason, lacking in gaps]
    return TaskScores(
        **{name: rows[name][0] for name in SETTING},
        n_blocks=count_blocks(rows),
        layers=tuple(layers),
        tasks=tuple(kept),
        values=values,
        experiments=experiments,
        own=tuple(
            _own(own, sorted(finite[task]), len(single))
            for (task, own), single in zip(kept.items(), experiments, strict=True)
        ),
        left_out=(
            *(f"{_names(names)} left out: {reason}" for reason, names in without.items()),
            *([_of_all(gaps)] if len(gaps) > 1 else lines),
        ),
        details=(
            *(f"{name} left out: {reason}" for reason, names in without.items() if len(names) > 1 for name in names),
            *(lines if len(gaps) > 1 else ()),
        ),
    )


def _main(parts: list[_Part], layers: Sequence[int]) -> list[float]:
    return [float(np.mean([part.scores[layer] for part in parts])) for layer in layers]


def _gaps(parts: list[_Part], finite: set[int], everywhere: list[int]) -> list[tuple[str, list[int]]]:
    """Why a task lacks layers, and which. What was recorded is quoted; that nothing is there is our own word."""
    reasons: dict[str, list[int]] = {}
    for layer in everywhere:
        if layer not in finite:
            noted = next((part.notes[layer] for part in parts if part.notes.get(layer)), None)
            reasons.setdefault(repr(noted) if noted else "no score there", []).append(layer)
    return list(reasons.items())


def _of_all(gaps: list[tuple[str, str, list[int]]]) -> str:
    """One line for the gaps of all tasks: which layers, how many tasks, and why."""
    tasks_of: dict[str, list[str]] = {}
    for task, reason, _ in gaps:
        tasks_of.setdefault(reason, []).append(task)
    words = [f"{_names(tasks)} {'has' if len(tasks) == 1 else 'have'} {reason}" for reason, tasks in tasks_of.items()]
    lacking = sorted({layer for *_, layers in gaps for layer in layers})
    return f"{spans(lacking)} left out for all tasks, since not every task has them: {some(words)}"


def _names(names: list[str]) -> str:
    return f"{len(names)} tasks ({some(names)})" if len(names) > 1 else names[0]


def _own(parts: list[_Part], layers: list[int], n: int) -> OwnScores:
    values = np.array(_main(parts, layers))
    if not layers:
        return OwnScores((), values, values[None], np.full(n, np.nan))
    best = int(values.argmax())
    single = _experiments(parts, [layers[best]], values[[best]])[:, 0]
    # Where the task's common layers have other experiments than this one, only its score can be used.
    at_best = single if len(single) == n else np.full(n, values[best])
    return OwnScores(tuple(layers), values, _experiments(parts, layers, values), at_best)


def _experiments(parts: list[_Part], layers: list[int], main: np.ndarray) -> Float[np.ndarray, "experiments layers"]:
    numbers = {tuple(sorted(part.experiments.get(layer, {}))) for part in parts for layer in layers}
    order = next(iter(numbers)) if len(numbers) == 1 else ()
    table = np.array([[np.mean([p.experiments[k][e] for p in parts]) for k in layers] for e in order])
    if len(order) < 2 or not np.isfinite(table).all():
        return main[None]
    # A main score need not be the mean of the experiments (a median, rounding): only their spread is used.
    return np.asarray(table - table.mean(axis=0) + main)
