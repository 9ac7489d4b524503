"""The scores table of a run as complete arrays: tasks by layers, with what had to be left out and why."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from jaxtyping import Float

from layerscope.errors import UserError

SETTING = ("model", "revision", "readout", "positions", "pooling")
PART = ("task", "split", "subset")
NO_PART = ("", "")
COLUMNS = (*SETTING, *PART, "layer", "depth", "experiment", "score", "note")


@dataclass(frozen=True)
class TaskScores:
    """Scores of one model under one readout, positions and pooling, at the layers that all its tasks have.

    `experiments[t]` holds task t's single experiments around its score, or one row (the score) where it has none.
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
    left_out: tuple[str, ...]

    @property
    def setting(self) -> dict[str, str]:
        """Model, revision, readout, positions and pooling by name."""
        return {name: getattr(self, name) for name in SETTING}

    @property
    def middle(self) -> int:
        """The middle layer, ceil(L / 2) with L the number of blocks."""
        return math.ceil(self.n_blocks / 2)

    def is_of(self, model: str, revision: str) -> bool:
        """Whether the scores are of this model: its name and revision, or a hash of weights that has two names."""
        if self.model == model:
            return not self.revision or self.revision == revision
        return self.revision.startswith("sha256:") and self.revision == revision

    def column(self, layer: int) -> int | None:
        """The position of a layer among `layers`, None where some task lacks it."""
        return self.layers.index(layer) if layer in self.layers else None


@dataclass
class _Part:
    """Scores of one task, split and subset by layer."""

    scores: dict[int, float]
    experiments: dict[int, dict[int, float]]
    notes: dict[int, str]
    finite: set[int] = field(init=False)

    def __post_init__(self) -> None:
        self.finite = {layer for layer, score in self.scores.items() if math.isfinite(score)}

    def reason(self) -> str:
        return next((note for note in self.notes.values() if note), "no reason was recorded")


def read_scores(scores: pl.DataFrame) -> tuple[TaskScores, ...]:
    """Split a scores table into settings and make each complete.

    A task's score at a layer is its main score (experiment null), averaged over its splits and subsets. A task without
    any finite score is left out; of the others only the layers that all of them have are used. What is left out is
    named in `left_out` with the reason that the table gives.

    Args:
        scores: table with the columns model, revision, layer, depth, readout, positions, pooling, task, split, subset,
            experiment, score, note.

    Returns:
        One TaskScores for each model, revision, readout, positions and pooling, in the table's order.

    Raises:
        UserError: columns are missing, or a task has two main scores for one layer.
    """
    missing = [name for name in COLUMNS if name not in scores.columns]
    if missing:
        raise UserError(f"expected a scores table with {', '.join(COLUMNS)}; it lacks {', '.join(missing)}")
    return tuple(_read_setting(rows) for rows in scores.partition_by(SETTING, maintain_order=True))


def _read_setting(rows: pl.DataFrame) -> TaskScores:
    parts: dict[str, dict[tuple[str, str], _Part]] = {}
    for part_rows in rows.partition_by(PART, maintain_order=True):
        first = part_rows.row(0, named=True)
        key = (str(first["split"] or ""), str(first["subset"] or ""))
        parts.setdefault(str(first["task"]), {})[key] = _read_part(part_rows, str(first["task"]))
    left_out: list[str] = []
    kept: dict[str, list[_Part]] = {}
    for task, by_key in parts.items():
        usable = [part for part in by_key.values() if part.finite]
        if usable and NO_PART in by_key and not by_key[NO_PART].finite:
            # Layers that failed as a whole have no split or subset: they give the reason for the parts' gaps.
            failed = by_key.pop(NO_PART)
            for part in usable:
                part.notes = failed.notes | part.notes
        for (split, subset), part in by_key.items():
            if not part.finite:
                name = " ".join(word for word in (task, split, subset) if word) if usable else task
                left_out.append(f"{name} left out: {part.reason()}")
        if usable:
            kept[task] = usable
    everywhere = sorted({layer for by_key in parts.values() for part in by_key.values() for layer in part.scores})
    layers = _common_layers(kept, everywhere, left_out)
    values = np.array([[np.mean([p.scores[k] for p in ps]) for k in layers] for ps in kept.values()], dtype=np.float64)
    values = values.reshape(len(kept), len(layers))
    setting = {name: str(rows[name][0] or "") for name in SETTING}
    return TaskScores(
        **setting,
        n_blocks=_blocks(rows),
        layers=tuple(layers),
        tasks=tuple(kept),
        values=values,
        experiments=tuple(_experiments(ps, layers, values[t]) for t, ps in enumerate(kept.values())),
        left_out=tuple(dict.fromkeys(left_out)),
    )


def _read_part(rows: pl.DataFrame, task: str) -> _Part:
    scores: dict[int, float] = {}
    experiments: dict[int, dict[int, float]] = {}
    notes: dict[int, str] = {}
    for row in rows.select("layer", "experiment", "score", "note").iter_rows(named=True):
        layer = int(row["layer"])
        score = math.nan if row["score"] is None else float(row["score"])
        if row["experiment"] is not None:
            experiments.setdefault(layer, {})[int(row["experiment"])] = score
            continue
        if layer in scores:
            raise UserError(
                f"expected one main score of {task} at layer {layer} and found several: give one run at a time"
            )
        scores[layer] = score
        notes[layer] = row["note"] or ""
    return _Part(scores, experiments, notes)


def _common_layers(kept: dict[str, list[_Part]], everywhere: list[int], left_out: list[str]) -> list[int]:
    if not kept:
        return []
    finite = {task: set.intersection(*(part.finite for part in parts)) for task, parts in kept.items()}
    for task, parts in kept.items():
        reasons: dict[str, list[int]] = {}
        for layer in everywhere:
            if layer not in finite[task]:
                note = next((part.notes[layer] for part in parts if part.notes.get(layer)), "no score there")
                reasons.setdefault(note, []).append(layer)
        for note, lacking in reasons.items():
            word = "layer" if len(lacking) == 1 else "layers"
            left_out.append(f"{word} {', '.join(map(str, lacking))} left out for all tasks: {task} has {note!r}")
    return sorted(set.intersection(*finite.values()))


def _experiments(parts: list[_Part], layers: list[int], main: np.ndarray) -> Float[np.ndarray, "experiments layers"]:
    single = main[None]
    numbers = {tuple(sorted(part.experiments.get(layer, {}))) for part in parts for layer in layers}
    if len(numbers) != 1:
        return single
    order = next(iter(numbers))
    if len(order) < 2:
        return single
    table = np.array([[np.mean([p.experiments[k][e] for p in parts]) for k in layers] for e in order])
    if not np.isfinite(table).all():
        return single
    # A main score need not be the mean of the experiments (a median, rounding): only their spread is used.
    return np.asarray(table - table.mean(axis=0) + main)


def _blocks(rows: pl.DataFrame) -> int:
    known = rows.filter(pl.col("depth").is_finite() & (pl.col("depth") > 0)).select("layer", "depth").unique()
    totals = [round(layer / depth) for layer, depth in known.iter_rows()]
    highest = rows["layer"].max()
    return int(max([int(str(highest)), *totals]))
