"""Numbers with an interval and a p-value, for the quantities that claims are about."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy import stats

from layerscope.statistics.intervals import JACKKNIFE_GROUPS, LEVEL, PIECE, weights_in_pieces

MIN_UNITS = 5
PERMUTATIONS = 9999
RESAMPLES = 2000


@dataclass(frozen=True)
class Estimate:
    """A quantity, its 95 % interval, the p-value of its being 0, and over what it was taken.

    Where there is no value, all numbers are NaN and `note` says why.
    """

    value: float
    low: float
    high: float
    p: float
    n: int
    over: str = "prompts"
    unit: str = ""
    note: str = ""


def no_estimate(reason: str, *, over: str = "prompts", unit: str = "") -> Estimate:
    """An estimate that could not be made, and why."""
    return Estimate(math.nan, math.nan, math.nan, math.nan, 0, over, unit, reason)


def mean_estimate(
    values: Float[np.ndarray, " units"], *, over: str = "prompts", unit: str = "", seed: int = 0
) -> Estimate:
    """The mean of one value a prompt (or checkpoint, subject, ...), such as a difference between paired runs.

    Interval: percentile bootstrap; p: random sign flips, which need the values to be symmetric around 0 if their mean is
    0, as differences within pairs are when the pair's order does not matter.

    Args:
        values: one value a unit; NaN (not defined there) are left out.
        over: what the units are.
        unit: of the values.
        seed: seed of the resampling and the flips.

    Returns:
        The estimate; none where fewer than five units have a value.
    """
    known = values[np.isfinite(values)]
    n = len(known)
    if n < MIN_UNITS:
        return no_estimate(f"{n} {over} have a value, at least {MIN_UNITS} are needed", over=over, unit=unit)
    mean = float(known.mean())
    # In pieces, so that memory does not grow with prompts x draws.
    draws = np.concatenate([weights @ known for weights in weights_in_pieces(n, RESAMPLES, seed)]) / n
    low, high = (float(end) for end in np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]))
    rng = np.random.default_rng(np.random.SeedSequence([seed, n, 6]))
    rows = max(1, PIECE // n)
    reached = 0
    for start in range(0, PERMUTATIONS, rows):
        flips = rng.integers(0, 2, size=(min(rows, PERMUTATIONS - start), n)) * 2 - 1
        reached += int((np.abs(flips @ known) >= abs(known.sum()) - 1e-12).sum())
    return Estimate(mean, low, high, (1 + reached) / (1 + PERMUTATIONS), n, over, unit)


def paired_t(values: ArrayLike, *, over: str = "tasks", unit: str = "") -> Estimate:
    """The mean of a few values with Student's interval: for tasks, of which there are too few to resample.

    Returns:
        The estimate; none for fewer than two values.
    """
    known = np.asarray(values, dtype=np.float64)
    known = known[np.isfinite(known)]
    n = len(known)
    if n < 2:
        return no_estimate(f"{n} {over} have a value, at least 2 are needed", over=over, unit=unit)
    mean, error = float(known.mean()), float(known.std(ddof=1) / math.sqrt(n))
    return _student(mean, error, n - 1, n, over, unit)


def bounded_contrast(
    value: Float[np.ndarray, " layers"],
    low: Float[np.ndarray, " layers"],
    high: Float[np.ndarray, " layers"],
    weights: Float[np.ndarray, " layers"],
    *,
    n: int,
    unit: str = "",
) -> Estimate:
    """A contrast Σ w·value between layers of which only the intervals are known, as for metrics of pooled vectors.

    How the layers' errors go together is not stored in a run, so the largest standard error that they allow is taken,
    Σ |w| SE: the interval is never too short, and often much too long.

    Args:
        value: the metric at each layer.
        low: lower ends of its jackknife intervals.
        high: upper ends.
        weights: of the contrast.
        n: prompts behind the values.
        unit: of the values.

    Returns:
        The estimate; none where a layer that counts has no value or no interval.
    """
    used = weights != 0
    if not (np.isfinite(value[used]).all() and np.isfinite(low[used]).all() and np.isfinite(high[used]).all()):
        return no_estimate("some layers have no value or no interval", unit=unit)
    degrees = min(JACKKNIFE_GROUPS, n) - 1
    if degrees < 2:
        return no_estimate(f"{n} prompts are too few for an interval", unit=unit)
    error = float(np.abs(weights[used]) @ ((high[used] - low[used]) / 2 / _halves(degrees)))
    return _student(float(weights[used] @ value[used]), error, degrees, n, "prompts", unit)


def weaker(estimates: Sequence[Estimate], sign: Literal[1, -1]) -> Estimate:
    """The one of several estimates that says least for `all of them have this sign`.

    All have it where the weakest has it, at its own p (an intersection-union test). That the weakest was looked for is
    paid for where it speaks against: p is then multiplied by their number.
    """
    for one in estimates:
        if not math.isfinite(one.value):
            return one
    least = min(estimates, key=lambda one: sign * one.value)
    return least if sign * least.value > 0 else replace(least, p=min(1.0, least.p * len(estimates)))


def against_both(
    values: Callable[[str], Float[np.ndarray, " prompts"]], sign: Literal[1, -1], *, unit: str, seed: int
) -> Estimate:
    """`weaker` of the means of what the middle third has over the early and over the late one."""
    return weaker([mean_estimate(values(other), unit=unit, seed=seed) for other in ("early", "late")], sign)


def size(estimate: Estimate) -> Estimate:
    """How large a quantity is, whichever its sign."""
    if estimate.value >= 0:
        return estimate
    return replace(estimate, value=-estimate.value, low=-estimate.high, high=-estimate.low)


def interval_estimate(value: float, low: float, high: float, *, n: int, over: str, unit: str = "") -> Estimate:
    """A quantity whose Student interval over `n` units is known, with the p-value that belongs to it."""
    if n < 2 or not all(math.isfinite(end) for end in (value, low, high)):
        return no_estimate(f"{n} {over}: no interval", over=over, unit=unit)
    return _student(value, (high - low) / 2 / _halves(n - 1), n - 1, n, over, unit)


def difference(one: Estimate, other: Estimate) -> Estimate:
    """`one` minus `other` where the two are not paired, or how they are paired is not known: the errors add up in full."""
    if not (math.isfinite(one.value) and math.isfinite(other.value)):
        return no_estimate(one.note or other.note or "one side has no value", over=one.over, unit=one.unit)
    half = (one.high - one.low) / 2 + (other.high - other.low) / 2
    n = min(one.n, other.n)
    degrees = max(2, min(JACKKNIFE_GROUPS, n) - 1)
    return _student(one.value - other.value, half / _halves(degrees), degrees, n, one.over, one.unit)


def _halves(degrees: int) -> float:
    """How many standard errors half an interval is."""
    return float(stats.t.ppf((1 + LEVEL) / 2, degrees))


def _student(value: float, error: float, degrees: int, n: int, over: str, unit: str) -> Estimate:
    half = _halves(degrees) * error
    p = float(2 * stats.t.sf(abs(value) / error, degrees)) if error > 0 else (1.0 if value == 0 else 0.0)
    return Estimate(value, value - half, value + half, p, n, over, unit)
