"""The pool of processes that score layers, and what is scored in them."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel

from layerscope.errors import RunFailedError
from layerscope.tasks.choice import MODULE_PREFIX
from layerscope.tasks.evaluation import NEEDS_MODEL, Evaluation, LoadedTask, PackedTask, evaluate_layer
from layerscope.tasks.record import Place

if TYPE_CHECKING:
    from layerscope.tasks.encoding import TextEncoder
    from layerscope.tasks.result_files import ResultFiles

# Read by the libraries when they are loaded: several workers must not fight over the cores.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class Order(BaseModel, frozen=True):
    """What a worker is asked to do; `modules` are the files of the user's own tasks that it has to run first."""

    task: PackedTask
    evaluation: Evaluation
    modules: dict[str, str]


class Answer(BaseModel, frozen=True):
    """The outcome of a job (see `evaluate_layer`), or why no job can be done."""

    outcome: str = ""
    fatal: str = ""


class WorkerPool:
    """Processes that are started when first needed and ended with the block. They share nothing but files.

    Processes of their own rather than joblib's loky: where one of its workers dies, every job that was handed out fails.
    A script that calls `score_tasks` without a main guard works, and the number of threads is set before any library
    reads it.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._threads = ThreadPoolExecutor(size, "layerscope-tasks")
        self._processes: list[subprocess.Popen[str]] = []
        self._idle: queue.SimpleQueue[subprocess.Popen[str]] = queue.SimpleQueue()
        self._ended = False

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        for process in self._processes:
            process.kill()
        self._threads.shutdown(cancel_futures=True)
        for process in self._processes:
            with suppress(OSError), process:
                pass

    def run(self, task: PackedTask, evaluations: Sequence[Evaluation]) -> Iterator[tuple[Evaluation, str]]:
        """Score each on a fresh copy of the packed task.

        Yields:
            Each evaluation, as it ends, with its outcome (see `evaluate_layer`). A worker that dies fails its own job only.

        Raises:
            RunFailedError: the disk is full.
        """
        loaded = sys.modules.copy().items()
        own = {name: str(module.__file__) for name, module in loaded if name.startswith(MODULE_PREFIX)}
        asked = {
            self._threads.submit(self._ask, Order(task=task, evaluation=evaluation, modules=own)): evaluation
            for evaluation in evaluations
        }
        for done in as_completed(asked):
            evaluation, answer = asked[done], done.result()
            if answer.fatal:
                raise RunFailedError(f"layer {evaluation.layer} could not be scored: {answer.fatal}")
            yield evaluation, answer.outcome

    def _ask(self, order: Order) -> Answer:
        try:
            process = self._idle.get_nowait()
        except queue.Empty:
            process = self._started()
        if self._ended:
            process.kill()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(order.model_dump_json() + "\n")
            process.stdin.flush()
            answer = Answer.model_validate_json(process.stdout.readline())
        except (OSError, ValueError):
            # One that could not start has no say; one that was ended from outside must not take this process with it.
            process.communicate()
            code = process.returncode
            return Answer(
                outcome=f"the process that scored it was ended by signal {-code}" if code < 0 else NEEDS_MODEL
            )
        self._idle.put(process)
        return answer

    def _started(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "layerscope.tasks.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
            env={**os.environ, **dict.fromkeys(THREAD_VARIABLES, "1"), "TOKENIZERS_PARALLELISM": "false"},
            # Ctrl-C goes to the whole terminal: the pool ends its workers itself.
            start_new_session=True,
        )
        self._processes.append(process)
        return process


POOL_PAYS_SECONDS = 10.0
"""Workers take some seconds to start: where less work than this is left, the model's own process does it."""


def score_places(
    task: LoadedTask, places: Sequence[Place], encoder: TextEncoder, results: ResultFiles, pool: WorkerPool
) -> Iterator[tuple[Place, str]]:
    """Score a task at places that have no result yet.

    The first is scored here, which encodes the task's texts at all layers and states; the others only look vectors up, in
    the workers where that pays.

    Yields:
        Each place, as it ends, with its outcome (see `evaluate_layer`).
    """
    name, rest = task.facts.name, list(places)
    fill = partial(encoder.fill, stage=f"encoding {name}")
    model = Path(encoder.model.spec.name).name

    def evaluation_of(place: Place) -> Evaluation:
        state, layer = place
        cache, result = encoder.caches[state].folder, results.path(name, place)
        return Evaluation(cache=cache, layer=layer, name=f"{model}/layer_{layer}", result=result)

    if rest:
        start = time.perf_counter() - encoder.seconds
        first = rest.pop(0)
        yield first, evaluate_layer(*task.fresh(), evaluation_of(first), fill)
        scoring = time.perf_counter() - encoder.seconds - start
        if pool.size > 1 and task.packed and scoring * len(rest) > POOL_PAYS_SECONDS:
            evaluations = {evaluation_of(place): place for place in rest}
            rest = []
            for done, outcome in pool.run(task.packed, list(evaluations)):
                if outcome == NEEDS_MODEL:
                    rest.append(evaluations[done])
                else:
                    yield evaluations[done], outcome
    for place in rest:
        yield place, evaluate_layer(*task.fresh(), evaluation_of(place), fill)


def default_workers() -> int:
    """One a core that this process may use."""
    return max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
