"""Matrix-based entropies: of one prompt's tokens, of the pooled prompts, and LogDet."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from layerscope.config import Normalization
from layerscope.metrics.metric import PAPER, Metric, Setting, Values
from layerscope.metrics.sources import PooledVectors, TokenStates
from layerscope.metrics.spectrum import (
    WITH_RELEASED,
    collision_entropies,
    degenerate_reason,
    entropies,
    spectrum_values,
    variant_of,
)

LOGDET_RIDGE = 1e-8


def prompt_entropy(source: TokenStates, setting: Setting = PAPER) -> Values:
    """How many directions the tokens of a prompt spread over, as an entropy.

    S_alpha of p = eigenvalues(K) / trace(K), K the Gram matrix of the prompt's token states in a variant of
    `TokenStates.spectra`; alpha is in (0, inf], and `normalizer` has the normalizations. Of the source's precision,
    float32 is within 1e-4 nats of the exact value, float64 within 1e-10.

    Returns `prompts` float64: nats in [0, log min(T, D)], or a share in [0, 1] where normalised; NaN where nothing is
    left or a state is not finite, and for every normalised form of a single token.
    Raises ValueError: alpha is out of range.
    Paper: arXiv 2412.09563, eq. 1 and appendix B. The authors' code measures `released` and divides by the trace,
    which their clamped matrix's negative eigenvalues make too small; here p always sums to 1.
    """
    alpha, variant, precision = setting.order, variant_of(setting, WITH_RELEASED), source.precision
    if alpha == 2 and variant != "released":
        key = ("collision entropy", variant)
        entropy = source.once(key, lambda: collision_entropies(source.prepared(variant, precision)))
    else:
        # Below order 1 small eigenvalues count most, and in float32 the zeros of repeated tokens are noise of 1e-8: at
        # order 1/2 that is worth 1e-3 nats, ten times what float32 is allowed to be wrong by.
        entropy = entropies(source.spectra(variant, "float64" if alpha < 1 else precision), alpha)
    return entropy / normalizer(source.lengths, source.states.shape[-1], setting.normalization)


def dataset_entropy(source: PooledVectors, setting: Setting = PAPER) -> Values:
    """How many directions the prompts of a data set spread over, as an entropy.

    S_alpha of p = eigenvalues(K) / trace(K), K the Gram matrix of the pooled prompt vectors. It depends on the number
    N of prompts: compare only values of the same N. Settings are as in `prompt_entropy`, with the mean over prompts.

    Returns `subsets` float64: nats in [0, log min(N, D)], or a share in [0, 1] where normalised; NaN where nothing is
    left or a vector is not finite.
    Raises ValueError: alpha is out of range.
    Paper: arXiv 2412.09563, appendix B. The authors' released files hold `max`-normalised values up to 1.93.
    """
    entropy = entropies(source.spectra(variant_of(setting, WITH_RELEASED)), setting.order)
    return entropy / normalizer(source.sizes, source.pooled.shape[-1], setting.normalization)


def normalizer(rows: Int[Tensor, " values"], dim: int, normalization: Normalization | None) -> Values:
    """What an entropy of `rows` vectors of `dim` numbers is divided by.

    none (or None): 1; max: log min(T, D); logN: log T; logD: log D; logNlogD: log T * log D, with T = `rows` tokens (or
    N prompts) and D = `dim`. NaN (but for none) where min(T, D) < 2, since an entropy that can only be 0 has no share,
    and where the divisor is below the entropy's largest value (logNlogD at T = D = 2), since it would exceed 1.

    Paper: arXiv 2412.09563, appendix B; the names are those of the authors' code (max is their maxEntropy).
    """
    counts = rows.cpu().to(torch.float64)
    if normalization in (None, "none"):
        return torch.ones_like(counts)
    log_rows = counts.new_tensor([math.log(count) if count else -math.inf for count in counts.tolist()])
    log_dim = torch.full_like(counts, math.log(dim) if dim else -math.inf)
    largest = torch.minimum(log_rows, log_dim)
    divisor = {"max": largest, "logN": log_rows, "logD": log_dim, "logNlogD": log_rows * log_dim}[normalization]
    return divisor.where((largest > 0) & (divisor >= largest), math.nan)


def entropy_reason(data: Float[Tensor, "rows dim"], setting: Setting = PAPER) -> str:
    """Why an entropy is NaN: of one prompt's states, or of pooled vectors."""
    reason = degenerate_reason(data, setting)
    if reason or setting.normalization in (None, "none"):
        return reason
    rows, dim = data.shape
    if min(rows, dim) < 2:
        return f"one {'token' if rows < 2 else 'dimension'}: entropy is 0 and has no normalised form"
    divisor = normalizer(torch.tensor([rows]), dim, setting.normalization)
    return f"{setting.normalization} is no bound of the entropy at {rows} x {dim}" if bool(divisor.isnan()) else ""


def logdet_entropy(source: TokenStates, setting: Setting = PAPER, *, ridge: float = LOGDET_RIDGE) -> Values:
    """The log-volume that the tokens of a prompt span.

    log det(K + r I) - log 2 with K the smaller of Z Z^T and Z^T Z, k = min(T, D) and r = ridge * trace(K) / k: that
    share of the mean eigenvalue is added to all, so that repeated tokens give no -inf. Variants: paper, unit.

    Returns `prompts` float64, nats, any real number: scaling the states by c adds 2 k log c, so compare it only between
    prompts of equal length in one model; NaN where nothing is left or a state is not finite.
    Paper: arXiv 2412.09563, appendix D, which writes K = Z Z^T without a ridge: that determinant is 0 whenever T > D
    or a token repeats.
    """

    def logdet(own: Tensor) -> Tensor:
        trace = own.sum()
        value = (own + ridge * trace / own.shape[0]).log().sum() - math.log(2)
        return value.where(trace > 0, math.nan)

    return spectrum_values(source.spectra(variant_of(setting, ("paper", "unit"))), logdet)


PROMPT_ENTROPY = Metric(
    name="prompt_entropy",
    family="entropy",
    shape="tokens dim",
    values=prompt_entropy,
    reason=entropy_reason,
    summary="how many directions the tokens of a prompt spread over, as an entropy",
    unit="nats",
    range="[0, log min(T, D)]; [0, 1] normalised",
    direction="higher: tokens more spread out; lower: more compressed",
    variants=WITH_RELEASED,
    has_alpha=True,
    has_normalization=True,
    paper="arXiv 2412.09563, eq. 1, appendix B",
)
DATASET_ENTROPY = replace(
    PROMPT_ENTROPY,
    name="dataset_entropy",
    shape="prompts dim",
    values=dataset_entropy,
    summary="how many directions the prompts spread over, as an entropy",
    range="[0, log min(N, D)]; [0, 1] normalised",
    direction="higher: prompts more spread out",
)
LOGDET_ENTROPY = Metric(
    name="logdet_entropy",
    family="logdet",
    shape="tokens dim",
    values=logdet_entropy,
    reason=degenerate_reason,
    summary="log-volume that the tokens of a prompt span",
    unit="nats",
    range="any real number; depends on scale and length",
    direction="higher: larger volume",
    variants=("paper", "unit"),
    paper="arXiv 2412.09563, appendix D",
)
