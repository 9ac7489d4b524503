"""TasksSpec: which tasks, at which layers, of which states."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from layerscope.config import Ints, Names, Pooling, PositionSets, Readouts, Spec
from layerscope.states.state import State, all_states


class TasksSpec(Spec):
    """Scores of a model's layers on MTEB tasks."""

    tasks: Names = Field(
        (), description="Tasks, separated by commas: MTEB's names, or file.py:Class for a task class of your own."
    )
    benchmark: Literal["paper32", "offline"] | None = Field(
        None, description="A set of tasks: paper32 (the papers' English tasks) or offline (needs no hub)."
    )
    readout: Readouts = Field(
        ("normed",), description="What is read from a layer: raw, normed, hf; several are encoded together."
    )
    positions: PositionSets = ("all",)
    pooling: Pooling = Field("mean", description="How token states become one vector: mean, last, first.")
    layers: Ints | None = Field(None, description="Layers to score, 0 = embeddings; all by default.")
    context: int | None = Field(
        None, ge=1, description="Longest text in tokens, longer ones are cut; default: what the model was built for."
    )
    subsets: Names = Field(
        ("english",), min_length=1, description="Subsets of multilingual tasks: english, all, or their names."
    )
    data_dir: str | None = Field(
        None, description="Folder where DIR/org/name stands in for the hub data set org/name (or LAYERSCOPE_DATA_DIR)."
    )
    cache: str | None = Field(
        None,
        description="Folder of cached embeddings; default: embeddings/ in LAYERSCOPE_CACHE or ~/.cache/layerscope.",
    )
    workers: int | None = Field(None, ge=1, description="Processes that score layers; default: one a core.")
    batch_tokens: int = Field(1024, ge=1, description="Padded tokens in one forward pass.")

    @property
    def states(self) -> tuple[State, ...]:
        """The states asked for, each once."""
        return all_states(self.readout, self.positions)

    @model_validator(mode="after")
    def _has_tasks(self) -> TasksSpec:
        if not self.tasks and self.benchmark is None:
            raise ValueError("no tasks: give tasks (--tasks) or a benchmark (--benchmark)")
        return self
