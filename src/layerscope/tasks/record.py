"""tasks.json: what was scored, on what, and what failed. It lies beside run.json, so a folder may hold both."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from layerscope.config import ModelSpec, Positions, Readout
from layerscope.results.contents import Verb
from layerscope.results.record import Frozen, Record, ResolvedModel
from layerscope.states.state import State
from layerscope.tasks.spec import TasksSpec

RESULTS = "tasks"
"""The folder of results in a run's folder."""
Place = tuple[State, int]
"""A state and a layer."""


class ScoredTask(Frozen):
    """A task as it was scored."""

    name: str
    type: str
    main_score: str
    revision: str
    subsets: tuple[str, ...] = ()
    samples: dict[str, int] = Field(default_factory=dict)
    code: str = ""
    """The hash of the file that holds a task class of the user's own; empty for other tasks, and in runs of 0.1.0."""


class Failure(Frozen):
    """Something that could not be scored, and why. Without a layer it holds for all of them."""

    task: str
    reason: str
    layer: int | None = None
    readout: Readout | None = None
    positions: Positions | None = None

    @classmethod
    def at(cls, task: str, place: Place, reason: str) -> Failure:
        """What could not be scored at one place."""
        state, layer = place
        return cls(task=task, reason=reason, layer=layer, readout=state.readout, positions=state.positions)

    @property
    def place(self) -> Place | None:
        """Where it failed; None where that is no single place."""
        if self.layer is None or self.readout is None or self.positions is None:
            return None
        return State(self.readout, self.positions), self.layer


class TasksRecord(Record):
    """The record of a scoring run. `spec` is None where the results were imported.

    A warning is one line for a kind of thing to know; `details` are the lines that it sums up.
    """

    FILE: ClassVar[str] = "tasks.json"
    VERB: ClassVar[Verb] = "tasks"
    BESIDE: ClassVar[tuple[Verb, ...] | None] = ("measure", "pick", "relate")
    # More tasks and layers may be added to a run; the rest of these does not change a number.
    FREE: ClassVar[tuple[str, ...]] = (
        "tasks",
        "benchmark",
        "layers",
        "data_dir",
        "cache",
        "workers",
        "batch_tokens",
        "subsets",
    )

    model: ModelSpec
    spec: TasksSpec | None
    imported_from: str = ""
    resolved: ResolvedModel | None = None
    tasks: tuple[ScoredTask, ...] = ()
    failures: tuple[Failure, ...] = ()
    details: tuple[str, ...] = ()
    texts_encoded: int = 0
