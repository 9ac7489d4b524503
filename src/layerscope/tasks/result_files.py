"""The results of a run, one JSON a layer and task: checked and read once, added to one by one, and made into the table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path

import polars as pl
from pydantic import with_config
from typing_extensions import TypedDict

from layerscope.errors import LayerscopeError
from layerscope.files.reading import read_json, sum_of
from layerscope.files.writing import inside
from layerscope.results.record import SCHEMA_VERSION
from layerscope.results.tables import read_table
from layerscope.states.state import State
from layerscope.tasks.record import RESULTS, Failure, Place, ScoredTask, TasksRecord
from layerscope.tasks.scores import SCORES, SCORES_FILE, failed_row, result_rows, table_of, write_scores


@with_config(extra="allow")
class Entry(TypedDict):
    """The scores of a subset: `main_score`, and whatever else the task computes."""

    hf_subset: str


@with_config(extra="allow")
class Result(TypedDict):
    """What is read of a result: its scores by split. The rest of the file is MTEB's."""

    scores: dict[str, list[Entry]]


class ResultFiles:
    """What a run has of its tasks' results.

    A result counts where its hash is in the record: one that a kill left unrecorded is scored again, one that has changed or
    is gone is `lost`, by task and place, with the reason. Those of version 0.1.0, which kept no hashes, are taken as they are.

    Args:
        folder: the run's folder.
        states: the states of the run; where there are several, each has a folder.
        record: of earlier scores there.

    Raises:
        UserError: the folder of results is a link.
    """

    def __init__(self, folder: Path, states: Sequence[State], record: TasksRecord | None) -> None:
        self.folder = folder
        self.states = states
        self.sums: dict[str, str] = {}
        self.lost: dict[tuple[str, Place], Failure] = {}
        self._scores: defaultdict[str, dict[Place, Mapping[str, Sequence[Entry]]]] = defaultdict(dict)
        self._tables: dict[str, tuple[ScoredTask, pl.DataFrame]] = {}
        inside(folder, RESULTS)
        if record is not None and record.resolved is not None:
            self._open(record, range(record.resolved.n_layers + 1))

    def name(self, task: str, place: Place) -> str:
        """The path of a result in the run's folder: tasks/layer_7/TASK.json, in a folder of the state where there are several."""
        state, layer = place
        home = RESULTS if len(self.states) == 1 else f"{RESULTS}/{state.slug}"
        return f"{home}/layer_{layer}/{task}.json"

    def path(self, task: str, place: Place) -> Path:
        """The file of a result.

        Raises:
            UserError: it, or a folder above it, is a link.
        """
        return inside(self.folder, *self.name(task, place).split("/"))

    def add(self, task: str, place: Place) -> None:
        """Take in a result that was written.

        Raises:
            UserError: it cannot be opened.
            DamagedError: it is no result.
        """
        path = self.path(task, place)
        scores = read_json(path, Result, advice=_again(task), follow=False)["scores"]
        self.sums[self.name(task, place)] = sum_of(path)
        self._scores[task][place] = scores
        self._tables.pop(task, None)
        self.lost.pop((task, place), None)

    def has(self, task: str, place: Place | None, subsets: Collection[str] = ()) -> bool:
        """Whether a result is there and has the subsets in every split."""
        scores = {} if place is None else self._scores[task].get(place, {})
        return bool(scores) and all(set(subsets) <= {entry["hf_subset"] for entry in own} for own in scores.values())

    def still_failed(self, failures: Collection[Failure]) -> tuple[Failure, ...]:
        """The failures, each once, without those of single places whose result is there now."""
        return tuple(failure for failure in dict.fromkeys(failures) if not self.has(failure.task, failure.place))

    def write_table(self, record: TasksRecord) -> None:
        """Write scores.parquet: the results of the record's tasks, and a row without a score for what failed."""
        for task in record.tasks:
            if self._tables.get(task.name, (None,))[0] != task:
                found = self._scores[task.name].items()
                rows = (row for place, own in found for row in result_rows(record, place, task, own))
                self._tables[task.name] = task, table_of(rows)
        failed = table_of(self._failed_rows(record))
        write_scores([*(self._tables[task.name][1] for task in record.tasks), failed], self.folder)
        self.sums[SCORES_FILE] = sum_of(self.folder / SCORES_FILE)

    def _open(self, record: TasksRecord, layers: range) -> None:
        places = [(task.name, place) for task in record.tasks for place in product(self.states, layers)]
        old = record.schema_version < SCHEMA_VERSION
        known: Collection[str] = self._found(places) if old else record.files
        if old and (self.folder / SCORES_FILE).exists():
            self.sums[SCORES_FILE] = sum_of(self.folder / SCORES_FILE)
        for task, place in places:
            name = self.name(task, place)
            if name in known:
                try:
                    record.check(self.folder, name, _again(task))
                    self.add(task, place)
                except LayerscopeError as error:
                    self.lost[task, place] = Failure.at(task, place, str(error))

    def _found(self, places: Sequence[tuple[str, Place]]) -> set[str]:
        """The results of a run of version 0.1.0: those that are there, and those whose scores are in its table."""
        names = {self.name(task, place) for task, place in places}
        found = {name for name in names if (self.folder / name).exists()}
        try:
            table = read_table(self.folder / SCORES_FILE, SCORES, "")
        except LayerscopeError:
            # A damaged table takes nothing with it: it is made again from the results.
            return found
        main = table.filter(pl.col("experiment").is_null(), pl.col("score").is_finite())
        rows = main.select("task", "readout", "positions", "layer").unique().iter_rows()
        return found | ({self.name(task, (State(*state), layer)) for task, *state, layer in rows} & names)

    def _failed_rows(self, record: TasksRecord) -> Iterator[dict[str, object]]:
        if record.resolved is None:
            return
        asked = record.spec.layers if record.spec else None
        every = sorted(set(range(record.resolved.n_layers + 1) if asked is None else asked))
        for failure in record.failures:
            for place in product(self.states, every) if failure.place is None else (failure.place,):
                if not self.has(failure.task, place):
                    yield failed_row(record, place, failure.task, failure.reason)


def _again(task: str) -> str:
    return f"`layerscope tasks` with --tasks {task} and this --out scores it again"
