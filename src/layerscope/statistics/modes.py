"""Whether the prompts fall into two groups at a layer: Hartigan's dip test, what it weighs, and how far apart they are."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import diptest
import numpy as np
import polars as pl
from jaxtyping import Float
from scipy import stats

from layerscope.errors import UserError
from layerscope.statistics.association import is_flat
from layerscope.statistics.intervals import LEVEL, add_adjusted, bootstrap_weights, bounded, with_ends
from layerscope.statistics.mixtures import distance_draws, fit_mixture

MIN_PROMPTS = 200
SMALLEST_P = 1e-6
DISTANCE = 4.0
SHARE = 0.4
DRAWS = 999
HALVES = 200
PROMPT_CURVE = ("metric", "variant", "alpha", "readout", "positions", "normalization")
_FITTED = ("low_share", "low_mean", "high_mean", "low_sd", "high_sd")
_NUMBERS = ("dip", "p", "p_adjusted", *with_ends("distance"), "split", *_FITTED)

MODES = pl.Schema(
    dict.fromkeys(PROMPT_CURVE, pl.String())
    | {"alpha": pl.Float64(), "layer": pl.Int32(), "n_prompts": pl.Int32()}
    | dict.fromkeys(_NUMBERS, pl.Float64())
    | {"note": pl.String()}
)


def find_modes(prompts: pl.DataFrame, *, resamples: int = 200, seed: int = 0) -> pl.DataFrame:
    """Test at every layer whether the prompts' values have more than one mode, and measure how far two are apart.

    Hartigan's dip: the largest distance of the values' distribution function from the nearest unimodal one; its p is
    for the uniform distribution, the worst unimodal case. Effect size: two Gaussians fitted by EM, the distance of
    their means in pooled standard deviations (two equal ones have two modes from a distance of 2 on). `split` is the
    antimode, where the fitted density is lowest between the means.

    Args:
        prompts: prompts table of one run: prompt_id, layer, the columns that name a curve, value.
        resamples, seed: bootstrap samples over prompts for the interval of the distance, and their seed.

    Returns one row per curve and layer. dip in [0, 0.25]; p is at least 1e-6, the resolution of the published table,
    and adjusted by Benjamini-Hochberg over the layers of a curve. Distances in pooled SDs, the rest in the metric's
    unit. NaN with fewer than 200 prompts, and where all prompts have one value, with the reason in `note`. The split is
    NaN where the fitted density has no dip.
    Papers: Hartigan & Hartigan 1985; arXiv 2412.09563, figure 4.
    """
    rows: list[dict[str, Any]] = []
    for curve in prompts.partition_by(PROMPT_CURVE, maintain_order=True):
        mine = []
        for part in curve.sort("layer").partition_by("layer", maintain_order=True):
            values = part["value"].fill_null(np.nan).to_numpy()
            mine.append(part.row(0, named=True) | modes_of(values, resamples=resamples, seed=seed))
        add_adjusted(mine)
        rows += mine
    return pl.DataFrame(rows, schema=MODES)


def hartigan(values: Float[np.ndarray, " n"]) -> tuple[float, float]:
    """Hartigan's dip of finite values, in [0, 0.25], and its p, at least 1e-6, the resolution of the published table."""
    dip, p = diptest.diptest(values)
    return float(dip), max(float(p), SMALLEST_P)


def assign_modes(values: Float[np.ndarray, " n"], split: float) -> Float[np.ndarray, " n"]:
    """0 for values below the split, 1 for the others, NaN where the value is not finite."""
    return np.where(np.isfinite(values), (values >= split).astype(np.float64), np.nan)


def modes_of(values: Float[np.ndarray, " n"], *, resamples: int = 200, seed: int = 0) -> dict[str, Any]:
    """What `find_modes` says of one set of values, without the adjustment: the columns of `MODES` from n_prompts on."""
    finite = values[np.isfinite(values)]
    row: dict[str, Any] = dict.fromkeys(_NUMBERS, float("nan"))
    row |= {"n_prompts": len(finite), "note": ""}
    lost = len(values) - len(finite)
    without = f" ({lost} without a value)" if lost else ""
    if len(finite) < MIN_PROMPTS:
        return row | {"note": f"no dip test: {len(finite)} prompts{without}, at least {MIN_PROMPTS} are needed"}
    if is_flat(finite):
        return row | {"note": "no dip test: all prompts have the same value"}
    dip, p = hartigan(finite)
    fitted = fit_mixture(finite)
    draws = distance_draws(finite, fitted, bootstrap_weights(len(finite), resamples, seed))
    split = fitted.antimode()
    notes = [f"{lost} prompts without a value left out"] if lost else []
    if np.isnan(split):
        notes.append("no split: the fitted density has no dip between its means")
    return row | {
        "dip": dip,
        "p": p,
        **bounded("distance", fitted.distance, draws),
        "split": split,
        **dict(zip(_FITTED, (fitted.weights[0], *fitted.means, *fitted.sds), strict=True)),
        "note": "; ".join(notes),
    }


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

    Not to reject one mode is no evidence for one mode. So the other side is tested too: how often two Gaussians in a
    share of 40 : 60 that are 4 pooled standard deviations apart give a dip as small as this. Between the two lies what
    cannot be told: modes that overlap. `p_one_mode` is a p-value of Hartigan's test that was adjusted elsewhere (over
    layers), to be used instead; values that are NaN are left out.

    Returns `excess`: dip minus the dip that a uniform distribution, the worst single mode, exceeds in 5 % of samples;
    its interval is excess ± 1.96 standard errors (`dip_error`).
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

    A bootstrap repeats values, and ties raise the dip; a jackknife that leaves out few values is wrong for statistics
    that are not smooth, such as quantiles and dips. Paper: Shao & Wu 1989, Annals of Statistics 17.
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
