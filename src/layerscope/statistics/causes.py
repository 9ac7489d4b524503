"""Whether a candidate cause accounts for two modes: do they go when it is taken out of the values?"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float
from scipy import stats

from layerscope.statistics.association import is_flat
from layerscope.statistics.differences import Prompts, covariate_values
from layerscope.statistics.intervals import add_adjusted, bootstrap_weights, bounded, with_ends
from layerscope.statistics.modes import MIN_PROMPTS, hartigan

ALL = "all together"
KNOTS = (0.25, 0.5, 0.75)

WITHOUT = pl.Schema(
    {"covariate": pl.String(), "n": pl.Int32()}
    | dict.fromkeys((*with_ends("explained"), "p_explained", "dip_before", "p_before"), pl.Float64())
    | {"dip": pl.Float64(), "p": pl.Float64(), "p_adjusted": pl.Float64(), "note": pl.String()}
)


def take_out(values: Prompts, covariates: pl.DataFrame, *, resamples: int = 500, seed: int = 0) -> pl.DataFrame:
    """Test for two modes again after what a covariate predicts of the values was taken out; each, and all together.

    Two groups can differ in a covariate without having come about by it: everything that goes with the values
    differs between their upper and lower half, in one mode as in two. A cause of the modes has to do more: where it is
    taken out of the values, the modes go. The prediction is a least-squares cubic spline with knots at the quartiles (a
    step where a covariate has two values; a cubic where the quartiles fall together), so that it may bend.

    Args:
        values: the metric's value of each prompt; NaN is left out.
        covariates: one column a candidate cause, one row a prompt; numbers or booleans. A prompt that lacks a covariate
            is left out of its row.
        resamples, seed: bootstrap samples over prompts for the intervals, and their seed.

    Returns one row a covariate and one for `ALL` that have values. `explained`: share of the values' variance that it
    predicts, adjusted for the number of terms, at most 1; about 0, or slightly below, for an unrelated one;
    `p_explained` by the F test of all its terms. `dip_before`, `p_before`: Hartigan's test of the same prompts' values
    as they are; `dip`, `p`: of what is left, `p_adjusted` by Benjamini-Hochberg over the rows. NaN with the reason
    where the covariate is constant or fewer than 200 prompts have it. What is left is small where `explained` is near
    1: a dip there is of the rest only.
    Raises UserError for another number of rows than of values, or a column that is neither numeric nor boolean.
    """
    table = covariate_values(covariates, values, "value")
    how = (resamples, seed)
    rows = [_without(name, values, table[:, [column]], how) for column, name in enumerate(covariates.columns)]
    usable = [column for column, row in enumerate(rows) if np.isfinite(row["explained"])]
    if len(usable) > 1:
        rows.append(_without(ALL, values, table[:, usable], how))
    add_adjusted(rows)
    return pl.DataFrame(rows, schema=WITHOUT)


def residuals(values: Float[np.ndarray, " n"], covariates: Float[np.ndarray, "n covariates"]) -> np.ndarray:
    """What is left of the values, its mean 0, after the prediction from the covariates, which are finite, none constant."""
    design = _design(covariates)
    return np.asarray(values - design @ np.linalg.lstsq(design, values, rcond=None)[0])


def _without(name: str, values: np.ndarray, columns: np.ndarray, how: tuple[int, int]) -> dict[str, Any]:
    usable = np.isfinite(values) & np.isfinite(columns).all(axis=1)
    mine, given = values[usable], columns[usable]
    row: dict[str, Any] = dict.fromkeys(WITHOUT, np.nan) | {"covariate": name, "n": len(mine)}
    if len(mine) < MIN_PROMPTS:
        return row | {"note": f"no value: {len(mine)} prompts have it, at least {MIN_PROMPTS} are needed"}
    if (np.ptp(given, axis=0) == 0).any():
        return row | {"note": "no value: the same for every prompt"}
    if is_flat(mine):
        return row | {"note": "no value: all prompts have the same value"}
    left, design, n = residuals(mine, given), _design(given), len(mine)
    centred = mine - mine.mean()
    rest, total, terms = float(left @ left), float((centred**2).sum()), design.shape[1]
    share = 1 - rest / total * (n - 1) / max(n - terms, 1)
    row |= bounded("explained", share, _explained_draws(centred, design, how))
    terms = int(np.linalg.matrix_rank(design))
    if 2 <= terms < n:
        f = (total - rest) / (terms - 1) / (rest / (n - terms)) if rest > 0 else np.inf
        row["p_explained"] = float(stats.f.sf(f, terms - 1, n - terms))
    row["dip_before"], row["p_before"] = hartigan(mine)
    row["dip"], row["p"] = (0.0, 1.0) if np.ptp(left) <= 1e-9 * np.ptp(mine) else hartigan(left)
    return row | {"note": f"{len(values) - n} prompts without it left out" if n < len(values) else ""}


def _explained_draws(values: np.ndarray, design: np.ndarray, how: tuple[int, int]) -> np.ndarray:
    n = len(values)
    basis, sizes, _ = np.linalg.svd(design, full_matrices=False)
    basis = basis[:, sizes > sizes[0] * 1e-10]
    terms = basis.shape[1]
    weights = bootstrap_weights(n, *how)
    # All samples' normal equations at once; the basis is orthonormal for all prompts, so near it for a sample.
    products = (weights @ (basis[:, :, None] * basis[:, None, :]).reshape(n, -1)).reshape(-1, terms, terms)
    targets = weights @ (basis * values[:, None])
    # A sample can lack every prompt with a rare value: its term is then 0.
    solved = np.linalg.solve(products + 1e-9 * np.eye(terms), targets[:, :, None])[:, :, 0]
    total = weights @ values**2 - (weights @ values) ** 2 / n
    rest = weights @ values**2 - (solved * targets).sum(axis=1)
    # Repeated prompts fit better than new ones: a sample's distinct prompts are what the terms are paid from.
    distinct = (weights > 0).sum(axis=1)
    known = total > 0
    return np.asarray(1 - (rest / total * (distinct - 1) / np.maximum(distinct - terms, 1))[known])


def _design(covariates: np.ndarray) -> np.ndarray:
    terms = [np.ones(len(covariates))]
    for column in covariates.T:
        scaled = (column - column.mean()) / column.std()
        distinct = len(np.unique(column))
        terms += [scaled**power for power in range(1, min(3, distinct - 1) + 1)]
        if distinct > 3 + len(KNOTS):
            knots = np.unique(np.quantile(scaled, KNOTS))
            terms += [np.clip(scaled - knot, 0, None) ** 3 for knot in knots if scaled.min() < knot < scaled.max()]
    return np.column_stack(terms)
