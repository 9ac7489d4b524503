"""Whether the same prompts fall into the same two modes when something about the measurement is changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float
from scipy import stats

from layerscope.statistics.adjustment import benjamini_hochberg
from layerscope.statistics.intervals import LEVEL, bootstrap_weights
from layerscope.statistics.modes import assign_modes, modes_of

# Each fits a mixture: a distance needs fewer draws than it costs.
MIXTURE_RESAMPLES = 100

SPLITS = pl.Schema(
    {
        "change": pl.String(),
        "n": pl.Int32(),
        "dip": pl.Float64(),
        "p": pl.Float64(),
        "p_adjusted": pl.Float64(),
        "distance": pl.Float64(),
        "distance_ci_low": pl.Float64(),
        "distance_ci_high": pl.Float64(),
        "apart": pl.Float64(),
        "apart_ci_low": pl.Float64(),
        "apart_ci_high": pl.Float64(),
        "agreement": pl.Float64(),
        "agreement_ci_low": pl.Float64(),
        "agreement_ci_high": pl.Float64(),
        "note": pl.String(),
    }
)


@dataclass(frozen=True)
class _Ends:
    value: float
    low: float
    high: float


def compare_splits(
    label: Float[np.ndarray, " prompts"],
    changed: Mapping[str, Float[np.ndarray, " prompts"]],
    *,
    resamples: int = 300,
    seed: int = 0,
) -> pl.DataFrame:
    """Measure the same prompts differently, and see whether there are still two modes, and whether they are the same.

    Args:
        label: 0 or 1 a prompt, its mode as first measured; NaN is left out.
        changed: name of a change to the measurement, and the prompts' values under it, rows as in `label`.
        resamples: bootstrap samples over prompts for the intervals.
        seed: seed of the draws.

    Returns:
        One row a change. dip, p and distance as in `find_modes`, p_adjusted over the rows. `apart`: Cliff's delta of the
        values under the change between the first modes, in [-1, 1], ±1 where they do not overlap, 0 where nothing of them
        is left. `agreement`: Cohen's kappa of the modes under the change, split at their own antimode, with the
        first ones, in [-1, 1], 1 the same prompts, 0 chance, below 0 the other way round; NaN, with the reason,
        where there is no split or no significant dip to split at.

    Papers: Cliff 1993; Cohen 1960.
    """
    rows = [_one(name, label, values, (resamples, seed)) for name, values in changed.items()]
    adjusted = benjamini_hochberg(np.array([row["p"] for row in rows]))
    for row, p in zip(rows, adjusted, strict=True):
        row["p_adjusted"] = float(p)
        if np.isfinite(p) and p >= 1 - LEVEL:
            nothing = dict.fromkeys(("agreement", "agreement_ci_low", "agreement_ci_high"), float("nan"))
            row.update(nothing, note="; ".join(part for part in (row["note"], "no modes to compare") if part))
    return pl.DataFrame(rows, schema=SPLITS)


def cohens_kappa(one: Float[np.ndarray, "*rows n"], two: Float[np.ndarray, "*rows n"]) -> Float[np.ndarray, " *rows"]:
    """(observed − expected agreement) / (1 − expected) of two sets of 0/1 labels; NaN where both are constant and equal."""
    observed = (one == two).mean(axis=-1)
    a, b = one.mean(axis=-1), two.mean(axis=-1)
    expected = a * b + (1 - a) * (1 - b)
    return np.asarray(
        np.divide(observed - expected, 1 - expected, out=np.full_like(observed, np.nan), where=expected < 1)
    )


def _one(name: str, label: np.ndarray, values: np.ndarray, how: tuple[int, int]) -> dict[str, Any]:
    usable = np.isfinite(values) & np.isfinite(label)
    mine, first = values[usable], label[usable]
    row: dict[str, Any] = {key: float("nan") for key, kind in SPLITS.items() if kind == pl.Float64()}
    tested = modes_of(values, resamples=MIXTURE_RESAMPLES, seed=how[1])
    row |= {key: tested[key] for key in ("dip", "p", "distance", "distance_ci_low", "distance_ci_high")}
    row |= {"change": name, "n": len(mine), "note": tested["note"]}
    if min((first == 0).sum(), (first == 1).sum()) < 5:
        return row
    # Within the modes, so that no sample lacks one.
    rows = np.zeros((how[0], 0), dtype=int)
    for k in (0, 1):
        members = np.flatnonzero(first == k)
        weights = bootstrap_weights(len(members), how[0], how[1] + k).astype(int)
        rows = np.hstack([rows, np.repeat(np.tile(members, len(weights)), weights.ravel()).reshape(len(weights), -1)])
    apart = _ends(_delta(first[None], mine[None])[0], _delta(first[rows], mine[rows]))
    row |= {"apart": apart.value, "apart_ci_low": apart.low, "apart_ci_high": apart.high}
    if np.isfinite(tested["split"]):
        second = assign_modes(mine, tested["split"])
        n = len(mine)
        drawn = bootstrap_weights(n, how[0], how[1]).astype(int)
        picked = np.repeat(np.tile(np.arange(n), len(drawn)), drawn.ravel()).reshape(len(drawn), n)
        kappa = _ends(float(cohens_kappa(first, second)), cohens_kappa(first[picked], second[picked]))
        row |= {"agreement": kappa.value, "agreement_ci_low": kappa.low, "agreement_ci_high": kappa.high}
    return row


def _delta(label: np.ndarray, values: np.ndarray) -> np.ndarray:
    ranks = stats.rankdata(values, axis=1)
    n_1 = label.sum(axis=1)
    n_0 = label.shape[1] - n_1
    wins = (label * ranks).sum(axis=1) - n_1 * (n_1 + 1) / 2
    return np.asarray(2 * wins / (n_0 * n_1) - 1)


def _ends(value: float, draws: np.ndarray) -> _Ends:
    known = draws[np.isfinite(draws)]
    if not len(known):
        return _Ends(float(value), float("nan"), float("nan"))
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return _Ends(float(value), float(low), float(high))
