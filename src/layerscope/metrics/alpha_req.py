"""alpha-ReQ: how fast the eigenvalues of the pooled covariance decay."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from layerscope.metrics.metric import PAPER, Metric, Setting, Values
from layerscope.metrics.sources import PooledVectors
from layerscope.metrics.spectrum import degenerate_reason, spectrum_values

# Ranks (from 1) that the line is fitted to: past the few leading eigenvalues, before the noise of a finite sample.
FIT_RANGE = (11, 100)
_LEAST_POINTS = 5
# Of the largest eigenvalue: what a float64 decomposition returns for an eigenvalue of zero is below this.
_ZERO = 1e-24


def alpha_req(source: PooledVectors, _: Setting = PAPER, *, fit_range: tuple[int, int] = FIT_RANGE) -> Values:
    """Decay exponent of the eigenvalues of the pooled vectors' covariance, lambda_i ~ i^(-alpha).

    Minus the slope of log lambda_i against log i, least squares with weights 1 / i, over the ranks i of `fit_range`,
    first and last, counted from 1; the last is cut to min(N - 1, D).

    Returns `subsets` float64, a real number, usually in [0, 3]: near 0 a flat spectrum, large one of few directions,
    around 1 what the paper found to go with good features. NaN with fewer than 5 positive eigenvalues in the range, or
    where a vector is not finite.
    Raises ValueError: the range is not 1 <= first < last.
    Paper: Agrawal et al. 2022, eq. 1. The weights are those of the authors' code (from Stringer et al. 2019), whose
    range changes from script to script: state it with the value.
    """
    if not 1 <= fit_range[0] < fit_range[1]:
        raise ValueError(f"expected a fit range of ranks 1 <= first < last, got {fit_range}")
    ranks = (source.sizes - 1).clamp(max=source.pooled.shape[-1]).tolist()
    fitted = [own[:rank] for own, rank in zip(source.spectra("centered"), ranks, strict=True)]
    return spectrum_values(fitted, lambda own: decay(own, fit_range))


def decay(values: Float64[Tensor, " k"], fit_range: tuple[int, int] = FIT_RANGE) -> Float64[Tensor, ""]:
    """The exponent of descending eigenvalues."""
    first, last = fit_range
    fitted = values[first - 1 : last]
    if fitted.shape[0] < _LEAST_POINTS or not bool((fitted > _ZERO * values[0]).all()):
        return torch.tensor(math.nan, dtype=torch.float64)
    rank = torch.arange(first, first + fitted.shape[0], dtype=torch.float64)
    weight = (1 / rank) / (1 / rank).sum()
    x = rank.log() - (weight * rank.log()).sum()
    return -(weight * x * fitted.log()).sum() / (weight * x * x).sum()


def decay_reason(pooled: Float[Tensor, "prompts dim"], _: Setting = PAPER) -> str:
    """Why an alpha-ReQ is NaN."""
    return degenerate_reason(pooled, Setting("centered")) or "fewer than 5 positive eigenvalues in the fit range"


METRIC = Metric(
    name="alpha_req",
    family="alpha_req",
    shape="prompts dim",
    values=alpha_req,
    reason=decay_reason,
    summary="decay exponent of the eigenvalues of the pooled covariance, fitted over ranks 11 to 100",
    unit="exponent",
    range="any real number, usually [0, 3]",
    direction="higher: eigenvalues fall faster, fewer directions; near 1 went with good features in the paper",
    paper="Agrawal et al. 2022",
)
