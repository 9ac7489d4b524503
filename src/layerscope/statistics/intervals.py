"""How sure a number is: intervals by resampling prompts, and p-values adjusted for how many tests were done together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats

LEVEL = 0.95
"""How often an interval holds what it is of."""
SIGNIFICANCE = 0.05
"""How often a test may reject what is true: a p-value below this counts as shown."""
JACKKNIFE_GROUPS = 20
PIECE = 1 << 20
"""Draws that are in memory at once."""


class Interval(NamedTuple):
    """A confidence interval at `LEVEL`; NaN ends where there is nothing to resample."""

    low: float
    high: float


def with_ends(name: str) -> tuple[str, str, str]:
    """The three columns of a number and its interval: `name`, `name_ci_low`, `name_ci_high`."""
    return name, f"{name}_ci_low", f"{name}_ci_high"


def bounded(name: str, value: float | np.ndarray, draws: Float[np.ndarray, " resamples"]) -> dict[str, float]:
    """A number and the percentile interval of its draws in the columns `with_ends(name)`."""
    return dict(zip(with_ends(name), (float(value), *percentile_interval(draws)), strict=True))


def percentile_interval(draws: Float[np.ndarray, " resamples"]) -> Interval:
    """Where the middle `LEVEL` of the finite draws lies; NaN ends where none is finite."""
    known = draws[np.isfinite(draws)]
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) if len(known) else (np.nan, np.nan)
    return Interval(float(low), float(high))


def bootstrap_weights(n: int, resamples: int, seed: int) -> Float[np.ndarray, "resamples n"]:
    """How often each of `n` items (at least one) is drawn in each of `resamples` ordinary bootstrap samples.

    Every row sums to `n`; equal seeds give equal counts on every machine.
    """
    return np.concatenate(list(weights_in_pieces(n, resamples, seed)))


def drawn_items(weights: Float[np.ndarray, "resamples n"]) -> Int[np.ndarray, "resamples n"]:
    """The items of each sample from how often each was drawn, in their order: for statistics that take no weights."""
    rows = np.repeat(np.tile(np.arange(weights.shape[1]), len(weights)), weights.astype(int).ravel())
    return rows.reshape(weights.shape)


def bootstrap_means(values: Float[np.ndarray, "rows n"], resamples: int, seed: int) -> Float[np.ndarray, "rows 2"]:
    """Percentile bootstrap intervals for the means over items of many rows at once.

    Items that are NaN (a prompt on which a metric is not defined) stay out of the mean, in the samples too. All rows
    share the draws of `bootstrap_weights`, so differences between rows (layers) are paired. Memory does not grow with
    resamples x items. The ends are NaN where fewer than two items are finite.

    Source: Efron & Tibshirani 1993, chapter 13.
    """
    present = np.isfinite(values)
    filled, there = np.where(present, values, 0.0), present.astype(np.float64)
    pieces = []
    for weights in weights_in_pieces(values.shape[1], resamples, seed):
        # Not BLAS, whose last bits depend on how many rows there are beside a row, and on its threads.
        totals = np.einsum("in,jn->ij", filled, weights)
        counts = there @ weights.T
        pieces.append(np.divide(totals, counts, out=np.full_like(totals, np.nan), where=counts > 0))
    means = np.concatenate(pieces, axis=1)
    return quantile_ends(means, present.sum(axis=1) >= 2)


def quantile_ends(
    draws: Float[np.ndarray, "rows resamples"], known: Bool[np.ndarray, " rows"]
) -> Float[np.ndarray, "rows 2"]:
    """`percentile_interval` of many rows at once: the ends of those that are `known`, NaN for the others."""
    ends = np.full((len(draws), 2), np.nan)
    if known.any():
        tail = (1 - LEVEL) / 2
        ends[known] = np.nanquantile(draws[known], [tail, 1 - tail], axis=1).T
    return ends


def weights_in_pieces(n: int, resamples: int, seed: int) -> Iterator[Float[np.ndarray, "_ n"]]:
    """The rows of `bootstrap_weights`, as many at once as `PIECE` draws."""
    # One stream of draws, so that pieces of any size hold the same samples.
    rng = np.random.default_rng(np.random.SeedSequence([seed, n]))
    size = max(1, PIECE // n)
    for start in range(0, resamples, size):
        draws = rng.integers(0, n, size=(min(size, resamples - start), n))
        offsets = draws + n * np.arange(len(draws))[:, None]
        yield np.bincount(offsets.ravel(), minlength=draws.size).reshape(draws.shape).astype(np.float64)


def leave_group_out(n: int, seed: int, groups: int = JACKKNIFE_GROUPS) -> list[Int[np.ndarray, " kept"]]:
    """Index sets for a delete-a-group jackknife: each leaves out one of `groups` random, equally large groups.

    Rows are never repeated, which matters for entropies and ranks: an ordinary bootstrap repeats rows and lowers them.
    Every one of the `n` items is its own group where there are fewer than `groups`. The sets are sorted, and none where
    `n` < 3.

    Source: Shao & Tu 1995, The Jackknife and Bootstrap, section 2.3.
    """
    if n < 3:
        return []
    rng = np.random.default_rng(np.random.SeedSequence([seed, n, 1]))
    label = (np.arange(n) % min(groups, n))[rng.permutation(n)]
    return [np.flatnonzero(label != group) for group in range(min(groups, n))]


def jackknife_interval(full: float, left_out: Float[np.ndarray, " groups"]) -> Interval:
    """Interval around a statistic of all items from its values with one group left out at a time.

    SE² = (g − 1)/g · Σ (θ_g − mean θ)²; the interval is full ± t(g − 1) · SE, with NaN ends where there are fewer than
    three groups or any value is not finite. Source: Shao & Tu 1995, section 2.3.
    """
    g = len(left_out)
    if g < 3 or not np.isfinite(full) or not np.isfinite(left_out).all():
        return Interval(float("nan"), float("nan"))
    error = float(np.sqrt((g - 1) / g * np.sum((left_out - left_out.mean()) ** 2)))
    half = float(stats.t.ppf((1 + LEVEL) / 2, g - 1)) * error
    return Interval(full - half, full + half)


def benjamini_hochberg(p: Float[np.ndarray, " tests"]) -> Float[np.ndarray, " tests"]:
    """P-values adjusted so that rejecting those below q keeps the expected share of false rejections below q.

    p̃_(i) = min over j ≥ i of p_(j) · m / j, at most 1, with m the number of tests that gave a p-value: in [0, 1],
    never below `p`. NaN, where a test could not be done, stays NaN and does not count as one. Raises ValueError where a
    value is outside [0, 1]. Paper: Benjamini & Hochberg 1995, section 3.1.
    """
    tested = np.isfinite(p)
    adjusted = np.full(p.shape, np.nan)
    adjusted[tested] = stats.false_discovery_control(p[tested])
    return adjusted


def add_adjusted(rows: Sequence[dict[str, Any]], name: str = "p") -> None:
    """Give every row the p-value of that name adjusted over all rows, as `p_adjusted`; None where it has None."""
    for row, adjusted in zip(rows, benjamini_hochberg(np.array([row[name] for row in rows], float)), strict=True):
        row[f"{name}_adjusted"] = None if row[name] is None else float(adjusted)
