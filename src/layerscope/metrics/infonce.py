"""InfoNCE: whether two augmented views of a prompt find each other among all others."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from layerscope.metrics.metric import PAPER, Metric, Setting, Values
from layerscope.metrics.sources import ViewVectors, subset_cosines, view_reason
from layerscope.metrics.spectrum import SPECTRAL, variant_of
from layerscope.metrics.workers import on_one_thread

_ROWS = 256


def infonce(source: ViewVectors, setting: Setting = PAPER) -> Values:
    """How hard it is to tell which vector is the other view of the same prompt.

    NT-Xent: mean over all 2N views i of -log(exp(s_ij / t) / sum_{k != i} exp(s_ik / t)), s cosines, j the other view.

    Of the views the first two are used; t is the temperature of the source's options. In the variant centered each
    view's mean over prompts is removed; unit and centered-unit equal paper and centered, since cosines have norm 1.

    Returns `subsets` float64, nats, in (0, log(2N - 1) + 2 / t], chance level log(2N - 1): lower is more invariant. NaN
    with fewer than 2 prompts, or where a vector is not finite or has no direction.
    Raises ValueError: fewer than 2 views, or a temperature that is not above 0.
    Paper: van den Oord et al. 2018; NT-Xent is eq. 1 of Chen et al. 2020; arXiv 2412.09563, appendix F. The authors'
    code contrasts view 1 with the N second views only (chance log N), on products that need not be cosines.
    """
    variant, temperature = variant_of(setting), source.options.temperature
    if not temperature > 0:
        raise ValueError(f"expected a temperature above 0, got {temperature}")

    def loss(kept: Tensor) -> float:
        cosines, count = subset_cosines(source.gram(), kept, variant), kept.shape[0]
        if cosines is None:
            return math.nan
        logits = cosines.reshape(2 * count, 2 * count).div_(temperature)
        positives = logits.diagonal(count).mean()  # view 1 with view 2; the other triangle holds the same numbers
        logits.fill_diagonal_(-math.inf)
        # A few rows at a time: the exponentials would be as large as the matrix.
        largest = torch.cat([rows.logsumexp(-1) for rows in torch.split(logits, _ROWS)])
        return float(largest.mean() - positives)

    source.gram()
    # One subset after the other: each needs a matrix as large as the Gram matrix itself.
    losses = source.once(("infonce", variant), lambda: on_one_thread(lambda: [loss(kept) for kept in source.subsets]))
    return torch.tensor(losses, dtype=torch.float64)


def infonce_chance(source: ViewVectors, _: Setting = PAPER) -> Values:
    """Loss of InfoNCE where all views look alike, log(2N - 1): Chen et al. 2020, eq. 1 with equal similarities.

    `subsets` float64, nats, in [log 3, inf); NaN with fewer than 2 prompts, where there is nothing to choose from.
    """
    count = source.sizes.to(torch.float64)
    return (2 * count - 1).log().where(count >= 2, math.nan)


def infonce_bound(source: ViewVectors, setting: Setting = PAPER) -> Values:
    """How much the views of a prompt tell about each other, at least: log(2N - 1) - InfoNCE loss.

    `subsets` float64, nats, at most log(2N - 1); 0 at chance, negative where the other view is further than most.
    Arguments, NaN and errors as in `infonce`. Paper: van den Oord et al. 2018, appendix A.1 (mutual information).
    """
    return infonce_chance(source) - infonce(source, setting)


INFONCE = Metric(
    name="infonce",
    family="infonce",
    shape="prompts views dim",
    values=infonce,
    reason=view_reason,
    summary="loss of telling a prompt's other view among all views",
    unit="nats",
    range="(0, inf); chance level infonce_chance",
    direction="lower: more invariant to the augmentation",
    variants=SPECTRAL,
    paper="van den Oord et al. 2018; arXiv 2412.09563, appendix F",
)
BOUND = replace(
    INFONCE,
    name="infonce_bound",
    values=infonce_bound,
    summary="log(2N - 1) minus the InfoNCE loss: what a view at least tells about the other",
    range="(-inf, log(2N - 1)]; 0 at chance",
    direction="higher: more invariant to the augmentation",
    paper="van den Oord et al. 2018, appendix A.1",
)
CHANCE = replace(
    INFONCE,
    name="infonce_chance",
    values=infonce_chance,
    summary="log(2N - 1): the InfoNCE loss where all views look alike",
    range="[log 3, inf)",
    direction="depends on the number of prompts only",
    variants=("paper",),
    paper="Chen et al. 2020, eq. 1",
    has_interval=False,
)
