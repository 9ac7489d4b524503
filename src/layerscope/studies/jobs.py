"""Jobs of a study: one measurement or one sweep of tasks each, stored once and shared between studies."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from layerscope.config import ModelSpec, RunSpec, TextSpec
from layerscope.errors import UserError
from layerscope.measuring.progress import Report
from layerscope.mmlu.run import MmluRun
from layerscope.results.run import Run
from layerscope.tasks.run import TasksRun
from layerscope.tasks.spec import TasksSpec

T = TypeVar("T")
# Options that version 0.1.0 did not have are named where they are used, so that its runs are found.
_NEW = ("separator", "no_header")


class UnavailableError(UserError):
    """A study cannot run on this machine; the message ends with the command that would help."""

    exit_code = 1

    def __init__(self, reason: str, command: str) -> None:
        super().__init__(f"{reason}: run `{command}`")


@runtime_checkable
class Job(Protocol):
    """One piece of a study's grid. Equal identities are the same work, done once."""

    @property
    def key(self) -> str:
        """How the study's analysis finds the result; unique within a study."""

    @property
    def slug(self) -> str:
        """Words for the folder's name."""

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that the numbers depend on, as JSON."""

    def start(self, folder: Path, report: Report) -> object:
        """Do the work, or go on with it, or only read it where it is done.

        Raises:
            LayerscopeError: it cannot be done; the reason is named and the other jobs go on.
        """


@dataclass(frozen=True)
class Measure:
    """A measurement as `layerscope measure` makes it. Its result is a Run."""

    key: str
    spec: RunSpec

    @property
    def slug(self) -> str:
        """The model, the texts and their perturbation."""
        return f"{self.spec.model.name}-{self.spec.texts.perturbation or self.spec.texts.source}"

    @property
    def identity(self) -> dict[str, Any]:
        """The spec."""
        return {"measure": {**self.spec.model_dump(mode="json"), "texts": texts_identity(self.spec.texts)}}

    def start(self, folder: Path, report: Report) -> Run:
        """Measure."""
        from layerscope.measuring.measure import measure_spec

        return measure_spec(self.spec, folder, report)


@dataclass(frozen=True)
class Score:
    """Scores of every layer as `layerscope tasks` makes them. Its result is a TasksRun."""

    key: str
    model: ModelSpec
    spec: TasksSpec

    @property
    def slug(self) -> str:
        """The model and the tasks."""
        return f"{self.model.name}-{self.spec.benchmark or f'{len(self.spec.tasks)}-tasks'}"

    @property
    def identity(self) -> dict[str, Any]:
        """Both specs without what changes no number."""
        tasks = self.spec.model_dump(mode="json", exclude={"data_dir", "cache", "workers", "batch_tokens"})
        return {"model": self.model.model_dump(mode="json"), "tasks": tasks}

    def start(self, folder: Path, report: Report) -> TasksRun:
        """Score."""
        from layerscope.tasks.run import score_spec

        return score_spec(self.model, self.spec, folder, report)


@dataclass(frozen=True)
class Results:
    """What became of a study's jobs, by key and in the order of the jobs: results, and reasons where there are none."""

    found: Mapping[str, object]
    missing: Mapping[str, str] = field(default_factory=dict)

    def every(self, kind: type[T]) -> dict[str, T]:
        """All results of a kind, such as `Run` of a `Measure` or `TasksRun` of a `Score`."""
        return {key: result for key, result in self.found.items() if isinstance(result, kind)}

    @property
    def notes(self) -> tuple[str, ...]:
        """What was found when results that were there already were opened, such as a model that has gone; and reasons."""
        opened = {key: run.notes for key, run in self.found.items() if isinstance(run, Run | TasksRun | MmluRun)}
        return (
            *(f"{key}: {note}" for key, notes in opened.items() for note in notes),
            *(f"{key} is missing: {reason}" for key, reason in self.missing.items()),
        )


def texts_identity(texts: TextSpec) -> dict[str, Any]:
    """What an identity says of texts; where the same ones are read from does not matter."""
    asked = texts.model_dump(mode="json", exclude={"data_dir"})
    return {name: value for name, value in asked.items() if name not in _NEW or value}


def folder_of(job: Job, root: Path) -> Path:
    """Where a job's result is stored: a readable name and a hash of its identity."""
    digest = hashlib.sha256(json.dumps(job.identity, sort_keys=True).encode()).hexdigest()[:10]
    words = re.sub(r"[^A-Za-z0-9.@:-]+", "-", job.slug.rstrip("/").removeprefix(str(Path.home()))).strip("-")
    # A model in a deep local folder would give a name that file systems refuse.
    return root / f"{words[-80:].lstrip('-').replace(':', '-')}-{digest}"
