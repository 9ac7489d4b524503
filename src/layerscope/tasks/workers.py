"""The pool of processes that score layers."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from layerscope.errors import RunFailedError
from layerscope.tasks.choice import MODULE_PREFIX
from layerscope.tasks.evaluation import NEEDS_MODEL, Job

# Read by the libraries when they are loaded: several workers must not fight over the cores.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class WorkerPool:
    """Processes that are started when first needed and ended with the block. They share nothing but files.

    Processes of their own rather than multiprocessing: a script that calls `score_tasks` without a main guard works,
    and the number of threads is set before any library reads it.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._processes: list[subprocess.Popen[str]] = []

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()
        self._processes.clear()

    def run(self, task: Path, jobs: Sequence[Job]) -> Iterator[tuple[Job, str]]:
        """Score the jobs, each on a fresh copy of the packed task.

        Args:
            task: from `pack_task`.
            jobs: what to score.

        Yields:
            Each job, as it ends, with its outcome (see `evaluate_layer`).

        Raises:
            RunFailedError: the disk is full, or the cache is damaged.
        """
        while len(self._processes) < min(self.size, len(jobs)):
            self._processes.append(_start())
        waiting: queue.SimpleQueue[Job] = queue.SimpleQueue()
        for job in jobs:
            waiting.put(job)
        done: queue.SimpleQueue[tuple[Job, dict[str, str]]] = queue.SimpleQueue()
        for process in self._processes:
            threading.Thread(target=_feed, args=(process, task, (waiting, done)), daemon=True).start()
        for _ in jobs:
            job, answer = done.get()
            if answer["fatal"]:
                raise RunFailedError(f"layer {job.layer} could not be scored: {answer['fatal']}")
            yield job, answer["outcome"]


def default_workers() -> int:
    """One a core that this process may use."""
    return max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def own_modules() -> dict[str, str]:
    """The files of the user's own tasks that this process has run, which a worker has to run too."""
    return {
        name: str(module.__file__)
        for name, module in sys.modules.copy().items()
        if name.startswith(MODULE_PREFIX) and getattr(module, "__file__", None)
    }


def _start() -> subprocess.Popen[str]:
    environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, "1"), "TOKENIZERS_PARALLELISM": "false"}
    return subprocess.Popen(
        [sys.executable, "-m", "layerscope.tasks.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
        env=environment,
        start_new_session=True,
    )


def _feed(
    process: subprocess.Popen[str],
    task: Path,
    queues: tuple[queue.SimpleQueue[Job], queue.SimpleQueue[tuple[Job, dict[str, str]]]],
) -> None:
    """Give a process one job after the other. A process that dies leaves its job, and all others, to the model's process."""
    waiting, done = queues
    modules = own_modules()
    while True:
        try:
            job = waiting.get_nowait()
        except queue.Empty:
            return
        done.put((job, _ask(process, _message(task, job, modules))))


def _message(task: Path, job: Job, modules: Mapping[str, str]) -> str:
    given = {
        "task": str(task),
        "cache": str(job.cache),
        "layer": job.layer,
        "name": job.name,
        "result": str(job.result),
        "modules": dict(modules),
    }
    return json.dumps(given) + "\n"


def _ask(process: subprocess.Popen[str], message: str) -> dict[str, str]:
    try:
        if process.stdin is None or process.stdout is None:
            raise OSError("no pipes")
        process.stdin.write(message)
        process.stdin.flush()
        answer: dict[str, str] = json.loads(process.stdout.readline())
    except (OSError, ValueError):
        return {"outcome": NEEDS_MODEL, "fatal": ""}
    return answer
