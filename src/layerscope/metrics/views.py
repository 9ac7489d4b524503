"""Two views of each prompt as one matrix of cosines, which a subset of the prompts is cut from."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Float32, Float64
from torch import Tensor

from layerscope.metrics.metric import PAPER, Setting, Subset
from layerscope.metrics.sources import Gram, ViewVectors
from layerscope.metrics.spectrum import Variant, variant_of

# Centring a float64 Gram matrix leaves at most this share of a row's energy as rounding.
_ROUNDING = 1e-13
_ROWS = 256


def subset_cosines(gram: Gram, kept: Subset, variant: Variant) -> Float64[Tensor, "two kept two kept"] | None:
    """Cosines between the views of the kept prompts; each view's mean over them removed first where centred.

    None with fewer than 2 prompts, or where a view is not finite or has no direction (zero, or equal to the mean).
    """
    prompts, count = gram.shape[1], kept.shape[0]
    both = torch.cat((kept, prompts + kept))
    inner = _cut(gram.reshape(2 * prompts, 2 * prompts), both).reshape(2, count, 2, count)
    return inner if _become_cosines(inner, variant) else None


def within_cosines(gram: Gram, kept: Subset, variant: Variant) -> Float32[Tensor, "two kept kept"] | None:
    """The two blocks of `subset_cosines` inside view 1 and inside view 2, in float32, and None where it is."""
    blocks = torch.empty(2, kept.shape[0], kept.shape[0])
    for view in (0, 1):
        inner = _cut(gram[view, :, view], kept)
        if not _become_cosines(inner[None, :, None], variant):
            return None
        blocks[view] = inner
    return blocks


def _cut(matrix: Float64[Tensor, "rows rows"], kept: Subset) -> Float64[Tensor, "kept kept"]:
    """The rows and columns kept: one copy, made a few rows at a time, of what is largest in memory."""
    parts = torch.empty(kept.shape[0], kept.shape[0], dtype=matrix.dtype)
    for rows, part in zip(torch.split(kept, _ROWS), torch.split(parts, _ROWS), strict=True):
        part.copy_(matrix[rows][:, kept])
    return parts


def _become_cosines(inner: Float64[Tensor, "views kept views kept"], variant: Variant) -> bool:
    """Turn inner products into cosines, in place; False with fewer than 2 prompts, or where one has no direction."""
    energy = inner.diagonal(dim1=0, dim2=2).diagonal().clone()
    if variant.startswith("centered"):
        for axis in (1, 3):
            inner -= inner.mean(axis, keepdim=True)
    left = inner.diagonal(dim1=0, dim2=2).diagonal()
    has_direction = bool((left > _ROUNDING * energy).all())  # False for NaN too
    if left.shape[-1] < 2 or not has_direction or not math.isfinite(float(inner.sum())):
        return False
    norms = left.sqrt()
    inner /= norms[:, :, None, None]
    inner /= norms
    return True


def view_reason(views: Float[Tensor, "prompts views dim"], setting: Setting = PAPER) -> str:
    """Why InfoNCE and DiME of these views are NaN, in words; "" where they are not."""
    if views.shape[0] < 2:
        return f"{views.shape[0]} prompts: views are compared between 2 or more"
    if not bool(views[:, :2].isfinite().all()):
        return "non-finite vectors"
    if not bool(views[:, :2].any(-1).all()):
        return "a zero vector has no direction"
    if subset_cosines(ViewVectors(views).gram(), torch.arange(views.shape[0]), variant_of(setting)) is None:
        return "a vector equals the mean: no direction is left after centring"
    return ""
