"""Effective rank and RankMe: how many singular values really count."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float64
from torch import Tensor

from layerscope.metrics.metric import PAPER, Metric, Setting, Values
from layerscope.metrics.sources import PooledVectors, TokenStates
from layerscope.metrics.spectrum import SPECTRAL, degenerate_reason, shares, spectrum_values, variant_of

RANKME_EPSILON = 1e-7


def effective_rank(source: TokenStates | PooledVectors, setting: Setting = PAPER) -> Values:
    """The number of directions that the tokens of a prompt, or the pooled prompts, use, weighted by singular value.

    exp(-sum q log q), q = singular values / their sum, in a variant of `TokenStates.spectra` (of pooled vectors the
    mean is over prompts); not `released`, which has no singular values. Of pooled prompts it depends on their number N:
    compare equal N only.

    Returns `prompts` (or `subsets`) float64, a number of directions in [1, min(T, D)], at least exp(S_1); NaN where
    nothing is left or a number is not finite. Within 1e-6 (relative) of a float64 singular value decomposition.
    Paper: Roy & Vetterli 2007, definition 1. It uses singular values, not eigenvalues.
    """
    return spectrum_values(source.spectra(variant_of(setting)), lambda own: _exp_entropy(shares(own.sqrt())))


def rankme(source: PooledVectors, setting: Setting = PAPER) -> Values:
    """Effective rank of the pooled prompt vectors as RankMe defines it.

    exp(-sum p log p), p_k = sigma_k / sum(sigma) + 1e-7, over k = 1 .. min(N, D), in the variants of `effective_rank`;
    the paper does not centre.

    Returns `subsets` float64, a number of directions in [1, min(N, D)] up to the epsilon; NaN where nothing is left or
    a vector is not finite.
    Paper: Garrido et al. 2023 (arXiv 2210.02885), eq. 1 and 2.
    """
    spectra = source.spectra(variant_of(setting))
    return spectrum_values(spectra, lambda own: _exp_entropy(shares(own.sqrt()) + RANKME_EPSILON))


def _exp_entropy(p: Float64[Tensor, " k"]) -> Float64[Tensor, ""]:
    return (-torch.xlogy(p, p).sum()).exp()


EFFECTIVE_RANK = Metric(
    name="effective_rank",
    family="rank",
    shape="tokens dim",
    values=effective_rank,
    reason=degenerate_reason,
    summary="number of directions that the tokens of a prompt really use",
    unit="directions",
    range="[1, min(T, D)]",
    direction="higher: more directions",
    variants=SPECTRAL,
    paper="Roy & Vetterli 2007, definition 1",
)
DATASET_EFFECTIVE_RANK = replace(
    EFFECTIVE_RANK,
    name="dataset_effective_rank",
    shape="prompts dim",
    summary="number of directions that the pooled prompt vectors really use",
    range="[1, min(N, D)]",
)
RANKME = replace(
    DATASET_EFFECTIVE_RANK,
    name="rankme",
    values=rankme,
    summary="effective rank of the pooled prompt vectors with RankMe's epsilon",
    paper="Garrido et al. 2023, eq. 1 and 2",
)
