"""run.json: the record of a measurement, and which records are of one model under several names."""

from __future__ import annotations

from collections.abc import Iterable
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


def same_weights(named: Iterable[tuple[str, RunRecord]]) -> tuple[tuple[str, ...], ...]:
    """The names of records whose models have the same weights, byte for byte; one tuple for each set of two or more."""
    found: dict[str, dict[str, None]] = {}
    for name, record in named:
        # Runs of older versions know the weights only together with the config.
        found.setdefault(record.weights or record.resolved.model_revision, {})[name] = None
    return tuple(tuple(names) for names in found.values() if len(names) > 1)


def same_weights_notes(records: Iterable[RunRecord]) -> list[str]:
    """A sentence for each set of models that are one under several names; several runs of one model are no such set."""
    # An adapter is merged into the weights, and they are hashed before.
    plain = ((record.spec.model.name, record) for record in records if record.spec.model.adapter is None)
    return [
        f"{', '.join(names[:-1])} and {names[-1]} have the same weights, byte for byte: one model under several names"
        for names in same_weights(plain)
    ]
