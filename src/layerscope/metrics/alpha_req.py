"""alpha-ReQ: how fast the eigenvalues of the pooled covariance decay."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from layerscope.metrics.spectrum import spectrum_values
from layerscope.metrics.subsets import everything, subset_sizes, subset_spectra

# Ranks (from 1) that the line is fitted to: past the few leading eigenvalues, before the noise of a finite sample.
FIT_RANGE = (11, 100)
_LEAST_POINTS = 5
# Of the largest eigenvalue: what a float64 decomposition returns for an eigenvalue of zero is below this.
_ZERO = 1e-24


def alpha_req(pooled: Float[Tensor, "prompts dim"], *, fit_range: tuple[int, int] = FIT_RANGE) -> Float64[Tensor, ""]:
    """Decay exponent of the eigenvalues of the pooled vectors' covariance, lambda_i ~ i^(-alpha).

    Minus the slope of log lambda_i against log i, least squares with weights 1 / i, over the ranks i of `fit_range`.

    Args:
        pooled: `prompts dim`, one vector a prompt; the mean over prompts is removed, as a covariance asks.
        fit_range: first and last rank fitted, counted from 1; the last is cut to min(N - 1, D).

    Returns:
        Scalar float64, a real number, usually in [0, 3]: near 0 a flat spectrum, large one of few directions, around 1
        what the paper found to go with good features. NaN with fewer than 5 positive eigenvalues in the range, or
        where a vector is not finite.

    Raises:
        ValueError: the range is not 1 <= first < last.

    Paper: Agrawal et al. 2022, eq. 1. The weights are those of the authors' code (from Stringer et al. 2019), whose
    range changes from script to script: state it with the value.
    """
    return alpha_req_of_subsets(pooled, everything(pooled), fit_range=fit_range)[0]


def alpha_req_of_subsets(
    pooled: Float[Tensor, "prompts dim"],
    subsets: Sequence[Int64[Tensor, " _"]],
    *,
    fit_range: tuple[int, int] = FIT_RANGE,
) -> Float64[Tensor, " subsets"]:
    """`alpha_req` of each subset of the prompts, from one Gram matrix."""
    if not 1 <= fit_range[0] < fit_range[1]:
        raise ValueError(f"expected a fit range of ranks 1 <= first < last, got {fit_range}")
    ranks = (subset_sizes(subsets) - 1).clamp(max=pooled.shape[-1])
    return decays(subset_spectra(pooled, subsets, variant="centered"), ranks, fit_range)


def decays(
    spectra: Sequence[Float64[Tensor, " _"]], ranks: Int64[Tensor, " spectra"], fit_range: tuple[int, int] = FIT_RANGE
) -> Float64[Tensor, " spectra"]:
    """Decay exponent of each spectrum's descending eigenvalues, of which the first `ranks` can be non-zero."""
    fitted = [own[: int(rank)] for own, rank in zip(spectra, ranks, strict=True)]
    return spectrum_values(fitted, lambda own: _slope(own, fit_range))


def _slope(values: Float64[Tensor, " k"], fit_range: tuple[int, int]) -> Float64[Tensor, ""]:
    first, last = fit_range
    fitted = values[first - 1 : last]
    if fitted.shape[0] < _LEAST_POINTS or not bool((fitted > _ZERO * values[0]).all()):
        return torch.tensor(math.nan, dtype=torch.float64)
    rank = torch.arange(first, first + fitted.shape[0], dtype=torch.float64)
    weight = (1 / rank) / (1 / rank).sum()
    x = rank.log() - (weight * rank.log()).sum()
    return -(weight * x * fitted.log()).sum() / (weight * x * x).sum()
