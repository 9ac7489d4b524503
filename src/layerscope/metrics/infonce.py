"""InfoNCE: whether two augmented views of a prompt find each other among all others."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Float64, Int, Int64
from torch import Tensor

from layerscope.metrics.subsets import everything
from layerscope.metrics.views import ViewVariant, pair_gram, subset_cosines
from layerscope.metrics.workers import on_one_thread

TEMPERATURE = 0.1
_ROWS = 256


def infonce(
    views: Float[Tensor, "prompts views dim"], *, temperature: float = TEMPERATURE, variant: ViewVariant = "paper"
) -> Float64[Tensor, ""]:
    """How hard it is to tell which vector is the other view of the same prompt.

    NT-Xent: mean over all 2N views i of -log(exp(s_ij / t) / sum_{k != i} exp(s_ik / t)), s cosines, j the other view.

    Args:
        views: `prompts views dim`; the first two views are used.
        temperature: t.
        variant: paper, or centered (each view's mean over prompts removed); unit and centered-unit equal these two,
            since the cosine scales its vectors to norm 1 anyway.

    Returns:
        Scalar float64, nats, in (0, log(2N - 1) + 2 / t], chance level log(2N - 1): lower is more invariant. NaN with
        fewer than 2 prompts, or where a vector is not finite or has no direction.

    Raises:
        ValueError: fewer than 2 views, or a temperature that is not above 0.

    Paper: van den Oord et al. 2018; NT-Xent is eq. 1 of Chen et al. 2020; arXiv 2412.09563, appendix F. The authors'
    code contrasts view 1 with the N second views only (chance log N), on products that need not be cosines.
    """
    return infonce_of_subsets(views, everything(views), temperature=temperature, variant=variant)[0]


def infonce_of_subsets(
    views: Float[Tensor, "prompts views dim"],
    subsets: Sequence[Int64[Tensor, " _"]],
    *,
    temperature: float = TEMPERATURE,
    variant: ViewVariant = "paper",
) -> Float64[Tensor, " subsets"]:
    """`infonce` of each subset of the prompts, from one matrix of inner products."""
    return infonce_of_gram(pair_gram(views), subsets, temperature, variant)


def infonce_of_gram(
    gram: Float64[Tensor, "two prompts two prompts"],
    subsets: Sequence[Int64[Tensor, " _"]],
    temperature: float,
    variant: ViewVariant,
) -> Float64[Tensor, " subsets"]:
    """`infonce_of_subsets` from the inner products of `views.pair_gram`."""
    if not temperature > 0:
        raise ValueError(f"expected a temperature above 0, got {temperature}")
    # One subset after the other: each needs a matrix as large as the Gram matrix itself.
    losses = on_one_thread(lambda: [_nt_xent(subset_cosines(gram, kept, variant), temperature) for kept in subsets])
    return torch.tensor(losses, dtype=torch.float64)


def _nt_xent(cosines: Float64[Tensor, "two kept two kept"] | None, temperature: float) -> float:
    if cosines is None:
        return math.nan
    count = cosines.shape[1]
    logits = cosines.reshape(2 * count, 2 * count).div_(temperature)
    positives = logits.diagonal(count).mean()  # view 1 with view 2; the other triangle holds the same numbers
    logits.fill_diagonal_(-math.inf)
    # A few rows at a time: the exponentials would be as large as the matrix.
    largest = torch.cat([rows.logsumexp(-1) for rows in torch.split(logits, _ROWS)])
    return float(largest.mean() - positives)


def infonce_chance(prompts: Int[Tensor, "*some"]) -> Float64[Tensor, "*some"]:
    """Loss of InfoNCE where all views look alike.

    log(2N - 1).

    Args:
        prompts: `*some`, the number N of prompts.

    Returns:
        `*some` float64, nats, in [0, inf); NaN with fewer than 2 prompts, where there is nothing to choose from.

    Paper: Chen et al. 2020, eq. 1 with equal similarities.
    """
    count = prompts.to(torch.float64)
    return (2 * count - 1).log().where(count >= 2, math.nan)


def infonce_bound(
    views: Float[Tensor, "prompts views dim"], *, temperature: float = TEMPERATURE, variant: ViewVariant = "paper"
) -> Float64[Tensor, ""]:
    """How much the views of a prompt tell about each other, at least.

    log(2N - 1) - InfoNCE loss.

    Args:
        views: `prompts views dim`; the first two views are used.
        temperature: of the loss.
        variant: as in `infonce`.

    Returns:
        Scalar float64, nats, at most log(2N - 1); 0 at chance, negative where the other view is further than most.
        NaN where the loss is.

    Raises:
        ValueError: fewer than 2 views, or a temperature that is not above 0.

    Paper: van den Oord et al. 2018, appendix A.1 (the bound on mutual information).
    """
    return infonce_bound_of_subsets(views, everything(views), temperature=temperature, variant=variant)[0]


def infonce_bound_of_subsets(
    views: Float[Tensor, "prompts views dim"],
    subsets: Sequence[Int64[Tensor, " _"]],
    *,
    temperature: float = TEMPERATURE,
    variant: ViewVariant = "paper",
) -> Float64[Tensor, " subsets"]:
    """`infonce_bound` of each subset of the prompts, from one matrix of inner products."""
    chance = infonce_chance(torch.tensor([kept.shape[0] for kept in subsets]))
    return chance - infonce_of_subsets(views, subsets, temperature=temperature, variant=variant)
