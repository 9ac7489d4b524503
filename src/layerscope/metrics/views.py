"""Two views of each prompt as one matrix of cosines, which a subset of the prompts is cut from."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

ViewVariant = Literal["paper", "centered", "unit", "centered-unit"]

# Centring a float64 Gram matrix leaves at most this share of a row's energy as rounding.
_ROUNDING = 1e-13


def pair_gram(views: Float[Tensor, "prompts views dim"]) -> Float64[Tensor, "two prompts two prompts"]:
    """Inner products between all first two views, in float64.

    Raises ValueError where there are fewer than two views a prompt.
    """
    if views.shape[1] < 2:
        raise ValueError(f"expected 2 or more views a prompt, got {views.shape[1]}")
    count = views.shape[0]
    rows = views[:, :2].transpose(0, 1).reshape(2 * count, -1).cpu().to(torch.float64)
    return (rows @ rows.mT).reshape(2, count, 2, count)


def subset_cosines(
    gram: Float64[Tensor, "two prompts two prompts"], kept: Int64[Tensor, " kept"], variant: ViewVariant
) -> Float64[Tensor, "two kept two kept"] | None:
    """Cosines between the views of the kept prompts; each view's mean over them removed first where centred.

    None with fewer than 2 prompts, or where a view is not finite or has no direction (zero, or equal to the mean).
    """
    if kept.shape[0] < 2:
        return None
    inner = gram[:, kept][:, :, :, kept]
    energy = _diagonal(inner)
    left = energy
    if variant.startswith("centered"):
        inner = inner - inner.mean(1, keepdim=True)
        inner = inner - inner.mean(3, keepdim=True)
        left = _diagonal(inner)
    if not bool((left > _ROUNDING * energy).all()):  # False for NaN too
        return None
    if not bool(inner.isfinite().all()):
        return None
    norms = left.sqrt()
    return inner / norms[:, :, None, None] / norms


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
