"""tasks.json: what was scored, on what, and what failed. It lies beside run.json, so a folder may hold both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from layerscope.config import ModelSpec
from layerscope.errors import RunFailedError, UserError
from layerscope.files.writing import whole_file
from layerscope.measuring.resume import differences
from layerscope.results.contents import strangers, way_out
from layerscope.tasks.spec import TasksSpec

SCHEMA_VERSION = 1
TASKS_RECORD = "tasks.json"
RESULTS = "tasks"

# More tasks and layers may be added to a run; the rest of these does not change a number.
FREE = ("tasks", "benchmark", "layers", "data_dir", "cache", "workers", "batch_tokens", "subsets")


class ScoredTask(BaseModel):
    """A task as it was scored."""

    model_config = ConfigDict(frozen=True)

    name: str
    type: str
    main_score: str
    revision: str
    subsets: tuple[str, ...] = ()
    samples: dict[str, int] = {}
    code: str = ""
    """The hash of the file that holds a task class of the user's own; empty for other tasks, and in runs of 0.1.0."""


class Failure(BaseModel):
    """Something that could not be scored, and why. Without a layer it holds for all of them."""

    model_config = ConfigDict(frozen=True)

    task: str
    reason: str
    layer: int | None = None
    readout: str | None = None
    positions: str | None = None


class ResolvedModel(BaseModel):
    """What the names turned out to be."""

    model_config = ConfigDict(frozen=True)

    model_revision: str
    n_layers: int
    dim: int | None = None
    context: int | None = None
    device: str = ""
    dtype: str = ""
    tokenizer_revision: str = ""
    """Empty in runs of version 0.1.0, which did not record it."""


class TasksRecord(BaseModel):
    """Everything about a scoring run but its numbers. `spec` is None where the results were imported.

    A warning is one line for a kind of thing to know; `details` are the lines that it sums up.
    """

    schema_version: int = SCHEMA_VERSION
    status: Literal["running", "done", "failed"]
    reason: str = ""
    model: ModelSpec
    spec: TasksSpec | None
    imported_from: str = ""
    resolved: ResolvedModel | None = None
    tasks: tuple[ScoredTask, ...] = ()
    failures: tuple[Failure, ...] = ()
    warnings: tuple[str, ...] = ()
    details: tuple[str, ...] = ()
    timings: dict[str, float] = {}
    texts_encoded: int = 0
    packages: dict[str, str] = {}
    commit: str | None = None
    machine: str = ""
    started: str = ""
    finished: str = ""


def write_tasks_record(record: TasksRecord, folder: Path) -> None:
    """Write tasks.json, whole or not at all."""
    with whole_file(folder / TASKS_RECORD) as temporary:
        temporary.write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")


def read_tasks_record(folder: Path) -> TasksRecord:
    """Read the tasks.json of a folder.

    Raises:
        UserError: the folder holds no scores.
        RunFailedError: tasks.json is damaged or of a newer schema.
    """
    path = folder / TASKS_RECORD
    if not path.exists():
        raise UserError(f"{folder} holds no scores: it has no {TASKS_RECORD}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.get("schema_version", 0) > SCHEMA_VERSION:
            raise RunFailedError(
                f"{path} has schema version {content['schema_version']}, this layerscope reads up to {SCHEMA_VERSION}: "
                "update layerscope"
            )
        return TasksRecord.model_validate(content)
    except (json.JSONDecodeError, UnicodeDecodeError, ValidationError, AttributeError) as error:
        raise RunFailedError(
            f"{path} cannot be read ({type(error).__name__}): the file is damaged; {way_out(folder, 'tasks')} "
            "(embeddings are cached)"
        ) from error


def earlier_tasks(folder: Path, model: ModelSpec, spec: TasksSpec) -> TasksRecord | None:
    """The record of earlier scores in `folder` that these may be added to; None where there are none.

    Raises:
        UserError: the scores there are of another model or state (named field by field), or the folder holds other files.
    """
    if not (folder / TASKS_RECORD).exists():
        others = strangers(folder, "tasks", "measure", "pick", "relate")
        if others and not (folder / "run.json").exists():
            raise UserError(
                f"{folder} is not empty and not a run (it holds {', '.join(others[:3])}): choose another --out"
            )
        return None
    record = read_tasks_record(folder)
    if record.spec is None:
        raise UserError(f"{folder} holds imported scores ({record.imported_from}): choose another --out")
    changed = differences(record.model, model, ()) + differences(record.spec, spec, FREE)
    if changed:
        raise UserError(f"{folder} holds scores with other settings ({'; '.join(changed)}): {way_out(folder, 'tasks')}")
    return record
