"""score_tasks(): from a model and task names to a folder of scores, each text encoded once for all layers."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import torch
from pydantic import ValidationError

from layerscope.config import ModelSpec
from layerscope.errors import LayerscopeError, UserError
from layerscope.inputs.models import LoadedModel, load_model
from layerscope.measuring.measure import Clock
from layerscope.measuring.progress import Report, silent
from layerscope.results.files import locked, make_folder
from layerscope.results.record import package_versions, source_commit
from layerscope.tasks.encoding import TextEncoder
from layerscope.tasks.random_state import RandomState, kept_random_state
from layerscope.tasks.record import (
    RESULTS,
    Failure,
    ResolvedModel,
    ScoredTask,
    TasksRecord,
    earlier_tasks,
    read_tasks_record,
    write_tasks_record,
)
from layerscope.tasks.scores import load_scores, write_scores
from layerscope.tasks.spec import State, TasksSpec
from layerscope.tasks.tables import ResultFolder, score_rows
from layerscope.tasks.threads import threads

PACKAGES = ("mteb", "scikit-learn", "sentence-transformers")


@dataclass(frozen=True)
class TasksRun:
    """A folder of scores."""

    path: Path
    record: TasksRecord
    scores: pl.DataFrame

    @property
    def failures(self) -> tuple[Failure, ...]:
        """What could not be scored, and why."""
        return self.record.failures


def score_tasks(
    model: str | ModelSpec,
    tasks: Sequence[Any] = (),
    *,
    out: str | Path,
    report: Report = silent,
    **options: object,
) -> TasksRun:
    """Score every layer of a model on MTEB tasks.

    Args:
        model: a model name (see `layerscope models`), hub id, folder or .gguf file, or a ModelSpec.
        tasks: names of tasks, `file.py:Class`, or MTEB task objects of your own.
        out: the run's folder; it may hold a `layerscope measure` run too. The same call goes on after an interruption;
            more tasks and layers are added to what is there.
        report: called with (stage, done, total) as the work proceeds.
        **options: the other fields of TasksSpec: benchmark, readout, positions, layers, data_dir, ...

    Returns:
        The scores and the record. A task that failed is in `.failures`, and the others are there.

    Raises:
        UserError: something asked for does not exist or does not fit; the message says what to do.
        RunFailedError: the machine or the disk stood in the way; finished results are kept.
    """
    own = {task.metadata.name: task for task in tasks if not isinstance(task, str)}
    names = tuple(task if isinstance(task, str) else task.metadata.name for task in tasks)
    try:
        spec = TasksSpec(tasks=names, **options)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "tasks"
        raise UserError(f"{where}: {first['msg']}, got {first['input']!r}") from error
    return score_spec(ModelSpec(name=model) if isinstance(model, str) else model, spec, Path(out), report, own)


def score_spec(
    model: ModelSpec, spec: TasksSpec, out: Path, report: Report = silent, own: dict[str, Any] | None = None
) -> TasksRun:
    """`score_tasks` for specs that are ready. `own` holds task objects by name. Raises what `score_tasks` raises."""
    _check_installed()
    make_folder(out)
    with locked(out):
        earlier = earlier_tasks(out, model, spec)
        with kept_random_state():
            # Importing MTEB builds tasks, which reseeds the global generators.
            from layerscope.tasks.sweep import Sweep, prepare
        chosen = prepare(spec, own or {})
        clock = Clock(dict(earlier.timings) if earlier else {})
        record = _first_record(model, spec, earlier)
        results = ResultFolder(out / RESULTS, spec.states)
        with _failure_recorded(record, out, clock) as current:
            Sweep(current, chosen, results, report, clock).run()
    return open_tasks(out)
