"""Two Gaussians fitted to a set of numbers: how far apart two modes are, and where they part."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

# scikit-learn's GaussianMixture has neither weights, which a bootstrap needs, nor these penalties.
STARTS = (0.1, 0.25, 0.5, 0.75, 0.9)
ROUNDS = 300
DRAW_ROUNDS = 50
TOLERANCE = 1e-7


@dataclass(frozen=True)
class Mixture:
    """Two Gaussians, the lower mean first."""

    weights: tuple[float, float]
    means: tuple[float, float]
    sds: tuple[float, float]

    @property
    def distance(self) -> float:
        """(μ₂ − μ₁) / √(w₁σ₁² + w₂σ₂²): the distance of the means in pooled standard deviations."""
        pooled = self.weights[0] * self.sds[0] ** 2 + self.weights[1] * self.sds[1] ** 2
        return float((self.means[1] - self.means[0]) / np.sqrt(pooled))

    def antimode(self) -> float:
        """Where the mixture's density is lowest between its two means; NaN where it has no dip there."""
        grid = np.linspace(*self.means, 2001)
        weights, means, sds = (np.array(part)[:, None] for part in (self.weights, self.means, self.sds))
        density = (weights / sds * np.exp(-0.5 * ((grid - means) / sds) ** 2)).sum(axis=0)
        inner = density[1:-1]
        # The modes lie inside the means: the density can be lower at a mean than at a real dip.
        dips = np.flatnonzero((inner < density[:-2]) & (inner <= density[2:]))
        return float(grid[1 + dips[np.argmin(inner[dips])]]) if len(dips) else float("nan")


def fit_mixture(values: Float[np.ndarray, " n"]) -> Mixture:
    """Two Gaussians fitted by EM, from five fixed starts; the best of them. No randomness.

    The starts split the sorted values at their 10, 25, 50, 75 and 90 % points. Maximised is the log-likelihood plus Σ_k
    log π_k − n^(−1/2) Σ_k (s² / σ_k² + log σ_k²), s² the variance of all values: the plain likelihood has no bound, and
    prefers a sliver of two nearby points to the modes that are there.

    The values are finite numbers, at least four and not all equal.

    Papers: Chen & Li 2009, Annals of Statistics 37, eq. 5 and 6 (the penalties); Dempster, Laird & Rubin 1977 (EM).
    """
    *fits, likelihood = _em(values, np.ones((len(STARTS), len(values))), _starts(values), ROUNDS)
    weights, means, sds = (table[np.argmax(likelihood)] for table in fits)
    low, high = np.argsort(means)
    return Mixture(*((float(part[low]), float(part[high])) for part in (weights, means, sds)))


def distance_draws(
    values: Float[np.ndarray, " n"], fitted: Mixture, weights: Float[np.ndarray, "resamples n"]
) -> Float[np.ndarray, " resamples"]:
    """The mixture's `distance`, at least 0, in bootstrap samples of the values, each fitted from the full fit on.

    `fitted` is the fit of all values, and `weights` say how often each value is in each sample.
    """
    n = len(weights)
    shares, means, sds = (np.tile(part, (n, 1)) for part in (fitted.weights, fitted.means, fitted.sds))
    shares, means, sds, _ = _em(values, weights, (shares, means, sds), DRAW_ROUNDS)
    return np.asarray(np.abs(means[:, 1] - means[:, 0]) / np.sqrt((shares * sds**2).sum(axis=1)))


def _starts(values: np.ndarray) -> Float[np.ndarray, "3 starts 2"]:
    """Shares, means and standard deviations of both parts of the sorted values, each cut at one of `STARTS`."""
    n, ordered, least = len(values), np.sort(values), 0.01 * values.std()
    cuts = [min(max(round(share * n), 2), n - 2) for share in STARTS]
    parts = [(ordered[:cut], ordered[cut:]) for cut in cuts]
    starts = [[(len(part) / n, part.mean(), max(part.std(), least)) for part in both] for both in parts]
    return np.moveaxis(np.array(starts), -1, 0)


def _em(
    values: np.ndarray, weights: np.ndarray, start: Iterable[np.ndarray], rounds: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """EM for many weighted samples at once; the last array is the penalised log-likelihood."""
    shares, means, sds = start
    spread, penalty = values.var(), 1 / np.sqrt(len(values))
    totals = weights.sum(axis=1)
    previous = np.full(len(weights), -np.inf)
    for _ in range(rounds):
        scaled = (values[None, None, :] - means[:, :, None]) / sds[:, :, None]
        log_parts = -0.5 * scaled**2 + np.log(shares / sds)[:, :, None]
        top = log_parts.max(axis=1, keepdims=True)
        parts = np.exp(log_parts - top)
        both = parts.sum(axis=1, keepdims=True)
        likelihood = (weights * (np.log(both[:, 0]) + top[:, 0])).sum(axis=1)
        likelihood += (np.log(shares) - penalty * (spread / sds**2 + 2 * np.log(sds))).sum(axis=1)
        if (likelihood - previous <= TOLERANCE * totals).all():
            break
        previous = likelihood
        owned = weights[:, None, :] * parts / both
        mass = owned.sum(axis=2)
        means = (owned @ values) / np.maximum(mass, 1e-300)
        squares = (owned * (values[None, None, :] - means[:, :, None]) ** 2).sum(axis=2)
        sds = np.sqrt((squares + 2 * penalty * spread) / (mass + 2 * penalty))
        shares = (mass + 1) / (totals[:, None] + 2)
    return shares, means, sds, likelihood
