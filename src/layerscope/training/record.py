"""zoo.json: what a trained model is, how it came about, and how far it learnt."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from layerscope.results.contents import Verb
from layerscope.results.record import Frozen, Record, read_record
from layerscope.training.recipes import Recipe


class StepLoss(Frozen):
    """The losses at a checkpoint, in nats a token."""

    step: int
    held_out: float
    train: float | None = None
    """Mean over the steps since the checkpoint before; None at step 0."""
    seconds: float
    """Since training began, writing and watching the checkpoints included."""


class ZooRecord(Record):
    """A finished training run; `files` are those of its checkpoints and the held-out texts."""

    FILE: ClassVar[str] = "zoo.json"
    VERB: ClassVar[Verb] = "zoo"

    # Version 0.1.0 wrote neither: it wrote the file when the model was finished, and only then.
    schema_version: int = 1
    status: Literal["running", "done", "failed"] = "done"
    name: str
    recipe: Recipe
    parameters: int
    train_leads: int
    train_tokens: int
    held_out_leads: int
    held_out_tokens: int
    texts_revision: str
    losses: tuple[StepLoss, ...]
    seconds: float
    watch_seconds: float = 0.0
    """How much of it went into measuring the checkpoints."""
    precision: str


def read_zoo_record(folder: Path) -> ZooRecord | None:
    """The record of a trained model; None where there is none. Raises what `read_record` raises."""
    path = folder / ZooRecord.FILE
    return read_record(ZooRecord, folder) if path.exists() or path.is_symlink() else None
