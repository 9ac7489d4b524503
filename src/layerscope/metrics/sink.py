"""Diagnostics of massive activations and attention sinks, which explain the curves of the other metrics."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from layerscope.metrics.metric import PAPER, Metric, Setting, Values
from layerscope.metrics.sources import TokenStates
from layerscope.metrics.spectrum import SPECTRAL, degenerate_reason, shares, spectrum_values, variant_of
from layerscope.metrics.workers import aligned, parallel_map

_SAFE = (1e-15, 1e15)


def norm_ratio(source: TokenStates, _: Setting = PAPER) -> Values:
    """How far the largest token stands out of a prompt: max_i |z_i| / median_i |z_i|.

    Returns `prompts` float64, ratio in [1, inf); NaN without tokens, where the median norm is 0 or a state is not
    finite.
    Paper: massive activations, arXiv 2402.17762.
    """
    return _ratio_and_first(source)[:, 0]


def first_token_norm(source: TokenStates, _: Setting = PAPER) -> Values:
    """Norm |z_0| of a prompt's first token, where decoders keep their massive activation.

    Returns `prompts` float64, in the units of the states, [0, inf); NaN without tokens or where a state is not finite.
    Paper: arXiv 2402.17762.
    """
    return _ratio_and_first(source)[:, 1]


def norm_reason(states: Float[Tensor, "tokens dim"], _: Setting = PAPER) -> str:
    """Why a norm ratio is NaN."""
    reason = degenerate_reason(states)
    return reason or ("" if bool(states.any(-1).float().quantile(0.5) > 0) else "the median token norm is 0")


def _ratio_and_first(source: TokenStates) -> Float64[Tensor, "prompts two"]:
    found = source.once("norms", lambda: parallel_map(_norms, source.split(source.states)))
    return torch.tensor(found, dtype=torch.float64).reshape(-1, 2)


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


def top_share(source: TokenStates, setting: Setting = PAPER) -> Values:
    """Share of the largest eigenvalue: near 1, one direction drowns every entropy.

    p_1 = lambda_1 / sum(lambda) of the prompt's Gram matrix in the source's precision; the variants of
    `TokenStates.spectra` but `released`.

    Returns `prompts` float64, share in [1 / min(T, D), 1]; NaN where nothing is left or a state is not finite. At
    least (c + a) / (c + 1) with c = |z_0|^2 / R, R the other tokens' energy and a their R-weighted mean cos^2 to z_0.
    Paper: arXiv 2510.06477.
    """
    return spectrum_values(source.spectra(variant_of(setting), source.precision), lambda own: shares(own).amax())


def sink_rate(source: TokenStates, _: Setting = PAPER) -> Values:
    """Share of the attention that goes to the first token.

    The mean over heads and queries i of A[head, i, 0], the source's attention weights; padding queries are never read.

    Returns `prompts` float64, share in [0, 1]; NaN without tokens or where a weight is not finite. The first query of a
    causal model attends to nothing else and counts as 1, so a prompt of T tokens has at least 1 / T.
    Raises ValueError: the source holds no attentions.
    Paper: arXiv 2410.10781 (the importance of the first key), arXiv 2309.17453.
    """
    if source.attentions is None:
        raise ValueError("expected attentions for sink_rate, got states only: capture the attentions too")
    to_first = source.attentions[..., :1].flatten(-2).mT  # a slice, since there may be no first token
    rates = parallel_map(lambda own: float(aligned(own, torch.float64).mean()), source.split(to_first))
    return torch.tensor([rate if math.isfinite(rate) else math.nan for rate in rates], dtype=torch.float64)


def sink_rate_reason(states: Float[Tensor, "tokens dim"], _: Setting = PAPER) -> str:
    """Why a sink rate is NaN."""
    return "no tokens" if not states.shape[0] else "non-finite attentions"


NORM_RATIO = Metric(
    name="norm_ratio",
    family="sink",
    shape="tokens dim",
    values=norm_ratio,
    reason=norm_reason,
    summary="largest token norm over the median token norm of a prompt",
    unit="ratio",
    range="[1, inf)",
    direction="higher: one token carries a massive activation",
    paper="arXiv 2402.17762",
)
FIRST_TOKEN_NORM = replace(
    NORM_RATIO,
    name="first_token_norm",
    values=first_token_norm,
    summary="norm of a prompt's first token",
    unit="state units",
    range="[0, inf)",
    direction="higher: larger first token",
    needs_first_token=True,
)
TOP_SHARE = replace(
    NORM_RATIO,
    name="top_share",
    values=top_share,
    reason=degenerate_reason,
    summary="share p_1 of the largest eigenvalue of a prompt's Gram matrix",
    unit="share",
    range="[1 / min(T, D), 1]",
    direction="higher: one direction drowns the others",
    variants=SPECTRAL,
    paper="arXiv 2510.06477",
)
SINK_RATE = replace(
    FIRST_TOKEN_NORM,
    name="sink_rate",
    values=sink_rate,
    reason=sink_rate_reason,
    summary="mean share of the attention that goes to the first token",
    unit="share",
    range="[0, 1]",
    direction="higher: the first token is more of an attention sink",
    needs="attentions",
    paper="arXiv 2410.10781",
    in_all=False,
)
