"""What is known about a metric: the entry of the catalogue."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from layerscope.metrics.readings import Setting

Shape = Literal["tokens dim", "prompts dim", "prompts views dim"]


@dataclass(frozen=True)
class Metric:
    """One metric: how it is read from a source, and what its number means.

    `values(source, setting)` gives one number a prompt for "tokens dim" (source: TokenStates), one number a subset of
    the prompts for the other shapes (PooledVectors, ViewVectors). `reason(data, setting)` says why a number is NaN;
    data is one prompt's states without padding, the pooled vectors, or the views.
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
    reads: str
    paper: str
    low: float | None = None
    high: float | None = None
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
