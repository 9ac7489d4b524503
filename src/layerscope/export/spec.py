"""ExportSpec: which layer, read how, becomes an embedding model."""

from __future__ import annotations

import json
from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from layerscope.config import Pooling, Positions, Readout, Spec
from layerscope.states.state import State


def _from_json(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise ValueError('expected JSON like {"query": "query: ", "document": "passage: "}') from None


class ExportSpec(Spec):
    """A layer as a sentence-transformers model."""

    layer: int | None = Field(
        None, ge=0, description="Layer to end at: blocks 1 to K are kept; default with --run: the recommended one."
    )
    readout: Readout = Field("normed", description="What is read from the layer: normed, raw.")
    positions: Positions = Field(
        "all", description="Which tokens count: all; no-first where the first token is always the same special one."
    )
    pooling: Pooling = Field("mean", description="How token states become one vector: mean, last, first.")
    context: int | None = Field(
        None, ge=1, description="Longest text in tokens, longer ones are cut; default: what the model was built for."
    )
    normalize: bool = Field(False, description="Scale every vector to length 1.")
    prompts: Annotated[dict[str, str] | None, BeforeValidator(_from_json)] = Field(
        None, description='Prompts that texts may be given, as JSON: {"query": "query: "}.'
    )
    default_prompt: str | None = Field(
        None, description="The prompt (by name) that every text gets unless told not to."
    )

    @property
    def state(self) -> State:
        """Readout and positions, as scores are keyed by."""
        return State(self.readout, self.positions)

    @property
    def prefix(self) -> str:
        """What stands before every text by default."""
        return (self.prompts or {})[self.default_prompt] if self.default_prompt is not None else ""

    @model_validator(mode="after")
    def _default_is_a_prompt(self) -> ExportSpec:
        if self.default_prompt is not None and self.default_prompt not in (self.prompts or {}):
            raise ValueError(f"default_prompt {self.default_prompt!r} is not among the prompts")
        return self
