"""Spectra of subsets of the pooled vectors: what a jackknife over prompts asks for, with the products shared."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from layerscope.metrics.metric import Subset
from layerscope.metrics.spectrum import Spectrum, Variant, gram_spectrum, small_gram, unit, vary
from layerscope.metrics.workers import aligned, gram_of_many, parallel_map

MANY = 4096
"""Vectors from which on copies of them in float64, one for each subset, are too much."""
_ROWS = 1024  # in float64 at once


def subset_spectra(pooled: Float[Tensor, "prompts dim"], subsets: Sequence[Subset], variant: Variant) -> list[Spectrum]:
    """Eigenvalues of the Gram matrix of each subset of the pooled vectors, in float64; the mean is over the prompts kept.

    For each subset min(n, D) numbers, as exact as squared singular values; none where nothing is kept or a kept vector
    is not finite. With fewer prompts than dimensions one Gram matrix is cut to each subset; else each has its own
    product.
    """
    usable = torch.cat([part.isfinite().all(-1) for part in torch.split(pooled, _ROWS)]).cpu()
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


def tall_spectra(pooled: Float[Tensor, "prompts dim"], subsets: Sequence[Subset], variant: Variant) -> list[Spectrum]:
    """Eigenvalues of the Gram matrix of each subset of more vectors than dimensions.

    A triangle R with RᵀR = ZᵀZ stands for the rows Z, and the triangle of several R for all of their rows: each vector is
    looked at once, however many subsets it is in, and small eigenvalues keep the digits that squaring would lose. Of rows
    with a one in front, R without its first row and column is the triangle of the rows minus their mean, and the mean is
    its first row over its first entry. Only where each subset scales the rows itself (centered-unit, released) it looks
    at them again. The vectors are finite, and each subset keeps more of them than there are dimensions.

    Source: Golub & Van Loan 2013, section 5.2; Demmel et al. 2012 (TSQR).
    """
    centered = variant not in ("paper", "unit")
    # Centring does not feel what all rows have in common, and without it the first column hides no digits.
    origin = pooled[0].to(torch.float64) if centered else torch.zeros(())
    kind_of = torch.zeros(len(pooled), dtype=torch.int64)
    for kept in subsets:
        kind_of = torch.unique((2 * kind_of).index_add_(0, kept, torch.ones_like(kept)), return_inverse=True)[1]

    def group(kind: int) -> Tensor:
        parts = (part - origin for part in _parts(pooled, (kind_of == kind).nonzero()[:, 0]))
        if centered:
            return _triangle(torch.cat([torch.ones_like(part[:, :1]), part], 1) for part in parts)
        return _triangle(map(unit, parts) if variant == "unit" else parts)

    groups = parallel_map(group, range(int(kind_of.max()) + 1))

    def spectrum(place: int) -> Tensor:
        found = _triangle(groups[kind] for kind in torch.unique(kind_of[subsets[place]]).tolist())
        if centered:
            first, found = found[0], found[1:, 1:]
            if found.abs().amax() <= 1e-13 * first.abs().amax():  # identical rows leave what rounding left
                found = torch.zeros_like(found)
            mean = first[1:] / first[0]
            if variant != "centered" and bool(found.any()):
                found = _triangle(unit(part - origin - mean) for part in _parts(pooled, subsets[place]))
        values: Tensor
        if variant == "released":
            values = torch.linalg.eigvalsh((found.mT @ found).clamp(min=0)).flip(0).clamp(min=0)
        else:
            values = torch.linalg.svdvals(found).square()
        return values

    return parallel_map(spectrum, range(len(subsets)))


def _parts(pooled: Tensor, rows: Subset) -> Iterable[Float64[Tensor, "_ dim"]]:
    return (aligned(pooled[part], torch.float64) for part in torch.split(rows, _ROWS))


def _triangle(parts: Iterable[Float64[Tensor, "_ columns"]]) -> Float64[Tensor, "_ columns"]:
    """Fewer rows than columns or as many, of the same Gram matrix as all rows of the parts."""
    found: Tensor | None = None
    for part in parts:
        rows = part if found is None else torch.cat([found, part])
        found = torch.linalg.qr(rows, mode="r").R
    if found is None:
        raise ValueError("expected one row or more, got none")
    return found
