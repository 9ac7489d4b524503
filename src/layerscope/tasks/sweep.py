"""The layers of a task that have no result yet, scored one by one, in the workers where that pays."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from layerscope.errors import LayerscopeError
from layerscope.measuring.progress import Report
from layerscope.tasks.choice import is_aggregate, own_code
from layerscope.tasks.data import load_task_data, loaded_revision, sample_counts
from layerscope.tasks.encoding import TextEncoder
from layerscope.tasks.evaluation import NEEDS_MODEL, Job, PackedTask, evaluate_layer
from layerscope.tasks.process import RandomState, threads
from layerscope.tasks.record import Failure, Place, ScoredTask
from layerscope.tasks.result_files import ResultFiles
from layerscope.tasks.workers import WorkerPool

POOL_PAYS_SECONDS = 10.0
"""Workers take some seconds to start: where less work than this is left, the model's own process does it."""


@dataclass(frozen=True)
class LoadedTask:
    """A task whose data was read: packed in a file, or, where it cannot be pickled, as it is."""

    facts: ScoredTask
    random_state: RandomState
    packed: PackedTask | None
    task: Any

    def fresh(self) -> tuple[Any, RandomState]:
        """A copy as it was after loading: evaluating a task uses up its random generators."""
        return self.packed.unpack() if self.packed else (copy.deepcopy(self.task), self.random_state)


def load_tasks(
    tasks: Sequence[Any], data_dir: str | None, folder: Path, report: Report
) -> tuple[list[LoadedTask], list[Failure]]:
    """Read the data of every task.

    Args:
        tasks: tasks whose data is not loaded.
        data_dir: see `layerscope.inputs.hub.stand_in`.
        folder: a private folder for the packed tasks and for what the `datasets` library makes of local files.
        report: told of the progress.

    Returns:
        What was read, and what could not be.
    """
    loaded, failures = [], []
    for number, task in enumerate(tasks):
        report("reading the tasks' data", float(number), float(len(tasks)))
        try:
            random_state = load_task_data(task, data_dir, folder)
        except LayerscopeError as error:
            failures.append(Failure(task=task.metadata.name, reason=str(error)))
            continue
        facts = ScoredTask(
            name=task.metadata.name,
            type=task.metadata.type,
            main_score=task.metadata.main_score,
            revision=loaded_revision(task),
            subsets=scored_subsets(task),
            samples=sample_counts(task),
            code=own_code(task),
        )
        packed = PackedTask.of(task, random_state, folder / f"{number}.pickle")
        loaded.append(LoadedTask(facts, random_state, packed, None if packed else task))
    report("reading the tasks' data", float(len(tasks)), float(len(tasks)))
    return loaded, failures


def scored_subsets(task: Any) -> tuple[str, ...]:  # noqa: ANN401
    """The subsets that a whole result of the task has; an aggregate's result has one of its own."""
    return () if is_aggregate(task) else tuple(task.hf_subsets or ())


@dataclass
class Sweep:
    """Scores tasks at all places that have no result yet."""

    encoder: TextEncoder
    results: ResultFiles
    pool: WorkerPool
    encoding_seconds: float = 0.0

    def score(self, task: LoadedTask, places: Sequence[Place]) -> Iterator[tuple[Place, str]]:
        """Score one task.

        The first place is scored here, which encodes the task's texts at all layers and states; the others only look
        vectors up, in the workers where that pays.

        Yields:
            Each place, as it ends, with its outcome (see `evaluate_layer`).
        """
        rest = list(places)
        if rest:
            encoding, start = self.encoding_seconds, time.perf_counter()
            yield rest[0], self._here(task, rest.pop(0))
            scoring = time.perf_counter() - start - (self.encoding_seconds - encoding)
            if self.pool.size > 1 and task.packed and scoring * len(rest) > POOL_PAYS_SECONDS:
                jobs = {self._job(task, place): place for place in rest}
                rest = []
                for job, outcome in self.pool.run(task.packed, list(jobs)):
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
            name=f"{Path(self.encoder.model.spec.name).name}/layer_{layer}",
            result=self.results.path(task.facts.name, place),
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
