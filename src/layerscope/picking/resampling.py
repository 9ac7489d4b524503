"""How sure an average over tasks is: the paired bootstrap over tasks, and over the experiments within them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import stats

from layerscope.picking.scores import TaskScores
from layerscope.statistics.intervals import LEVEL

MIN_UNITS = 5
NOTHING = 1e-12

Reading = tuple[Float[np.ndarray, " experiments"], ...]
"""One number for every experiment of every task: a layer's score, or the difference of two."""


@dataclass(frozen=True)
class Estimate:
    """A mean over tasks with its interval at `LEVEL` and the two-sided p-value of its being zero."""

    value: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Resampling:
    """Bootstrap samples of a set of tasks. All contrasts read from one resampling share its draws, so they are paired.

    `weights[t]` counts how often each experiment of task t was drawn, as a share of a task; `units` is the number of
    things that were resampled: the tasks, or with one task its experiments. Below two there is nothing to resample.
    """

    scores: TaskScores
    weights: tuple[Float[np.ndarray, "resamples experiments"], ...]
    units: int

    def layer_draws(self) -> Float[np.ndarray, "resamples layers"]:
        """Average over tasks at every layer, in every bootstrap sample."""
        parts = zip(self.weights, self.scores.experiments, strict=True)
        return np.asarray(sum(weight @ single for weight, single in parts) / len(self.weights))

    def read(self, contrast: Float[np.ndarray, "tasks layers"]) -> Reading:
        """Σ_layers contrast · score for every task, a row of the contrast a task."""
        return tuple(single @ row for single, row in zip(self.scores.experiments, contrast, strict=True))

    def own_best(self) -> Reading:
        """Every task at its own best layer."""
        return tuple(one.experiments for one in self.scores.own)

    def estimate(self, contrast: Float[np.ndarray, "tasks layers"]) -> Estimate:
        """The mean over tasks of Σ_layers contrast · score, for instance one layer minus another: see `estimate_reading`."""
        return self.estimate_reading(self.read(contrast))

    def estimate_reading(self, reading: Reading) -> Estimate:
        """The mean over tasks of a reading.

        The interval is value ± t(n − 1) · SE with SE the standard deviation of the bootstrap draws times
        √(n / (n − 1)): with few tasks a percentile interval is far too short (82 % coverage with five).

        Returns:
            The estimate; NaN ends and p-value where there are fewer than two units.
        """
        value = float(np.mean([single.mean() for single in reading]))
        if self.units < 2:
            return Estimate(value, np.nan, np.nan, np.nan)
        parts = [weight @ single for weight, single in zip(self.weights, reading, strict=True)]
        draws = np.mean(parts, axis=0)
        error = float(np.std(draws) * np.sqrt(self.units / (self.units - 1)))
        half = float(stats.t.ppf((1 + LEVEL) / 2, self.units - 1)) * error
        if error <= NOTHING * max(1.0, abs(value)):
            p = 1.0 if abs(value) <= NOTHING else 1 / (len(draws) + 1)
        else:
            p = float(2 * stats.t.sf(abs(value) / error, self.units - 1))
        return Estimate(value, value - half, value + half, p)


def resample(scores: TaskScores, resamples: int, seed: int) -> Resampling:
    """Draw bootstrap samples of the tasks, and within each drawn task of its experiments.

    Args:
        scores: at least one task.
        resamples: number of bootstrap samples.
        seed: seed of the draws.

    Returns:
        The draws. With one task only its experiments are drawn, so what follows is about that task alone.

    Source: Davison & Hinkley 1997, section 3.8 (nested resampling; it overstates the variance slightly).
    """
    n_tasks = len(scores.tasks)
    rng = np.random.default_rng(np.random.SeedSequence([seed, n_tasks, 3]))
    counts = rng.multinomial(n_tasks, np.full(n_tasks, 1 / n_tasks), size=resamples)
    weights = []
    for t, single in enumerate(scores.experiments):
        n = len(single)
        weights.append(rng.multinomial(counts[:, t] * n, np.full(n, 1 / n)) / n)
    units = n_tasks if n_tasks > 1 else len(scores.experiments[0])
    return Resampling(scores, tuple(weights), units)


def at_layer(scores: TaskScores, layer: int) -> Float[np.ndarray, "tasks layers"]:
    """The contrast that reads one layer for every task."""
    return np.tile(np.asarray(np.array(scores.layers) == layer, dtype=np.float64), (len(scores.tasks), 1))


def at_layers(scores: TaskScores, chosen: list[int]) -> Float[np.ndarray, "tasks layers"]:
    """The contrast that reads a layer of its own for each task."""
    return np.array([np.asarray(np.array(scores.layers) == layer, dtype=np.float64) for layer in chosen])


def at_random(scores: TaskScores) -> Float[np.ndarray, "tasks layers"]:
    """The contrast of a layer drawn at random: the mean over layers."""
    return np.full(scores.values.shape, 1 / max(len(scores.layers), 1))


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

    The set is a confidence set for the layer with the highest average: layer l is tested against all others at once: T_l = max_k (mean_k − mean_l) / SE_kl, with SE_kl from the paired
    bootstrap. Its null is the bootstrap's max_k of the centred differences over the same SE, which pays for the choice
    of the largest; the quantile is moved from the normal to Student's t(n − 1), since SE comes from n tasks. A layer is
    out where p < 0.05. If l is the best layer of the population, T_l exceeds its null in 5 % of samples, so the set
    holds the best layer with 95 % probability; no further correction over l is due. Below five units the bootstrap
    cannot know how the rivals vary together, and p is Bonferroni's, min(1, (L − 1) · P(t(n − 1) > T_l)), instead.

    The most that l may lose is max_k (mean_k − mean_l + t(n − 1) · SE_kl), Student's one-sided 95 % bound against every
    rival. That l loses at most m is the claim that it loses at most m against each of them, so each is tested at 5 % and
    no correction over k is due (Berger 1982). The bound against the observed best alone forgets that another may be
    the best, and for the earliest of many layers it is wrong too often (docs/statistics.md).

    Args:
        resampling: draws over at least two units.

    Returns:
        p in (0, 1] for every layer, the layers with p >= 0.05, in order, and the bounds in the scores' unit. With fewer
        than two units p and bounds are NaN and the set is empty.

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
    members = tuple(layer for layer, mine in zip(scores.layers, p, strict=True) if mine >= 1 - LEVEL)
    return BestSet(p, members, most_lost)
