"""PickSpec: how a layer is chosen. It loads no tables, so the command line can read it at once."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from layerscope.config import Spec

By = Literal["scores", "metrics"]
MARGIN = 0.01
"""What the recommended layer may lose against the best, in the scores' unit: a point of a score between 0 and 1."""


class PickSpec(Spec):
    """How a layer is chosen."""

    by: By | None = Field(
        None,
        description="By scores of tasks, or by metrics without labels: scores, metrics; by scores where there are some.",
    )
    margin: float = Field(
        MARGIN,
        ge=0,
        description="What the layer may lose against the best, in the scores' unit: the earliest shown to lose no more is "
        "recommended, else the one with the highest average.",
    )
    resamples: int = Field(2000, ge=100, description="Bootstrap samples.")
    seed: int = Field(0, ge=0, description="Seed of the resampling.")
