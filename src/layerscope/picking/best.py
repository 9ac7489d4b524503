"""Which layer can be the best, what another may lose against it, and the layer that is chosen by that."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import stats

from layerscope.picking.resampling import MIN_UNITS, NOTHING, Resampling
from layerscope.statistics.intervals import LEVEL, SIGNIFICANCE


@dataclass(frozen=True)
class BestSet:
    """For every layer the p-value of its being the best, and the most it may lose against the best at `LEVEL`.

    `members` are the layers that can be the best; `most_lost` is an upper bound, at least 0.
    """

    p: Float[np.ndarray, " layers"]
    members: tuple[int, ...]
    most_lost: Float[np.ndarray, " layers"]


def best_set(resampling: Resampling) -> BestSet:
    """The layers that cannot be told from the best, and the most that each layer may lose against the best.

    The set is a confidence set for the layer with the highest average: layer l is tested against all others at once:
    T_l = max_k (mean_k − mean_l) / SE_kl, with SE_kl from the paired bootstrap. Its null is the bootstrap's max_k of
    the centred differences over the same SE, which pays for the choice of the largest; the quantile is moved from the
    normal to Student's t(n − 1), since SE comes from n tasks. A layer is out where p < 0.05. If l is the best layer of
    the population, T_l exceeds its null in 5 % of samples, so the set holds the best layer with 95 % probability; no
    further correction over l is due. Below five units the bootstrap cannot know how the rivals vary together, and p is
    Bonferroni's, min(1, (L − 1) · P(t(n − 1) > T_l)), instead.

    The most that l may lose is max_k (mean_k − mean_l + t(n − 1) · SE_kl), Student's one-sided 95 % bound against every
    rival. That l loses at most m is the claim that it loses at most m against each of them, so each is tested at 5 %
    and no correction over k is due (Berger 1982). The bound against the observed best alone forgets that another may be
    the best, and for the earliest of many layers it is wrong too often (docs/statistics.md).

    Returns p in (0, 1] for every layer, the layers with p >= 0.05, in order, and the bounds in the scores' unit. With
    fewer than two units p and bounds are NaN and the set is empty.
    Papers: Hsu 1984 (multiple comparisons with the best); Hansen, Lunde & Nason 2011 (max statistic by bootstrap);
    Berger 1982 (intersection-union tests).
    """
    scores = resampling.scores
    n = resampling.units
    if n < 2 or not scores.layers:
        unknown = np.full(len(scores.layers), np.nan)
        return BestSet(unknown, (), unknown)
    draws = resampling.layer_draws()
    means = scores.values.mean(axis=0)
    # Centred on what was observed: the nested draws' own mean differs from it by chance.
    noise = draws - draws.mean(axis=0)
    p = np.ones(len(means))
    most_lost = np.zeros(len(means))
    reach_of_bound = float(stats.t.ppf(LEVEL, n - 1))
    for layer in range(len(means)):
        rest = noise - noise[:, [layer]]
        spread = rest.std(axis=0)
        lead = means - means[layer]
        scale = spread * np.sqrt(n / (n - 1))
        most_lost[layer] = (lead + reach_of_bound * scale).max()
        known = scale > NOTHING
        # A layer that beats this one by the same amount in every task leaves no doubt; an equal one is no rival.
        if (lead[~known] > NOTHING).any():
            p[layer] = 1 / (len(draws) + 1)
            continue
        if not known.any():
            continue
        observed = float((lead[known] / scale[known]).max())
        if n < MIN_UNITS:
            p[layer] = min(1.0, (len(means) - 1) * float(stats.t.sf(observed, n - 1)))
            continue
        null = (rest[:, known] / spread[known]).max(axis=1)
        reach = stats.norm.ppf(stats.t.cdf(observed, n - 1))
        p[layer] = (1 + (null >= reach).sum()) / (len(draws) + 1)
    members = tuple(layer for layer, mine in zip(scores.layers, p, strict=True) if mine >= SIGNIFICANCE)
    return BestSet(p, members, most_lost)


@dataclass(frozen=True)
class Choice:
    """The layer to use, and what is known of it.

    `best` has the highest average. `recommended` is the earliest layer that is `shown` to lose at most `margin` against
    the best one, else `best`. `most_lost` is what it may lose against the best at one-sided 95 %, NaN where that is not
    known.
    """

    best: int
    recommended: int
    shown: bool
    most_lost: float
    margin: float


def choose(resampling: Resampling, margin: float) -> tuple[Choice, BestSet]:
    """The earliest layer shown to lose at most `margin` against the best, else the best observed.

    Only layers before the best observed are cheaper, so a later one is never taken for it. With fewer than two units
    nothing is shown. The margin is at least 0, in the scores' unit; there are layers and tasks.

    Returns the choice, and the set and bounds it was made from.
    """
    scores = resampling.scores
    found = best_set(resampling)
    best = int(np.argmax(scores.values.mean(axis=0)))
    shown = np.flatnonzero(found.most_lost[: best + 1] <= margin)
    column = int(shown[0]) if len(shown) else best
    most_lost = float(found.most_lost[column])
    return Choice(scores.layers[best], scores.layers[column], bool(len(shown)), most_lost, margin), found
