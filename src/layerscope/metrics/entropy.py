"""Matrix-based entropies: of one prompt's tokens, of the pooled prompts, and LogDet."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Float64, Int, Int64
from torch import Tensor

from layerscope.config import Normalization, Precision
from layerscope.metrics.prompts import split_prompts
from layerscope.metrics.spectrum import (
    Variant,
    collision_entropy,
    prepare_prompts,
    prompt_spectra,
    renyi,
    shares,
    spectrum_values,
)
from layerscope.metrics.subsets import everything, subset_sizes, subset_spectra

LOGDET_RIDGE = 1e-8


def prompt_entropy(
    states: Float[Tensor, "*prompts tokens dim"],
    lengths: Int[Tensor, "*prompts"] | None = None,
    *,
    alpha: float = 1.0,
    variant: Variant = "paper",
    normalization: Normalization = "none",
    precision: Precision = "float32",
) -> Float64[Tensor, "*prompts"]:
    """How many directions the tokens of a prompt spread over, as an entropy.

    S_alpha of p = eigenvalues(K) / trace(K), K the Gram matrix of the prompt's token states.

    Args:
        states: `*prompts tokens dim`; rows past a prompt's length are padding and never read.
        lengths: real tokens of each prompt; all rows where it is None.
        alpha: order, in (0, inf].
        variant: of the states, see `spectrum.eigenvalues`.
        normalization: none, max, logN, logD, logNlogD, see `normalizer`.
        precision: of the eigenvalues: float32 is within 1e-4 nats of the exact value, float64 within 1e-10. Orders
            below 1 always use float64, see `precision_for`.

    Returns:
        `*prompts` float64: nats in [0, log min(T, D)], or a share in [0, 1] where normalised; NaN where nothing is
        left or a state is not finite, and for every normalised form of a single token.

    Raises:
        ValueError: a length or alpha is out of range.

    Paper: arXiv 2412.09563, eq. 1 and appendix B. The authors' code measures `released` and divides by the trace,
    which their clamped matrix's negative eigenvalues make too small; here p always sums to 1.
    """
    if alpha == 2 and variant != "released":
        entropy = collision_entropy(states, lengths, variant=variant, precision=precision)
    else:
        prepared = prepare_prompts(split_prompts(states, lengths), variant, precision_for(alpha, precision))
        entropy = entropies(prompt_spectra(prepared, variant), alpha).reshape(states.shape[:-2])
    tokens, dim = states.shape[-2:]
    rows = torch.full(states.shape[:-2], tokens) if lengths is None else lengths
    return entropy / normalizer(rows, dim, normalization)


def entropies(spectra: Sequence[Float64[Tensor, " _"]], alpha: float) -> Float64[Tensor, " spectra"]:
    """S_alpha of each spectrum from its own eigenvalues; NaN for an empty one."""
    return spectrum_values(spectra, lambda own: renyi(shares(own), alpha))


def precision_for(alpha: float, precision: Precision) -> Precision:
    """The precision that an order of the entropy needs.

    Below order 1 small eigenvalues count most, and in float32 the zeros of repeated tokens are noise of 1e-8: at
    order 1/2 that is worth 1e-3 nats, ten times what float32 is allowed to be wrong by.
    """
    return "float64" if alpha < 1 else precision


def dataset_entropy(
    pooled: Float[Tensor, "prompts dim"],
    *,
    alpha: float = 1.0,
    variant: Variant = "paper",
    normalization: Normalization = "none",
) -> Float64[Tensor, ""]:
    """How many directions the prompts of a data set spread over, as an entropy.

    S_alpha of p = eigenvalues(K) / trace(K), K the Gram matrix of the pooled prompt vectors. It depends on the number
    of prompts: compare only values of the same N.

    Args:
        pooled: `prompts dim`, one vector a prompt.
        alpha: order, in (0, inf].
        variant: of the vectors, see `spectrum.eigenvalues` (the mean is over prompts).
        normalization: none, max, logN, logD, logNlogD, with N the number of prompts.

    Returns:
        Scalar float64: nats in [0, log min(N, D)], or a share in [0, 1] where normalised; NaN where nothing is left
        or a vector is not finite.

    Raises:
        ValueError: alpha is out of range.

    Paper: arXiv 2412.09563, appendix B. The authors' released files hold `max`-normalised values up to 1.93.
    """
    whole = everything(pooled)
    return dataset_entropy_of_subsets(pooled, whole, alpha=alpha, variant=variant, normalization=normalization)[0]


def dataset_entropy_of_subsets(
    pooled: Float[Tensor, "prompts dim"],
    subsets: Sequence[Int64[Tensor, " _"]],
    *,
    alpha: float = 1.0,
    variant: Variant = "paper",
    normalization: Normalization = "none",
) -> Float64[Tensor, " subsets"]:
    """`dataset_entropy` of each subset of the prompts, from one Gram matrix."""
    entropy = entropies(subset_spectra(pooled, subsets, variant=variant), alpha)
    return entropy / normalizer(subset_sizes(subsets), pooled.shape[-1], normalization)


def normalizer(rows: Int[Tensor, "*prompts"], dim: int, normalization: Normalization) -> Float64[Tensor, "*prompts"]:
    """What an entropy of `rows` vectors of `dim` numbers is divided by.

    none: 1; max: log min(T, D); logN: log T; logD: log D; logNlogD: log T * log D.

    Args:
        rows: `*prompts`, the number T of tokens (or N of prompts).
        dim: D.
        normalization: its name.

    Returns:
        `*prompts` float64; NaN (but for none) where min(T, D) < 2, since an entropy that can only be 0 has no share,
        and where the divisor is below the entropy's largest value (logNlogD at T = D = 2), since it would exceed 1.

    Paper: arXiv 2412.09563, appendix B; the names are those of the authors' code (max is their maxEntropy).
    """
    counts = rows.cpu().to(torch.float64)
    if normalization == "none":
        return torch.ones_like(counts)
    logs = [math.log(count) if count else -math.inf for count in counts.flatten().tolist()]
    log_rows = torch.tensor(logs, dtype=torch.float64).reshape(counts.shape)
    log_dim = torch.full_like(counts, math.log(dim) if dim else -math.inf)
    largest = torch.minimum(log_rows, log_dim)
    divisors = {"max": largest, "logN": log_rows, "logD": log_dim, "logNlogD": log_rows * log_dim}
    divisor = divisors[normalization]
    return divisor.where((largest > 0) & (divisor >= largest), math.nan)


def logdet_entropy(
    states: Float[Tensor, "*prompts tokens dim"],
    lengths: Int[Tensor, "*prompts"] | None = None,
    *,
    variant: Variant = "paper",
    ridge: float = LOGDET_RIDGE,
) -> Float64[Tensor, "*prompts"]:
    """The log-volume that the tokens of a prompt span.

    log det(K + r I) - log 2 with K the smaller of Z Z^T and Z^T Z, k = min(T, D) and r = ridge * trace(K) / k.

    Args:
        states: `*prompts tokens dim`; rows past a prompt's length are padding and never read.
        lengths: real tokens of each prompt; all rows where it is None.
        variant: of the states, see `spectrum.eigenvalues`.
        ridge: share of the mean eigenvalue added to every eigenvalue, so that repeated tokens give no -inf.

    Returns:
        `*prompts` float64, nats, any real number: scaling the states by c adds 2 k log c, so compare it only between
        prompts of equal length in one model; NaN where nothing is left or a state is not finite.

    Raises:
        ValueError: a length is out of range.

    Paper: arXiv 2412.09563, appendix D, which writes K = Z Z^T without a ridge: that determinant is 0 whenever T > D
    or a token repeats.
    """
    prepared = prepare_prompts(split_prompts(states, lengths), variant, "float64")
    return logdets(prompt_spectra(prepared, variant), ridge).reshape(states.shape[:-2])


def logdets(spectra: Sequence[Float64[Tensor, " _"]], ridge: float = LOGDET_RIDGE) -> Float64[Tensor, " spectra"]:
    """LogDet entropy of each spectrum of all k eigenvalues; NaN for an empty one."""

    def logdet(own: Tensor) -> Tensor:
        trace = own.sum()
        value = (own + ridge * trace / own.shape[0]).log().sum() - math.log(2)
        return value.where(trace > 0, math.nan)

    return spectrum_values(spectra, logdet)
