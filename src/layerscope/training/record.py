"""zoo.json: what a trained model is, how it came about, and how far it learnt."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel, ValidationError

from layerscope.errors import RunFailedError
from layerscope.files.writing import whole_file
from layerscope.training.recipes import Recipe

RECORD = "zoo.json"


class StepLoss(BaseModel):
    """The losses at a checkpoint, in nats a token."""

    step: int
    held_out: float
    train: float | None = None
    """Mean over the steps since the checkpoint before; None at step 0."""
    seconds: float
    """Since training began, writing and watching the checkpoints included."""


class ZooRecord(BaseModel):
    """A finished training run."""

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
    warnings: tuple[str, ...] = ()
    precision: str
    packages: dict[str, str]
    commit: str | None = None
    started: str


def write_zoo_record(record: ZooRecord, folder: Path) -> None:
    """Write zoo.json, whole or not at all."""
    with whole_file(folder / RECORD) as temporary:
        temporary.write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")


def read_zoo_record(folder: Path) -> ZooRecord | None:
    """The record of a trained model; None where there is none.

    Raises:
        RunFailedError: zoo.json is damaged.
    """
    path = folder / RECORD
    if not path.is_file():
        return None
    try:
        return ZooRecord.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, ValidationError) as error:
        raise RunFailedError(
            f"{path} cannot be read ({type(error).__name__}): delete {folder} and run `layerscope zoo train` again"
        ) from error
