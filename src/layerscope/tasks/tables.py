"""The folder of results, one JSON a layer and task, and the table made of it."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from layerscope.errors import RunFailedError
from layerscope.states.state import State
from layerscope.tasks.record import Failure, ScoredTask, TasksRecord
from layerscope.tasks.scores import SCORES_FILE, Where, failed_row, load_scores, result_rows, write_scores

_LAYER = re.compile(r"layer_(\d+)")


@dataclass(frozen=True)
class ResultFolder:
    """Where results stand: layer_7/TASK.json, in a folder for each state where there are several."""

    root: Path
    states: Sequence[State]

    def path(self, state: State, layer: int, task: str) -> Path:
        """The file of one result."""
        return self.home(state) / f"layer_{layer}" / f"{task}.json"

    def home(self, state: State) -> Path:
        """The folder of one state."""
        return self.root if len(self.states) == 1 else self.root / state.slug

    def found(self, tasks: Collection[str]) -> Iterator[tuple[State, int, str, Mapping[str, Any]]]:
        """The results of these tasks that can be read: state, layer, task, scores by split."""
        for state, layer, file in self.files(tasks):
            scores = read_scores(file)
            if scores is not None:
                yield state, layer, file.stem, scores

    def files(self, tasks: Collection[str]) -> Iterator[tuple[State, int, Path]]:
        """The files of results of these tasks, whether or not they can be read: state, layer, file."""
        for state in self.states:
            for folder in sorted(self.home(state).glob("layer_*")):
                layer = _LAYER.fullmatch(folder.name)
                for file in sorted(folder.glob("*.json")) if layer else ():
                    if layer and file.stem in tasks:
                        yield state, int(layer[1]), file

    def finished(self, state: State, layer: int, task: str, subsets: Collection[str]) -> bool:
        """Whether a result is there, whole, and has the subsets."""
        scores = read_scores(self.path(state, layer, task))
        if not scores:
            return False
        return all(set(subsets) <= {entry["hf_subset"] for entry in entries} for entries in scores.values())


def read_scores(path: Path) -> Mapping[str, Any] | None:
    """The scores by split of a result that this package wrote; None where it is not there or not whole."""
    try:
        scores: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))["scores"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return scores


def lost_results(record: TasksRecord, results: ResultFolder, folder: Path) -> tuple[Failure, ...]:
    """The results of a run's tasks that cannot be read any more, or that its table has and that are gone.

    The table is made from these files, so that without a word their scores would leave it.
    """
    tasks = {task.name for task in record.tasks}
    there = {(state, layer, file.stem): file for state, layer, file in results.files(tasks)}
    damaged = {place: file for place, file in there.items() if read_scores(file) is None}
    lost = {place: f"{file} cannot be read: it is cut off or damaged" for place, file in damaged.items()}
    for state, layer, task in _scored(folder):
        if state in results.states and task in tasks and (state, layer, task) not in there:
            lost[state, layer, task] = f"{results.path(state, layer, task)} is gone, and its scores with it"
    return tuple(
        Failure(
            task=task,
            reason=f"{reason}; `layerscope tasks` with --tasks {task} and this --out scores it again",
            layer=layer,
            readout=state.readout,
            positions=state.positions,
        )
        for (state, layer, task), reason in lost.items()
    )


def still_failed(record: TasksRecord, results: ResultFolder) -> tuple[Failure, ...]:
    """The failures of a record without those of single layers whose result is there now."""
    tasks = {task.name for task in record.tasks}
    there = {(state.readout, state.positions, layer, task) for state, layer, task, _ in results.found(tasks)}
    return tuple(
        failure
        for failure in dict.fromkeys(record.failures)
        if (failure.readout, failure.positions, failure.layer, failure.task) not in there
    )


def _scored(folder: Path) -> Iterator[tuple[State, int, str]]:
    if not (folder / SCORES_FILE).exists():
        return
    try:
        table = load_scores(folder)
    except RunFailedError:
        # A damaged table takes nothing with it: it is written anew from the results.
        return
    main = table.filter(pl.col("experiment").is_null(), pl.col("score").is_finite())
    for readout, positions, layer, task in main.select("readout", "positions", "layer", "task").unique().iter_rows():
        yield State(readout, positions), layer, task


def write_score_table(record: TasksRecord, results: ResultFolder, folder: Path) -> pl.DataFrame:
    """Write scores.parquet from the results on disk and the failures of the record."""
    return write_scores(list(_rows(record, results)), folder)


def _rows(record: TasksRecord, results: ResultFolder) -> Iterator[dict[str, object]]:
    if record.resolved is None:
        return
    tasks = {task.name: task for task in record.tasks}
    there: dict[str, set[tuple[State, int]]] = {}
    for state, layer, task, scores in results.found(tasks):
        there.setdefault(task, set()).add((state, layer))
        yield from result_rows(scores, _where(record, state, layer), tasks[task])
    layers = _layers(record)
    for failure in record.failures:
        facts = tasks.get(failure.task, ScoredTask(name=failure.task, type="", main_score="", revision=""))
        for state in results.states:
            for layer in layers if failure.layer is None else (failure.layer,):
                same = failure.readout in (None, state.readout) and failure.positions in (None, state.positions)
                if same and (state, layer) not in there.get(failure.task, ()):
                    yield failed_row(_where(record, state, layer), facts, failure.reason)


def _layers(record: TasksRecord) -> Sequence[int]:
    if record.spec is not None and record.spec.layers is not None:
        return sorted(set(record.spec.layers))
    return range(record.resolved.n_layers + 1) if record.resolved else ()


def _where(record: TasksRecord, state: State, layer: int) -> Where:
    resolved = record.resolved
    return Where(
        model=record.model.name,
        revision=resolved.model_revision if resolved else "",
        layer=layer,
        depth=layer / max(1, resolved.n_layers) if resolved else 0.0,
        readout=state.readout,
        positions=state.positions,
        pooling=record.spec.pooling if record.spec else None,
    )
