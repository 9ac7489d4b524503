"""How strongly a set of values speaks for one mode, or for two: the dip beside what one mode and two modes give."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import diptest
import numpy as np
from jaxtyping import Float
from scipy import stats

from layerscope.errors import UserError
from layerscope.statistics.association import is_flat
from layerscope.statistics.intervals import LEVEL
from layerscope.statistics.modes import MIN_PROMPTS, hartigan

DISTANCE = 4.0
SHARE = 0.4
DRAWS = 999
HALVES = 200


@dataclass(frozen=True)
class WeighedDip:
    """The dip less what one mode exceeds in 5 % of samples, with its interval, and the p-values of both readings."""

    dip: float
    excess: float
    low: float
    high: float
    p_one_mode: float
    p_two_modes: float
    n: int

    @property
    def p(self) -> float:
        """Twice the smaller p-value: either reading can be refuted, one mode or two clear ones."""
        return min(1.0, 2 * min(self.p_one_mode, self.p_two_modes))


def weigh_dip(values: Float[np.ndarray, " n"], *, p_one_mode: float | None = None, seed: int = 0) -> WeighedDip:
    """Test a set of values against one mode and against two clear ones.

    Not to reject one mode is no evidence for one mode. So the other side is tested too: how often two Gaussians in a share
    of 40 : 60 that are 4 pooled standard deviations apart give a dip as small as this. Between the two lies what
    cannot be told: modes that overlap.

    Args:
        values: NaN is left out.
        p_one_mode: a p-value of Hartigan's test that was adjusted elsewhere (over layers), to be used instead.
        seed: of the draws and the groups of the jackknife.

    Returns:
        `excess`: dip minus the dip that a uniform distribution, the worst single mode, exceeds in 5 % of samples; its
        interval is excess ± 1.96 standard errors (`dip_error`).

    Raises UserError for fewer than 200 values, or all the same.

    Paper: Hartigan & Hartigan 1985.
    """
    known = values[np.isfinite(values)]
    n = len(known)
    if n < MIN_PROMPTS:
        raise UserError(f"a dip test needs at least {MIN_PROMPTS} prompts with a value, got {n}: use more texts (--n)")
    if is_flat(known):
        raise UserError("a dip test needs values that differ: all prompts have the same")
    dip, p = hartigan(known)
    excess = dip - critical_dip(n, seed)
    half = float(stats.norm.ppf((1 + LEVEL) / 2)) * dip_error(known, seed)
    p_two_modes = float((1 + (dips_of_two_modes(n, seed) <= dip).sum()) / (1 + DRAWS))
    p_one_mode = p if p_one_mode is None else p_one_mode
    return WeighedDip(dip, excess, excess - half, excess + half, p_one_mode, p_two_modes, n)


def dip_error(values: Float[np.ndarray, " n"], seed: int = 0) -> float:
    """Standard error of the dip by a delete-half jackknife: the standard deviation over random halves.

    A bootstrap repeats values, and ties raise the dip; a jackknife that leaves out few values is wrong for statistics that
    are not smooth, such as quantiles and dips.

    Paper: Shao & Wu 1989, Annals of Statistics 17.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, len(values), 9]))
    halves = [diptest.dipstat(rng.permutation(values)[: len(values) // 2]) for _ in range(HALVES)]
    return float(np.std(halves))


@functools.cache
def critical_dip(n: int, seed: int = 0) -> float:
    """The dip that 5 % of samples of `n` values from one uniform distribution exceed."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, n, 7]))
    return float(np.quantile([diptest.dipstat(rng.random(n)) for _ in range(DRAWS)], LEVEL))


@functools.cache
def dips_of_two_modes(n: int, seed: int = 0) -> Float[np.ndarray, " draws"]:
    """Dips of samples of `n` values from two Gaussians, 40 : 60, that are 4 standard deviations apart."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, n, 8]))
    low = rng.random((DRAWS, n)) < SHARE
    return np.array([diptest.dipstat(row) for row in rng.normal(size=(DRAWS, n)) + np.where(low, 0.0, DISTANCE)])
