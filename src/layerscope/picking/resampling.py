"""How sure an average over tasks is: the paired bootstrap over tasks, and over the experiments within them."""

from __future__ import annotations

from collections.abc import Sequence
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
class MeanScore:
    """A mean over tasks with its interval at `LEVEL` and the two-sided p-value of its being zero."""

    value: float
    low: float
    high: float
    p: float

    def columns(self, *names: str) -> dict[str, float]:
        """Value and ends under the names of three columns."""
        return dict(zip(names, (self.value, self.low, self.high), strict=True))


UNKNOWN = MeanScore(np.nan, np.nan, np.nan, np.nan)


@dataclass(frozen=True)
class Resampling:
    """Bootstrap samples of a set of tasks. All contrasts read from one resampling share its draws, so they are paired.

    `weights[t]` counts how often each experiment of task t was drawn, as a share of a task; `units` is the number of
    things that were resampled: the tasks, or with one task its experiments. Below two there is nothing to resample.
    """

    scores: TaskScores
    weights: tuple[Float[np.ndarray, "resamples experiments"], ...]
    units: int
    seed: int

    def layer_draws(self) -> Float[np.ndarray, "resamples layers"]:
        """Average over tasks at every layer, in every bootstrap sample."""
        parts = zip(self.weights, self.scores.experiments, strict=True)
        return np.asarray(sum(weight @ single for weight, single in parts) / len(self.weights))

    def read(self, contrast: Float[np.ndarray, "tasks layers"]) -> Reading:
        """Σ_layers contrast · score for every task, a row of the contrast a task."""
        return tuple(single @ row for single, row in zip(self.scores.experiments, contrast, strict=True))

    def own_best(self) -> Reading:
        """Every task at its own best layer."""
        return tuple(one.at_best for one in self.scores.own)

    def estimate(self, read: Float[np.ndarray, "tasks layers"] | Reading | None) -> MeanScore:
        """The mean over tasks of a reading, or of the one of a contrast (for instance one layer minus another).

        All NaN where there is none; ends and p-value with fewer than two units.

        The interval is value ± t(n − 1) · SE with SE the standard deviation of the bootstrap draws times
        √(n / (n − 1)): with few tasks a percentile interval is far too short (82 % coverage with five).
        """
        if read is None:
            return UNKNOWN
        reading = self.read(read) if isinstance(read, np.ndarray) else read
        value = float(np.mean([single.mean() for single in reading]))
        if self.units < 2:
            return MeanScore(value, np.nan, np.nan, np.nan)
        draws = np.mean([weight @ single for weight, single in zip(self.weights, reading, strict=True)], axis=0)
        error = float(np.std(draws) * np.sqrt(self.units / (self.units - 1)))
        half = float(stats.t.ppf((1 + LEVEL) / 2, self.units - 1)) * error
        if error <= NOTHING * max(1.0, abs(value)):
            p = 1.0 if abs(value) <= NOTHING else 1 / (len(draws) + 1)
        else:
            p = float(2 * stats.t.sf(abs(value) / error, self.units - 1))
        return MeanScore(value, value - half, value + half, p)


def resample(scores: TaskScores, resamples: int = 2000, seed: int = 0) -> Resampling:
    """Draw bootstrap samples of the tasks of a setting, and within each drawn task of its experiments.

    With one task only its experiments are drawn, so what follows is about that task alone. Without a task there is
    nothing to draw.

    Source: Davison & Hinkley 1997, section 3.8 (nested resampling; it overstates the variance slightly).
    """
    n_tasks = len(scores.tasks)
    if not n_tasks:
        return Resampling(scores, (), 0, seed)
    rng = np.random.default_rng(np.random.SeedSequence([seed, n_tasks, 3]))
    counts = rng.multinomial(n_tasks, np.full(n_tasks, 1 / n_tasks), size=resamples)
    sizes = [len(single) for single in scores.experiments]
    weights = [rng.multinomial(counts[:, t] * n, np.full(n, 1 / n)) / n for t, n in enumerate(sizes)]
    return Resampling(scores, tuple(weights), n_tasks if n_tasks > 1 else sizes[0], seed)


def at_layer(scores: TaskScores, layer: int) -> Float[np.ndarray, "tasks layers"]:
    """The contrast that reads one layer for every task."""
    return at_layers(scores, [layer] * len(scores.tasks))


def at_layers(scores: TaskScores, chosen: Sequence[int]) -> Float[np.ndarray, "tasks layers"]:
    """The contrast that reads a layer of its own for each task."""
    return np.equal.outer(chosen, scores.layers).astype(np.float64)


def at_random(scores: TaskScores) -> Float[np.ndarray, "tasks layers"]:
    """The contrast of a layer drawn at random: the mean over layers."""
    return np.full(scores.values.shape, 1 / max(len(scores.layers), 1))


def minus(reading: Reading | None, other: Reading | None) -> Reading | None:
    """The difference of two readings, task by task; None where either is."""
    if reading is None or other is None:
        return None
    return tuple(mine - theirs for mine, theirs in zip(reading, other, strict=True))
