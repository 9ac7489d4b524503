"""Spectra of subsets of the pooled vectors: what a jackknife over prompts asks for, with the products shared."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from layerscope.metrics.products import aligned, gram_of_many
from layerscope.metrics.spectrum import Variant, gram_spectrum, small_gram, vary
from layerscope.metrics.tall import MANY, tall_spectra
from layerscope.metrics.workers import parallel_map


def subset_spectra(
    pooled: Float[Tensor, "prompts dim"], subsets: Sequence[Int64[Tensor, " _"]], variant: Variant
) -> list[Float64[Tensor, " _"]]:
    """Eigenvalues of the Gram matrix of each subset of the pooled vectors, in float64.

    Where there are fewer prompts than dimensions one Gram matrix is cut to each subset; else each has its own product.

    Args:
        pooled: `prompts dim`, one vector a prompt.
        subsets: the prompts kept, as indices.
        variant: as in `TokenStates.spectra`; the mean is over the prompts kept.

    Returns:
        For each subset min(n, D) numbers, descending, as exact as squared singular values; none where nothing is kept
        or a kept vector is not finite.
    """
    usable = torch.cat([part.isfinite().all(-1) for part in torch.split(pooled, MANY)]).cpu()
    if usable.all() and pooled.shape[0] > MANY and all(len(kept) > pooled.shape[1] for kept in subsets):
        return tall_spectra(pooled.cpu(), subsets, variant)
    vectors = aligned(pooled.cpu(), torch.float64).where(usable.unsqueeze(-1), 0.0)
    shared = gram_of_many(vectors) if pooled.shape[0] <= pooled.shape[1] else None

    def spectrum(kept: Tensor) -> Tensor:
        if not kept.shape[0] or not bool(usable[kept].all()):
            return torch.empty(0, dtype=torch.float64)
        rows = vary(vectors[kept], variant)
        if not bool(rows.any()):
            return torch.zeros(min(rows.shape), dtype=torch.float64)
        gram = small_gram(rows, variant) if shared is None else _vary_gram(shared[kept][:, kept], variant)
        return gram_spectrum(gram, rows, variant)

    return parallel_map(spectrum, list(subsets))


def _vary_gram(gram: Float64[Tensor, "rows rows"], variant: Variant) -> Float64[Tensor, "rows rows"]:
    """The Gram matrix that the rows would have in a variant, from their own: H G H, G_ij / sqrt(G_ii G_jj).

    Only in float64: centring takes the difference of large numbers.
    """
    if variant not in ("paper", "unit"):
        gram = gram - gram.mean(-1, keepdim=True)
        gram = gram - gram.mean(-2, keepdim=True)
    if variant not in ("paper", "centered"):
        norms = gram.diagonal().clamp(min=0).sqrt()
        norms = norms.where(norms > 0, 1.0)
        gram = gram / norms[:, None] / norms
    return gram.clamp(min=0) if variant == "released" else gram
