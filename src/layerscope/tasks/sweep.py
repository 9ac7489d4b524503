"""The work of score_tasks: data, model, then task by task the layers that have no result yet."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from layerscope.errors import LayerscopeError, UserError
from layerscope.inputs.models import LoadedModel
from layerscope.measuring.progress import Report
from layerscope.states.state import State
from layerscope.tasks.choice import choose_tasks, own_code, prepare_task
from layerscope.tasks.data import load_task_data, loaded_revision, sample_counts
from layerscope.tasks.encoding import TextEncoder
from layerscope.tasks.evaluation import NEEDS_MODEL, Job, evaluate_layer, pack_task, unpack_task
from layerscope.tasks.random_state import RandomState
from layerscope.tasks.record import Failure, ScoredTask
from layerscope.tasks.spec import TasksSpec
from layerscope.tasks.tables import ResultFolder
from layerscope.tasks.threads import threads
from layerscope.tasks.workers import WorkerPool

POOL_PAYS_SECONDS = 10.0
"""Workers take some seconds to start: where less work than this is left, the model's own process does it."""

Place = tuple[State, int]
"""A state and a layer."""


@dataclass(frozen=True)
class LoadedTask:
    """A task whose data was read: packed in a file, or, where it cannot be pickled, as it is."""

    facts: ScoredTask
    random_state: RandomState
    file: Path | None
    task: Any

    def fresh(self) -> tuple[Any, RandomState]:
        """A copy as it was after loading: evaluating a task uses up its random generators."""
        return (copy.deepcopy(self.task), self.random_state) if self.file is None else unpack_task(self.file)


def choose(spec: TasksSpec, own: dict[str, Any]) -> list[Any]:
    """The tasks of a spec, with the user's own objects where they were given."""
    named = [name for name in spec.tasks if name not in own]
    chosen = choose_tasks(named, spec.benchmark, spec.subsets)
    chosen += [prepare_task(copy.deepcopy(task), spec.subsets) for task in own.values()]
    unusable = next((task.metadata.name for task in chosen if "/" in task.metadata.name), None)
    if unusable is not None:
        raise UserError(f"task {unusable!r} has a name that cannot be a file's: leave the slash out")
    return chosen


def load_tasks(
    tasks: Sequence[Any], data_dir: str | None, folder: Path, report: Report
) -> tuple[list[LoadedTask], list[Failure]]:
    """Read the data of every task.

    Args:
        tasks: tasks whose data is not loaded.
        data_dir: see `layerscope.inputs.hub.stand_in`.
        folder: a private folder for the packed tasks.
        report: told of the progress.

    Returns:
        What was read, and what could not be.
    """
    loaded, failures = [], []
    for number, task in enumerate(tasks):
        report("reading the tasks' data", float(number), float(len(tasks)))
        try:
            random_state = load_task_data(task, data_dir)
        except LayerscopeError as error:
            failures.append(Failure(task=task.metadata.name, reason=str(error)))
            continue
        file = folder / f"{number}.pickle"
        packed = pack_task(task, random_state, file)
        loaded.append(LoadedTask(task_facts(task), random_state, file if packed else None, None if packed else task))
    report("reading the tasks' data", float(len(tasks)), float(len(tasks)))
    return loaded, failures


def task_facts(task: Any) -> ScoredTask:  # noqa: ANN401
    """What the record says about a task."""
    return ScoredTask(
        name=task.metadata.name,
        type=task.metadata.type,
        main_score=task.metadata.main_score,
        revision=loaded_revision(task),
        subsets=scored_subsets(task),
        samples=sample_counts(task),
        code=own_code(task),
    )


def scored_subsets(task: Any) -> tuple[str, ...]:  # noqa: ANN401
    """The subsets that a whole result of the task has; an aggregate's result has one of its own."""
    return () if getattr(task, "is_aggregate", False) else tuple(task.hf_subsets or ())


@dataclass
class Sweep:
    """Scores tasks at all places that have no result yet."""

    model: LoadedModel
    encoder: TextEncoder
    results: ResultFolder
    pool: WorkerPool
    report: Report
    total: float
    done: float = 0.0
    encoding_seconds: float = 0.0

    def score(self, task: LoadedTask, places: Sequence[Place]) -> list[Failure]:
        """Score one task.

        The first place is scored here, which encodes the task's texts at all layers and states; the others only look
        vectors up, in the workers where that pays.

        Returns:
            What failed.
        """
        failures = []
        self.report("scoring", self.done, self.total)
        for place, outcome in self._outcomes(task, places):
            self.done += 1
            self.report("scoring", self.done, self.total)
            if outcome:
                state, layer = place
                readout, positions = state.readout, state.positions
                failures.append(
                    Failure(task=task.facts.name, reason=outcome, layer=layer, readout=readout, positions=positions)
                )
        return failures

    def _outcomes(self, task: LoadedTask, places: Sequence[Place]) -> Iterator[tuple[Place, str]]:
        encoding, start = self.encoding_seconds, time.perf_counter()
        yield places[0], self._here(task, places[0])
        scoring = time.perf_counter() - start - (self.encoding_seconds - encoding)
        rest = list(places[1:])
        if self.pool.size > 1 and task.file is not None and scoring * len(rest) > POOL_PAYS_SECONDS:
            jobs = {self._job(task, place): place for place in rest}
            rest = []
            for job, outcome in self.pool.run(task.file, list(jobs)):
                if outcome == NEEDS_MODEL:
                    rest.append(jobs[job])
                else:
                    yield jobs[job], outcome
        for place in rest:
            yield place, self._here(task, place)

    def _here(self, task: LoadedTask, place: Place) -> str:
        fresh, random_state = task.fresh()
        return evaluate_layer(fresh, random_state, self._job(task, place), self._fill(f"encoding {task.facts.name}"))

    def _job(self, task: LoadedTask, place: Place) -> Job:
        state, layer = place
        return Job(
            cache=self.encoder.caches[state].folder,
            layer=layer,
            name=f"{Path(self.model.spec.name).name}/layer_{layer}",
            result=self.results.path(state, layer, task.facts.name),
        )

    def _fill(self, stage: str) -> Callable[[Sequence[str]], None]:
        # Scoring runs on one thread; the model gets all that this process has.
        available = torch.get_num_threads()

        def fill(texts: Sequence[str]) -> None:
            start = time.perf_counter()
            with threads(available):
                self.encoder.fill(texts, stage)
            self.encoding_seconds += time.perf_counter() - start

        return fill
