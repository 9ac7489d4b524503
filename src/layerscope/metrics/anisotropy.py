"""Anisotropy: how much all pooled vectors point the same way."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from layerscope.metrics.products import aligned
from layerscope.metrics.spectrum import Variant, unit, vary
from layerscope.metrics.subsets import everything
from layerscope.metrics.workers import parallel_map


def anisotropy(pooled: Float[Tensor, "prompts dim"], *, variant: Variant = "paper") -> Float64[Tensor, ""]:
    """Mean cosine between the vectors of two distinct prompts.

    (|sum_i u_i|^2 - N) / (N (N - 1)), u_i the unit vectors.

    Args:
        pooled: `prompts dim`, one vector a prompt.
        variant: paper, or centered (the mean over prompts removed first).

    Returns:
        Scalar float64, a cosine in [-1 / (N - 1), 1]: 0 where directions are even, 1 where all are the same. NaN with
        fewer than 2 prompts, where a vector is zero (it has no direction) or not finite.

    Paper: Ethayarajh 2019, section 3 (there over random words; here over all pairs of prompts).
    """
    return anisotropy_of_subsets(pooled, everything(pooled), variant=variant)[0]


def anisotropy_of_subsets(
    pooled: Float[Tensor, "prompts dim"], subsets: Sequence[Int64[Tensor, " _"]], *, variant: Variant = "paper"
) -> Float64[Tensor, " subsets"]:
    """`anisotropy` of each subset of the prompts."""
    vectors = aligned(pooled.cpu(), torch.float64)
    found = parallel_map(lambda kept: _mean_cosine(vectors[kept], variant), list(subsets))
    return torch.tensor(found, dtype=torch.float64)


def _mean_cosine(vectors: Float64[Tensor, "prompts dim"], variant: Variant) -> float:
    count = vectors.shape[0]
    if count < 2 or not bool(vectors.isfinite().all()):
        return math.nan
    rows = vary(vectors, variant)
    if not bool(rows.any(-1).all()):
        return math.nan
    return (float(unit(rows).sum(0).square().sum()) - count) / (count * (count - 1))
