"""Whether the prompts fall into two groups at a layer: Hartigan's dip test, and how far apart the groups are."""

from __future__ import annotations

from typing import Any

import diptest
import numpy as np
import polars as pl
from jaxtyping import Float

from layerscope.statistics.association import is_flat
from layerscope.statistics.intervals import add_adjusted, bootstrap_weights, bounded, with_ends
from layerscope.statistics.mixtures import distance_draws, fit_mixture

MIN_PROMPTS = 200
SMALLEST_P = 1e-6
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
        resamples: bootstrap samples over prompts for the interval of the distance.
        seed: seed of the resampling.

    Returns:
        One row per curve and layer. dip in [0, 0.25]; p is at least 1e-6, the resolution of the published table, and
        adjusted by Benjamini-Hochberg over the layers of a curve. Distances in pooled SDs, the rest in the metric's
        unit. NaN with fewer than 200 prompts, and where all prompts have one value, with the reason in `note`. The
        split is NaN where the fitted density has no dip.

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
