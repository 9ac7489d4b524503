"""run.json: the record of a measurement."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from layerscope.config import RunSpec
from layerscope.inputs.prompts import Skipped
from layerscope.results.contents import Verb
from layerscope.results.record import Record, ResolvedModel


class Resolved(ResolvedModel):
    """What the names of a spec turned out to be. Two runs with equal specs and equal `Resolved` have equal numbers."""

    texts_revision: str
    dim: int
    metrics: tuple[str, ...]
    n_prompts: int
    n_blocks: int
    prompts_sha256: str


class RunRecord(Record):
    """The record of a measurement."""

    FILE: ClassVar[str] = "run.json"
    VERB: ClassVar[Verb] = "measure"
    BESIDE: ClassVar[tuple[Verb, ...] | None] = ("tasks", "pick", "relate")
    # Where the same data is read from does not change a number.
    FREE: ClassVar[tuple[str, ...]] = ("texts.data_dir",)

    spec: RunSpec
    resolved: Resolved
    weights: str = ""
    """sha256 of the weights without the config; equal ones are one model, whatever their names are."""
    counts: dict[str, int] = Field(default_factory=dict)
    filters: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()
