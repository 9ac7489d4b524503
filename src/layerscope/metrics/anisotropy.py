"""Anisotropy: how much all pooled vectors point the same way."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from layerscope.metrics.metric import PAPER, Metric, Setting, Values
from layerscope.metrics.sources import PooledVectors
from layerscope.metrics.spectrum import Variant, degenerate_reason, unit, variant_of, vary
from layerscope.metrics.workers import aligned, parallel_map

_VARIANTS: tuple[Variant, ...] = ("paper", "centered")


def anisotropy(source: PooledVectors, setting: Setting = PAPER) -> Values:
    """Mean cosine between the vectors of two distinct prompts.

    (|sum_i u_i|^2 - N) / (N (N - 1)), u_i the unit vectors; in the variant centered the mean over prompts goes first.

    Returns `subsets` float64, a cosine in [-1 / (N - 1), 1]: 0 where directions are even, 1 where all are the same. NaN
    with fewer than 2 prompts, where a vector is zero (it has no direction) or not finite.
    Paper: Ethayarajh 2019, section 3 (there over random words; here over all pairs of prompts).
    """
    vectors, variant = aligned(source.pooled.cpu(), torch.float64), variant_of(setting, _VARIANTS)

    def mean_cosine(kept: Tensor) -> float:
        count, rows = kept.shape[0], vary(vectors[kept], variant)
        if count < 2 or not bool(rows.isfinite().all()) or not bool(rows.any(-1).all()):
            return math.nan
        return (float(unit(rows).sum(0).square().sum()) - count) / (count * (count - 1))

    return torch.tensor(parallel_map(mean_cosine, list(source.subsets)), dtype=torch.float64)


def anisotropy_reason(pooled: Float[Tensor, "prompts dim"], setting: Setting = PAPER) -> str:
    """Why an anisotropy is NaN."""
    if pooled.shape[0] < 2:
        return f"{pooled.shape[0]} prompts: a cosine needs 2"
    return degenerate_reason(pooled, setting) or "a zero vector has no direction"


METRIC = Metric(
    name="anisotropy",
    family="anisotropy",
    shape="prompts dim",
    values=anisotropy,
    reason=anisotropy_reason,
    summary="mean cosine between the pooled vectors of distinct prompts",
    unit="cosine",
    range="[-1 / (N - 1), 1]",
    direction="higher: all vectors point the same way",
    variants=_VARIANTS,
    paper="Ethayarajh 2019, section 3",
)
