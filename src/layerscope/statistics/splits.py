"""Whether the same prompts fall into the same two modes when something about the measurement is changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float
from scipy import stats

from layerscope.statistics.differences import MIN_GROUP, Prompts, cliffs_delta
from layerscope.statistics.intervals import (
    SIGNIFICANCE,
    add_adjusted,
    bootstrap_weights,
    bounded,
    drawn_items,
    with_ends,
)
from layerscope.statistics.modes import assign_modes, modes_of

# Each fits a mixture: a distance needs fewer draws than it costs.
MIXTURE_RESAMPLES = 100

SPLITS = pl.Schema(
    {"change": pl.String(), "n": pl.Int32()}
    | dict.fromkeys(("dip", "p", "p_adjusted", *with_ends("distance")), pl.Float64())
    | dict.fromkeys((*with_ends("apart"), *with_ends("agreement")), pl.Float64())
    | {"note": pl.String()}
)


def compare_splits(
    label: Prompts, changed: Mapping[str, Prompts], *, resamples: int = 300, seed: int = 0
) -> pl.DataFrame:
    """Measure the same prompts differently, and see whether there are still two modes, and whether they are the same.

    Args:
        label: 0 or 1 a prompt, its mode as first measured; NaN is left out.
        changed: name of a change to the measurement, and the prompts' values under it, rows as in `label`.
        resamples, seed: bootstrap samples over prompts for the intervals, and their seed.

    Returns one row a change. dip, p and distance as in `find_modes`, p_adjusted over the rows. `apart`: Cliff's delta
    of the values under the change between the first modes, in [-1, 1], ±1 where they do not overlap, 0 where nothing of
    them is left. `agreement`: Cohen's kappa of the modes under the change, split at their own antimode, with the first
    ones, in [-1, 1], 1 the same prompts, 0 chance, below 0 the other way round; NaN, with the reason, where there is no
    split or no significant dip to split at.
    Papers: Cliff 1993; Cohen 1960.
    """
    rows = [_one(name, label, values, (resamples, seed)) for name, values in changed.items()]
    add_adjusted(rows)
    for row in rows:
        if row["p_adjusted"] >= SIGNIFICANCE:
            note = "; ".join(filter(None, (row["note"], "no modes to compare")))
            row.update(dict.fromkeys(with_ends("agreement"), np.nan), note=note)
    return pl.DataFrame(rows, schema=SPLITS)


def cohens_kappa(one: Float[np.ndarray, "*rows n"], two: Float[np.ndarray, "*rows n"]) -> Float[np.ndarray, " *rows"]:
    """(observed − expected agreement) / (1 − expected) of sets of 0/1 labels; NaN where both are constant and equal."""
    observed = (one == two).mean(axis=-1)
    a, b = one.mean(axis=-1), two.mean(axis=-1)
    expected = a * b + (1 - a) * (1 - b)
    unknown = np.full_like(observed, np.nan)
    return np.asarray(np.divide(observed - expected, 1 - expected, out=unknown, where=expected < 1))


def _one(name: str, label: np.ndarray, values: np.ndarray, how: tuple[int, int]) -> dict[str, Any]:
    usable = np.isfinite(values) & np.isfinite(label)
    mine, first = values[usable], label[usable]
    tested = modes_of(values, resamples=MIXTURE_RESAMPLES, seed=how[1])
    row: dict[str, Any] = dict.fromkeys(SPLITS, np.nan) | {
        key: tested[key] for key in ("dip", "p", *with_ends("distance"), "note")
    }
    row |= {"change": name, "n": len(mine)}
    # Within the modes, so that no sample lacks one.
    members = [np.flatnonzero(first == k) for k in (0, 1)]
    if min(map(len, members)) < MIN_GROUP:
        return row
    drawn = [one[drawn_items(bootstrap_weights(len(one), how[0], how[1] + k))] for k, one in enumerate(members)]
    rows = np.hstack(drawn)
    apart = cliffs_delta(first[None], stats.rankdata(mine)[None])[0]
    draws = cliffs_delta(first[rows], stats.rankdata(mine[rows], axis=1))
    row |= bounded("apart", apart, draws)
    if np.isfinite(tested["split"]):
        second = assign_modes(mine, tested["split"])
        rows = drawn_items(bootstrap_weights(len(mine), *how))
        row |= bounded("agreement", cohens_kappa(first, second), cohens_kappa(first[rows], second[rows]))
    return row
