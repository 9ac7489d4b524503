"""What is known about a metric, and what tells the rows of one metric apart."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from jaxtyping import Float64, Int64
from torch import Tensor

from layerscope.config import Normalization

Shape = Literal["tokens dim", "prompts dim", "prompts views dim"]
# One value a prompt (TokenStates) or a subset of the prompts (PooledVectors, ViewVectors).
Values = Float64[Tensor, " values"]
# The prompts that an evaluation keeps, as indices.
Subset = Int64[Tensor, " _"]

K_STEP = "k-step"


@dataclass(frozen=True)
class Setting:
    """What tells the rows of one metric apart. None where the metric has no such choice, or for its first one.

    Every metric's function raises ValueError for a variant that it does not have.
    """

    variant: str = "paper"
    alpha: float | None = None
    normalization: Normalization | None = None

    @property
    def order(self) -> float:
        """The order alpha of an entropy; 1 where none is given."""
        return 1.0 if self.alpha is None else self.alpha


PAPER = Setting()


@dataclass(frozen=True)
class Metric:
    """One metric: how it is read from a source, and what its number means.

    `values(source, setting)` gives one number a prompt for "tokens dim" (source: TokenStates), one number a subset of
    the prompts for the other shapes (PooledVectors, ViewVectors). `reason(data, setting)` says why a number is NaN, and
    "" where it is none; data is one prompt's states without padding, the pooled vectors, or the views.
    """

    name: str
    family: str
    shape: Shape
    values: Callable[[Any, Setting], Tensor]
    reason: Callable[[Any, Setting], str]
    summary: str
    unit: str
    range: str
    direction: str
    paper: str
    needs: Literal["attentions", "all views"] | None = None
    """What it needs beyond the states, the pooled vectors or the first two views."""
    variants: tuple[str, ...] = ("paper",)
    has_alpha: bool = False
    has_normalization: bool = False
    in_all: bool = True
    has_interval: bool = True
    """Whether resampling prompts says something about it: not for a count of prompts, nor for an error itself."""
    needs_first_token: bool = False
    """Whether it is about the first token, so that it has no meaning for positions that leave tokens out."""


def unit_of(metric: Metric, setting: Setting) -> str:
    """The unit of one row: the metric's, or "share" where the row is normalised."""
    return metric.unit if setting.normalization in (None, "none") else "share"


def steps_of(variant: str) -> int | None:
    """The k of the variant `k-step` as it is asked for ("2-step", "3-step", ...); None for any other name."""
    match = re.fullmatch(r"([2-9]|[1-9]\d+)-step", variant)
    return int(match[1]) if match else None
