"""Whether the prompts fall into two groups at a layer: Hartigan's dip test, and how far apart the groups are."""

from __future__ import annotations

from typing import Any

import diptest
import numpy as np
import polars as pl
from jaxtyping import Float

from layerscope.statistics.adjustment import benjamini_hochberg
from layerscope.statistics.intervals import LEVEL, bootstrap_weights
from layerscope.statistics.mixtures import distance_draws, fit_mixture

MIN_PROMPTS = 200
SMALLEST_P = 1e-6
CURVE = ("metric", "variant", "alpha", "readout", "positions", "normalization")

MODES = pl.Schema(
    {
        "metric": pl.String(),
        "variant": pl.String(),
        "alpha": pl.Float64(),
        "readout": pl.String(),
        "positions": pl.String(),
        "normalization": pl.String(),
        "layer": pl.Int32(),
        "n_prompts": pl.Int32(),
        "dip": pl.Float64(),
        "p": pl.Float64(),
        "p_adjusted": pl.Float64(),
        "distance": pl.Float64(),
        "distance_ci_low": pl.Float64(),
        "distance_ci_high": pl.Float64(),
        "split": pl.Float64(),
        "low_share": pl.Float64(),
        "low_mean": pl.Float64(),
        "high_mean": pl.Float64(),
        "low_sd": pl.Float64(),
        "high_sd": pl.Float64(),
        "note": pl.String(),
    }
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
    for curve in prompts.partition_by(CURVE, maintain_order=True):
        key = {name: curve[name][0] for name in CURVE}
        mine = [
            {
                "layer": part["layer"][0],
                **modes_of(part["value"].fill_null(float("nan")).to_numpy(), resamples=resamples, seed=seed),
            }
            for part in curve.sort("layer").partition_by("layer", maintain_order=True)
        ]
        adjusted = benjamini_hochberg(np.array([row["p"] for row in mine]))
        rows += [{**key, **row, "p_adjusted": float(p)} for row, p in zip(mine, adjusted, strict=True)]
    return pl.DataFrame(rows, schema=MODES)


def strongest_layers(modes: pl.DataFrame) -> pl.DataFrame:
    """The layer with the strongest bimodality of each curve: the largest dip of those with adjusted p below 0.05.

    Args:
        modes: from `find_modes`.

    Returns:
        One row of `modes` per curve. Where no layer qualifies, layer and all numbers are null and `note` says so.
    """
    rows = []
    for curve in modes.partition_by(CURVE, maintain_order=True):
        found = curve.filter(pl.col("p_adjusted").is_not_nan() & (pl.col("p_adjusted") < 1 - LEVEL))
        if not found.is_empty():
            rows.append(found.sort("dip", descending=True, maintain_order=True).row(0, named=True))
            continue
        tested = curve.filter(pl.col("p").is_not_nan())
        note = f"no layer of {len(tested)} tested has an adjusted p below {1 - LEVEL:.2f}"
        if tested.is_empty():
            note = f"no layer could be tested: {curve['note'][0]}"
        rows.append({**{name: curve[name][0] for name in CURVE}, "note": note})
    return pl.DataFrame(rows, schema=MODES)


def assign_modes(values: Float[np.ndarray, " n"], split: float) -> Float[np.ndarray, " n"]:
    """0 for values below the split, 1 for the others, NaN where the value is not finite."""
    return np.where(np.isfinite(values), (values >= split).astype(np.float64), np.nan)


def modes_of(values: Float[np.ndarray, " n"], *, resamples: int = 200, seed: int = 0) -> dict[str, Any]:
    """What `find_modes` says of one set of values, without the adjustment: the columns of `MODES` from n_prompts on."""
    finite = values[np.isfinite(values)]
    numbers = [name for name, kind in MODES.items() if kind == pl.Float64() and name != "alpha"]
    row: dict[str, Any] = dict.fromkeys(numbers, float("nan"))
    row |= {"n_prompts": len(finite), "note": ""}
    lost = len(values) - len(finite)
    without = f" ({lost} without a value)" if lost else ""
    if len(finite) < MIN_PROMPTS:
        return row | {"note": f"no dip test: {len(finite)} prompts{without}, at least {MIN_PROMPTS} are needed"}
    if np.ptp(finite) <= 1e-9 * np.abs(finite).max():
        return row | {"note": "no dip test: all prompts have the same value"}
    dip, p = diptest.diptest(finite)
    fitted = fit_mixture(finite)
    draws = distance_draws(finite, fitted, bootstrap_weights(len(finite), resamples, seed))
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    split = fitted.antimode()
    notes = [f"{lost} prompts without a value left out"] if lost else []
    if np.isnan(split):
        notes.append("no split: the fitted density has no dip between its means")
    return row | {
        "dip": float(dip),
        "p": max(float(p), SMALLEST_P),
        "distance": fitted.distance,
        "distance_ci_low": float(low),
        "distance_ci_high": float(high),
        "split": split,
        "low_share": fitted.weights[0],
        "low_mean": fitted.means[0],
        "high_mean": fitted.means[1],
        "low_sd": fitted.sds[0],
        "high_sd": fitted.sds[1],
        "note": "; ".join(notes),
    }
