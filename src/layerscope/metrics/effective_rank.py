"""Effective rank and RankMe: how many singular values really count."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Float64, Int, Int64
from torch import Tensor

from layerscope.metrics.prompts import split_prompts
from layerscope.metrics.spectrum import Variant, prepare_prompts, prompt_spectra, shares, spectrum_values
from layerscope.metrics.subsets import everything, subset_spectra

RANKME_EPSILON = 1e-7


def effective_rank(
    states: Float[Tensor, "*prompts tokens dim"],
    lengths: Int[Tensor, "*prompts"] | None = None,
    *,
    variant: Variant = "paper",
) -> Float64[Tensor, "*prompts"]:
    """The number of directions a matrix of states has, each weighted by its singular value.

    exp(-sum q log q), q = singular values / their sum.

    Args:
        states: `*prompts tokens dim`; rows past a prompt's length are padding and never read. One matrix of pooled
            vectors is a prompt whose tokens are prompts.
        lengths: real tokens of each prompt; all rows where it is None.
        variant: of the states, see `spectrum.eigenvalues`; not `released`, which has no singular values.

    Returns:
        `*prompts` float64, a number of directions in [1, min(T, D)], at least exp(S_1); NaN where nothing is left or a
        state is not finite. Within 1e-6 (relative) of a float64 singular value decomposition.

    Raises:
        ValueError: a length is out of range.

    Paper: Roy & Vetterli 2007, definition 1. It uses singular values, not eigenvalues.
    """
    prepared = prepare_prompts(split_prompts(states, lengths), variant, "float64")
    return effective_ranks(prompt_spectra(prepared, variant)).reshape(states.shape[:-2])


def effective_ranks(spectra: Sequence[Float64[Tensor, " _"]]) -> Float64[Tensor, " spectra"]:
    """Effective rank from each spectrum of the Gram matrix, the squared singular values; NaN for an empty one."""
    return spectrum_values(spectra, lambda own: _exp_entropy(shares(own.sqrt())))


def _exp_entropy(p: Float64[Tensor, " k"]) -> Float64[Tensor, ""]:
    return (-torch.xlogy(p, p).sum()).exp()


def dataset_effective_rank(pooled: Float[Tensor, "prompts dim"], *, variant: Variant = "paper") -> Float64[Tensor, ""]:
    """`effective_rank` of the pooled prompt vectors.

    exp(-sum q log q), q = singular values / their sum. It depends on the number of prompts: compare equal N only.

    Args:
        pooled: `prompts dim`, one vector a prompt.
        variant: of the vectors, see `spectrum.eigenvalues` (the mean is over prompts).

    Returns:
        Scalar float64, a number of directions in [1, min(N, D)]; NaN where nothing is left or a vector is not finite.

    Paper: Roy & Vetterli 2007, definition 1.
    """
    return dataset_effective_rank_of_subsets(pooled, everything(pooled), variant=variant)[0]


def dataset_effective_rank_of_subsets(
    pooled: Float[Tensor, "prompts dim"], subsets: Sequence[Int64[Tensor, " _"]], *, variant: Variant = "paper"
) -> Float64[Tensor, " subsets"]:
    """`dataset_effective_rank` of each subset of the prompts, from one Gram matrix."""
    return effective_ranks(subset_spectra(pooled, subsets, variant=variant))


def rankme(pooled: Float[Tensor, "prompts dim"], *, variant: Variant = "paper") -> Float64[Tensor, ""]:
    """Effective rank of the pooled prompt vectors as RankMe defines it.

    exp(-sum p log p), p_k = sigma_k / sum(sigma) + 1e-7, over k = 1 .. min(N, D).

    Args:
        pooled: `prompts dim`, one vector a prompt.
        variant: of the vectors, see `spectrum.eigenvalues`; the paper does not centre.

    Returns:
        Scalar float64, a number of directions in [1, min(N, D)] up to the epsilon; NaN where nothing is left or a
        vector is not finite.

    Paper: Garrido et al. 2023 (arXiv 2210.02885), eq. 1 and 2.
    """
    return rankme_of_subsets(pooled, everything(pooled), variant=variant)[0]


def rankme_of_subsets(
    pooled: Float[Tensor, "prompts dim"], subsets: Sequence[Int64[Tensor, " _"]], *, variant: Variant = "paper"
) -> Float64[Tensor, " subsets"]:
    """`rankme` of each subset of the prompts, from one Gram matrix."""
    return rankmes(subset_spectra(pooled, subsets, variant=variant))


def rankmes(spectra: Sequence[Float64[Tensor, " _"]]) -> Float64[Tensor, " spectra"]:
    """RankMe of each spectrum of all k eigenvalues; NaN for an empty one."""
    return spectrum_values(spectra, lambda own: _exp_entropy(shares(own.sqrt()) + RANKME_EPSILON))
