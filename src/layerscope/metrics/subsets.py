"""Spectra of subsets of the pooled vectors: what a jackknife over prompts asks for, with the products shared."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from layerscope.metrics.products import aligned, gram_of_many
from layerscope.metrics.prompts import stack_rows
from layerscope.metrics.spectrum import Variant, gram_spectrum, small_gram, vary
from layerscope.metrics.workers import parallel_map


def everything(data: Float[Tensor, "prompts ..."]) -> list[Int64[Tensor, " kept"]]:
    """The one subset that keeps every prompt."""
    return [torch.arange(data.shape[0])]


def subset_sizes(subsets: Sequence[Int64[Tensor, " _"]]) -> Int64[Tensor, " subsets"]:
    """How many prompts each subset keeps."""
    return torch.tensor([kept.shape[0] for kept in subsets], dtype=torch.int64)


def vary_gram(gram: Float64[Tensor, "*some rows rows"], variant: Variant) -> Float64[Tensor, "*some rows rows"]:
    """The Gram matrix that the rows would have in a variant, from their own: H G H, G_ij / sqrt(G_ii G_jj).

    Only in float64: centring takes the difference of large numbers.
    """
    if variant in ("centered", "centered-unit", "released"):
        gram = gram - gram.mean(-1, keepdim=True)
        gram = gram - gram.mean(-2, keepdim=True)
    if variant in ("unit", "centered-unit", "released"):
        norms = gram.diagonal(dim1=-2, dim2=-1).clamp(min=0).sqrt()
        norms = norms.where(norms > 0, 1.0)
        gram = gram / norms.unsqueeze(-1) / norms.unsqueeze(-2)
    return gram.clamp(min=0) if variant == "released" else gram


def subset_eigenvalues(
    pooled: Float[Tensor, "prompts dim"],
    subsets: Sequence[Int64[Tensor, " _"]],
    *,
    variant: Variant = "paper",
) -> Float64[Tensor, "subsets k"]:
    """Eigenvalues of the Gram matrix of each subset of the pooled vectors, in float64.

    Where there are fewer prompts than dimensions one Gram matrix is cut to each subset; else each has its own product.

    Args:
        pooled: `prompts dim`, one vector a prompt.
        subsets: the prompts kept, as indices.
        variant: as in `spectrum.eigenvalues`; the mean is over the prompts kept.

    Returns:
        `subsets k` float64, k = min(prompts, dim), descending, as exact as squared singular values; 0 past a subset's
        own min(n, D); a row of NaN where a kept vector is not finite.
    """
    return stack_rows(subset_spectra(pooled, subsets, variant=variant), max(1, min(pooled.shape)))


def subset_spectra(
    pooled: Float[Tensor, "prompts dim"],
    subsets: Sequence[Int64[Tensor, " _"]],
    *,
    variant: Variant = "paper",
) -> list[Float64[Tensor, " _"]]:
    """`subset_eigenvalues`, each spectrum min(n, D) long; empty where `subset_eigenvalues` has NaN."""
    vectors = aligned(pooled.cpu(), torch.float64)
    usable = vectors.isfinite().all(-1)
    vectors = vectors.where(usable.unsqueeze(-1), 0.0)
    shared = gram_of_many(vectors) if pooled.shape[0] <= pooled.shape[1] else None

    def spectrum(kept: Tensor) -> Tensor:
        if not kept.shape[0] or not bool(usable[kept].all()):
            return torch.empty(0, dtype=torch.float64)
        rows = vary(vectors[kept], variant)
        if not bool(rows.any()):
            return torch.zeros(min(rows.shape), dtype=torch.float64)
        gram = small_gram(rows, variant) if shared is None else vary_gram(shared[kept][:, kept], variant)
        known_zeros = int(variant.startswith("centered") and kept.shape[0] <= pooled.shape[1])
        return gram_spectrum(gram, lambda: rows, known_zeros, refine=variant != "released")

    return parallel_map(spectrum, list(subsets))
