"""The shared maths: Gram matrices, their eigenvalues, and the entropy S_alpha of an eigenvalue distribution."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, TypeVar

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from layerscope.config import Precision
from layerscope.metrics.metric import PAPER, Setting
from layerscope.metrics.workers import aligned, parallel_map

Item = TypeVar("Item")
Result = TypeVar("Result")
# Eigenvalues, on the CPU, descending.
Spectrum = Float64[Tensor, " _"]
Variant = Literal["paper", "centered", "unit", "centered-unit", "released"]
SPECTRAL: tuple[Variant, ...] = ("paper", "centered", "unit", "centered-unit")
WITH_RELEASED: tuple[Variant, ...] = (*SPECTRAL, "released")

# Eigenvalues of a float64 Gram below this share of the largest one lose digits in their square root; measured against
# a float64 SVD, above it singular values are good to 1e-9 of the largest.
_SQUARING_LIMIT = 1e-10
# A trace outside of this range, or NaN, may come from squares that left float32.
_PLAIN_ENERGY = (1e-18, 1e30)
# From this side on a GPU's eigvalsh is worth its launch; below, the CPU's workers are faster.
_GPU_SIDE = 512


class Prepared(NamedTuple):
    """The rows of a variant, their small Gram matrix, and the power of two that the states were divided by."""

    rows: Float[Tensor, "tokens dim"]
    gram: Float[Tensor, "k k"]
    scale: float


def variant_of(setting: Setting, known: tuple[Variant, ...] = SPECTRAL) -> Variant:
    """The variant of a setting. Raises ValueError where it is none of those known."""
    for variant in known:
        if variant == setting.variant:
            return variant
    raise ValueError(f"expected one of the variants {', '.join(known)}, got {setting.variant!r}")


def prepare_prompts(prompts: Sequence[Tensor], variant: Variant, precision: Precision) -> list[Prepared | None]:
    """`prepare` of prompts of different lengths, `tokens dim` each."""
    # Large eigenproblems stay on a CUDA device; everything else goes to the CPU's workers (MPS lacks float64 as well).
    placed = [z if z.is_cuda and min(z.shape) >= _GPU_SIDE else z.cpu() for z in prompts]
    return _map_where_they_lie(lambda z: prepare(z, variant, precision), placed, [z.is_cuda for z in placed])


def prompt_spectra(prepared: list[Prepared | None], variant: Variant) -> list[Spectrum]:
    """Eigenvalues of prepared prompts, as `TokenStates.spectra` says."""

    def spectrum(found: Prepared | None) -> Spectrum:
        if found is None:
            return torch.empty(0, dtype=torch.float64)
        values = gram_spectrum(found.gram, found.rows, variant).cpu()
        return values if found.scale == 1 else values * found.scale**2

    on_gpu = [found is not None and found.gram.is_cuda for found in prepared]
    return _map_where_they_lie(spectrum, prepared, on_gpu)


def _map_where_they_lie(
    function: Callable[[Item], Result], items: Sequence[Item], on_gpu: Sequence[bool]
) -> list[Result]:
    # The workers' items are computed as they would be without the others, also beside one that a GPU computes.
    others = iter(parallel_map(function, [item for item, gpu in zip(items, on_gpu, strict=True) if not gpu]))
    return [function(item) if gpu else next(others) for item, gpu in zip(items, on_gpu, strict=True)]


def entropies(spectra: Sequence[Spectrum], alpha: float) -> Float64[Tensor, " spectra"]:
    """S_alpha of each spectrum from its own eigenvalues; NaN for an empty one."""
    return spectrum_values(spectra, lambda own: renyi(shares(own), alpha))


def spectrum_values(spectra: Sequence[Spectrum], value: Callable[[Spectrum], Tensor]) -> Float64[Tensor, " spectra"]:
    """One number of each spectrum; NaN for an empty one.

    Each is computed from its own eigenvalues alone: the order of a sum, and so its last bit, follows from the length of
    what is summed, which zeros up to the longest spectrum of a batch would change.
    """
    found = parallel_map(lambda own: float(value(own)) if own.shape[0] else math.nan, spectra)
    return torch.tensor(found, dtype=torch.float64)


def prepare(z: Float[Tensor, "tokens dim"], variant: Variant, precision: Precision) -> Prepared | None:
    """What one prompt's spectrum is read from; None where there are no tokens or a state is not finite."""
    if not z.shape[0]:
        return None
    dtype = torch.float64 if precision == "float64" else torch.float32
    # Converted BEFORE the product: a bfloat16 Gram matrix errs by up to 0.09 nats.
    rows = vary(aligned(z, dtype), variant)
    gram = small_gram(rows, variant)
    energy = float(gram.trace())  # holds every number's square: no second pass over the states for their checks
    complete = not variant.endswith(("unit", "released")) or energy > z.shape[0] - 0.5
    if _PLAIN_ENERGY[0] < energy < _PLAIN_ENERGY[1] and complete:
        return Prepared(rows, gram, 1.0)
    exact = aligned(z, torch.float64)
    peak = float(exact.abs().amax())
    if not math.isfinite(peak):
        return None
    scale = 2.0 ** max(-500, min(500, math.frexp(peak)[1]))
    rows = vary(exact / scale, variant).to(dtype)
    return Prepared(rows, small_gram(rows, variant), 1.0 if variant.endswith(("unit", "released")) else scale)


def vary(rows: Float[Tensor, "rows dim"], variant: Variant) -> Float[Tensor, "rows dim"]:
    """The rows in a variant: mean row removed, scaled to norm 1, both in that order, or as they are."""
    if variant not in ("paper", "unit"):
        rows = center(rows)
    return rows if variant in ("paper", "centered") else unit(rows)


def center(rows: Float[Tensor, "rows dim"]) -> Float[Tensor, "rows dim"]:
    """The rows minus their mean; exactly zero where all rows are identical."""
    if rows.shape[0] < 2:
        return torch.zeros_like(rows)
    centered: Tensor = rows - rows.mean(0)
    # The mean of large equal numbers is rounded, so identical rows would leave noise that looks like a spectrum.
    if centered.abs().amax() <= 1e-4 * rows.abs().amax():
        if bool((rows == rows[0]).all()):
            return torch.zeros_like(rows)
        centered -= centered.mean(0)
    return centered


def unit(rows: Float[Tensor, "*rows dim"]) -> Float[Tensor, "*rows dim"]:
    """Rows scaled to norm 1. A zero row has no direction and stays zero."""
    norms = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
    scaled: Tensor = rows / norms.masked_fill(norms == 0, 1.0)
    return scaled


def small_gram(rows: Float[Tensor, "rows dim"], variant: Variant) -> Float[Tensor, "k k"]:
    """Z Z^T or Z^T Z, whichever is smaller; for `released` with its negative entries set to zero."""
    gram: Tensor = rows @ rows.mT if rows.shape[0] <= rows.shape[1] else rows.mT @ rows
    return gram.clamp(min=0) if variant == "released" else gram


def gram_spectrum(gram: Float[Tensor, "k k"], rows: Float[Tensor, "rows dim"], variant: Variant) -> Spectrum:
    """Eigenvalues of the Gram matrix of rows in a variant, clamped at 0; the one that centring leaves is 0.

    In float64 they are as exact as squared singular values: squaring hides singular values below 1e-8 of the largest,
    so where the Gram matrix has such, the singular values of the rows are taken instead.
    """
    values: Tensor = torch.linalg.eigvalsh(gram).to(torch.float64).flip(0).clamp_(min=0)
    kept = values.shape[0] - int(variant.startswith("centered") and rows.shape[0] <= rows.shape[1])
    values[kept:] = 0
    exact = gram.dtype == torch.float64 and variant != "released" and kept > 0
    if exact and 0 <= values[kept - 1] <= _SQUARING_LIMIT * values[0]:
        values[:kept] = torch.linalg.svdvals(rows)[:kept].square()
    return values


def shares(eigenvalues: Float[Tensor, "*prompts k"]) -> Float64[Tensor, "*prompts k"]:
    """Non-negative eigenvalues as a distribution: p_i = lambda_i / sum(lambda).

    `*prompts k` float64 in [0, 1], each row summing to 1; NaN where a row is all zero or holds NaN.
    """
    values = eigenvalues.to(torch.float64)
    return values / values.sum(-1, keepdim=True)


def renyi(p: Float64[Tensor, "*prompts k"], alpha: float) -> Float64[Tensor, "*prompts"]:
    """Matrix-based entropy of a distribution of eigenvalues.

    S_alpha = log(sum p^alpha) / (1 - alpha); S_1 = -sum p log p; S_inf = -log max p.

    Args:
        p: `*prompts k`, each row non-negative with sum 1; zeros are allowed and count nothing.
        alpha: order, in (0, inf]; 1 and inf are exact, and values near 1 lose no digits.

    Returns `*prompts` float64, nats, in [0, log k]; NaN where a row holds NaN.
    Raises ValueError: alpha is not in (0, inf].
    Paper: arXiv 2412.09563, eq. 1; Giraldo et al. 2014.
    """
    if not alpha > 0:
        raise ValueError(f"expected an order alpha in (0, inf], got {alpha}")
    largest = p.amax(-1)
    if math.isinf(alpha):
        return (-largest.log()).clamp(min=0)
    if alpha == 1:
        return (-torch.xlogy(p, p).sum(-1)).clamp(min=0)
    logs = p.where(p > 0, 1.0).log()  # a NaN row stays NaN through p, an empty eigenvalue counts nothing
    if abs(alpha - 1) < 0.1:
        # log(sum p^alpha) / (1 - alpha) is 0/0 at 1; this form keeps all digits because sum p = 1.
        power_sum = torch.log1p((p * torch.expm1((alpha - 1) * logs)).sum(-1))
        return (power_sum / (1 - alpha)).clamp(min=0)
    # Relative to the largest share, so that no power underflows at large alpha.
    ratios = (p / largest.unsqueeze(-1)).pow(alpha).sum(-1)
    return (alpha / (1 - alpha) * largest.log() + ratios.log() / (1 - alpha)).clamp(min=0)


def collision_entropies(prepared: list[Prepared | None]) -> Float64[Tensor, " prompts"]:
    """S_2 of each prompt without an eigendecomposition, -log(sum K_ij^2 / trace(K)^2); not of `released`."""

    def collision(found: Prepared | None) -> float:
        trace = 0.0 if found is None else float(found.gram.diagonal().sum(dtype=torch.float64))
        if found is None or trace == 0:
            return math.nan
        purity = float((found.gram / trace).square().sum(dtype=torch.float64))  # squares of squares would overflow
        return min(max(-math.log(purity), 0.0), math.log(found.gram.shape[0]))

    return torch.tensor(parallel_map(collision, prepared), dtype=torch.float64)


def degenerate_reason(data: Float[Tensor, "rows dim"], setting: Setting = PAPER) -> str:
    """Why the spectrum of one prompt's states, or of pooled vectors, gives NaN, in words; "" where it does not."""
    if not data.shape[0]:
        return "no tokens"
    if not bool(data.isfinite().all()):
        return "non-finite states"
    if not bool(data.any()):
        return "all-zero states"
    if setting.variant in ("paper", "unit"):
        return ""
    if data.shape[0] == 1:
        return "one token: nothing is left after centring"
    return "identical rows: nothing is left after centring" if bool((data == data[0]).all()) else ""
