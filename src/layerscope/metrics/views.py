"""Two views of each prompt as one matrix of cosines, which a subset of the prompts is cut from."""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float, Float32, Float64, Int64
from torch import Tensor

from layerscope.metrics.products import aligned, gram_of_many

ViewVariant = Literal["paper", "centered", "unit", "centered-unit"]

# Centring a float64 Gram matrix leaves at most this share of a row's energy as rounding.
_ROUNDING = 1e-13
_ROWS = 256


def pair_gram(views: Float[Tensor, "prompts views dim"]) -> Float64[Tensor, "two prompts two prompts"]:
    """Inner products between all first two views, in float64.

    Raises ValueError where there are fewer than two views a prompt.
    """
    if views.shape[1] < 2:
        raise ValueError(f"expected 2 or more views a prompt, got {views.shape[1]}")
    count = views.shape[0]
    rows = aligned(views[:, :2].transpose(0, 1).reshape(2 * count, -1).cpu(), torch.float64)
    return gram_of_many(rows).reshape(2, count, 2, count)


def subset_cosines(
    gram: Float64[Tensor, "two prompts two prompts"], kept: Int64[Tensor, " kept"], variant: ViewVariant
) -> Float64[Tensor, "two kept two kept"] | None:
    """Cosines between the views of the kept prompts; each view's mean over them removed first where centred.

    None with fewer than 2 prompts, or where a view is not finite or has no direction (zero, or equal to the mean).
    """
    prompts, count = gram.shape[1], kept.shape[0]
    both = torch.cat((kept, prompts + kept))
    inner = _cut(gram.reshape(2 * prompts, 2 * prompts), both).reshape(2, count, 2, count)
    energy = _diagonal(inner)
    _center(inner, variant, axes=(1, 3))
    norms = _norms(_diagonal(inner), energy)
    if norms is None or not math.isfinite(float(inner.sum())):
        return None
    inner /= norms[:, :, None, None]
    inner /= norms
    return inner


def within_cosines(
    gram: Float64[Tensor, "two prompts two prompts"], kept: Int64[Tensor, " kept"], variant: ViewVariant
) -> Float32[Tensor, "two kept kept"] | None:
    """The two blocks of `subset_cosines` inside view 1 and inside view 2, in float32, and None where it is."""
    blocks = torch.empty(2, kept.shape[0], kept.shape[0])
    for view in (0, 1):
        inner = _cut(gram[view, :, view], kept)
        energy = inner.diagonal().clone()
        _center(inner, variant, axes=(0, 1))
        norms = _norms(inner.diagonal(), energy)
        if norms is None or not math.isfinite(float(inner.sum())):
            return None
        inner /= norms[:, None]
        inner /= norms
        blocks[view] = inner
    return blocks


def _cut(matrix: Float64[Tensor, "rows rows"], kept: Int64[Tensor, " kept"]) -> Float64[Tensor, "kept kept"]:
    """The rows and columns kept: one copy, made a few rows at a time, of what is largest in memory."""
    parts = torch.empty(kept.shape[0], kept.shape[0], dtype=matrix.dtype)
    for rows, part in zip(torch.split(kept, _ROWS), torch.split(parts, _ROWS), strict=True):
        part.copy_(matrix[rows][:, kept])
    return parts


def _center(inner: Tensor, variant: ViewVariant, axes: tuple[int, int]) -> None:
    if variant.startswith("centered"):
        for axis in axes:
            inner -= inner.mean(axis, keepdim=True)


def _norms(left: Float64[Tensor, "*views kept"], energy: Float64[Tensor, "*views kept"]) -> Tensor | None:
    """Norms of the vectors; None where there are fewer than 2 a view, or one has no direction or is not finite."""
    if left.shape[-1] < 2 or not bool((left > _ROUNDING * energy).all()):  # False for NaN too
        return None
    return left.sqrt()


def _diagonal(inner: Float64[Tensor, "two kept two kept"]) -> Float64[Tensor, "two kept"]:
    return torch.stack([inner[view, :, view].diagonal() for view in (0, 1)])


def view_reason(views: Float[Tensor, "prompts views dim"], variant: ViewVariant = "paper") -> str:
    """Why InfoNCE and DiME of these views are NaN, in words; "" where they are not."""
    if views.shape[0] < 2:
        return f"{views.shape[0]} prompts: views are compared between 2 or more"
    if not bool(views[:, :2].isfinite().all()):
        return "non-finite vectors"
    if not bool(views[:, :2].any(-1).all()):
        return "a zero vector has no direction"
    everything = torch.arange(views.shape[0])
    if subset_cosines(pair_gram(views), everything, variant) is None:
        return "a vector equals the mean: no direction is left after centring"
    return ""
