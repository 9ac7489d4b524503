"""Diagnostics of massive activations and attention sinks, which explain the curves of the other metrics."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from layerscope.metrics.products import aligned
from layerscope.metrics.prompts import split_prompts
from layerscope.metrics.spectrum import Variant, prepare_prompts, prompt_spectra, shares, spectrum_values
from layerscope.metrics.workers import parallel_map

_SAFE = (1e-15, 1e15)


def norm_ratio(
    states: Float[Tensor, "*prompts tokens dim"], lengths: Int[Tensor, "*prompts"] | None = None
) -> Float64[Tensor, "*prompts"]:
    """How far the largest token stands out of a prompt.

    max_i |z_i| / median_i |z_i|.

    Args:
        states: `*prompts tokens dim`; rows past a prompt's length are padding and never read.
        lengths: real tokens of each prompt; all rows where it is None.

    Returns:
        `*prompts` float64, ratio in [1, inf); NaN without tokens, where the median norm is 0 or a state is not finite.

    Raises:
        ValueError: a length is out of range.

    Paper: massive activations, arXiv 2402.17762.
    """
    return norm_ratio_and_first(states, lengths)[..., 0].clone()


def first_token_norm(
    states: Float[Tensor, "*prompts tokens dim"], lengths: Int[Tensor, "*prompts"] | None = None
) -> Float64[Tensor, "*prompts"]:
    """Norm of a prompt's first token, where decoders keep their massive activation.

    |z_0|.

    Args:
        states: `*prompts tokens dim`; rows past a prompt's length are padding and never read.
        lengths: real tokens of each prompt; all rows where it is None.

    Returns:
        `*prompts` float64, in the units of the states, [0, inf); NaN without tokens or where a state is not finite.

    Raises:
        ValueError: a length is out of range.

    Paper: arXiv 2402.17762.
    """
    return norm_ratio_and_first(states, lengths)[..., 1].clone()


def norm_ratio_and_first(
    states: Float[Tensor, "*prompts tokens dim"], lengths: Int[Tensor, "*prompts"] | None = None
) -> Float64[Tensor, "*prompts two"]:
    """`norm_ratio` and `first_token_norm` from one pass, in the last dimension."""
    pairs = parallel_map(_norms, split_prompts(states, lengths))
    return torch.tensor(pairs, dtype=torch.float64).reshape(*states.shape[:-2], 2)


def _norms(z: Float[Tensor, "tokens dim"]) -> tuple[float, float]:
    if not z.shape[0]:
        return math.nan, math.nan
    norms = torch.linalg.vector_norm(aligned(z, torch.promote_types(z.dtype, torch.float32)), dim=-1)
    smallest, largest = (float(end) for end in norms.aminmax())
    if not _SAFE[0] < smallest <= largest < _SAFE[1]:  # its squares may have left float32; True for NaN too
        exact = aligned(z.cpu(), torch.float64)
        scale = float(exact.abs().amax())
        if not math.isfinite(scale):
            return math.nan, math.nan
        norms = torch.linalg.vector_norm(exact / scale, dim=-1) * scale if scale > 0 else exact[:, 0]
    ordered = norms.cpu().to(torch.float64).sort().values
    median = float(ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
    return (float(ordered[-1]) / median if median > 0 else math.nan), float(norms[0])


def top_share(
    states: Float[Tensor, "*prompts tokens dim"],
    lengths: Int[Tensor, "*prompts"] | None = None,
    *,
    variant: Variant = "paper",
) -> Float64[Tensor, "*prompts"]:
    """Share of the largest eigenvalue: near 1, one direction drowns every entropy.

    p_1 = lambda_1 / sum(lambda) of the prompt's Gram matrix.

    Args:
        states: `*prompts tokens dim`; rows past a prompt's length are padding and never read.
        lengths: real tokens of each prompt; all rows where it is None.
        variant: of the states, see `spectrum.eigenvalues`.

    Returns:
        `*prompts` float64, share in [1 / min(T, D), 1]; NaN where nothing is left or a state is not finite. With
        M = |z_0|^2, R the other tokens' energy, c = M / R and a their R-weighted mean cos^2 to z_0, it is at least
        (c + a) / (c + 1).

    Raises:
        ValueError: a length is out of range.

    Paper: arXiv 2510.06477.
    """
    prepared = prepare_prompts(split_prompts(states, lengths), variant, "float32")
    return top_shares(prompt_spectra(prepared, variant)).reshape(states.shape[:-2])


def top_shares(spectra: Sequence[Float64[Tensor, " _"]]) -> Float64[Tensor, " spectra"]:
    """Share of the largest eigenvalue of each spectrum; NaN for an empty one."""
    return spectrum_values(spectra, lambda own: shares(own).amax())


def sink_rate(
    attentions: Float[Tensor, "*prompts heads tokens tokens"], lengths: Int[Tensor, "*prompts"] | None = None
) -> Float64[Tensor, "*prompts"]:
    """Share of the attention that goes to the first token.

    The mean over heads and queries i of A[head, i, 0].

    Args:
        attentions: `*prompts heads tokens tokens`, rows of attention weights; padding queries are never read.
        lengths: real tokens of each prompt; all where it is None.

    Returns:
        `*prompts` float64, share in [0, 1]; NaN without tokens or where a weight is not finite. The first query of a
        causal model attends to nothing else and counts as 1, so a prompt of T tokens has at least 1 / T.

    Raises:
        ValueError: a length is out of range.

    Paper: arXiv 2410.10781 (the importance of the first key), arXiv 2309.17453.
    """
    to_first = attentions[..., :1].flatten(-2).mT  # a slice, since there may be no first token
    rates = parallel_map(_mean_rate, split_prompts(to_first, lengths))
    return torch.tensor(rates, dtype=torch.float64).reshape(attentions.shape[:-3])


def _mean_rate(weights: Float[Tensor, "tokens heads"]) -> float:
    rate = aligned(weights, torch.float64).mean()
    return float(rate) if math.isfinite(rate) else math.nan
