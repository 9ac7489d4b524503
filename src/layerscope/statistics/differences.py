"""In what two groups of prompts differ: effect sizes, intervals and adjusted p-values of candidate causes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float
from scipy import stats

from layerscope.errors import UserError
from layerscope.statistics.intervals import add_adjusted, bootstrap_weights, drawn_items, percentile_interval
from layerscope.statistics.logistic import RIDGE, fit_logistic

MIN_GROUP = 5
Prompts = Float[np.ndarray, " prompts"]
Effect = Callable[[Float[np.ndarray, "samples n"], Float[np.ndarray, "samples n"]], Float[np.ndarray, " samples"]]

DIFFERENCES = pl.Schema(
    dict.fromkeys(("covariate", "kind", "effect"), pl.String())
    | dict.fromkeys(("value", "ci_low", "ci_high", "p", "p_adjusted", "mean_0", "mean_1"), pl.Float64())
    | {"n_0": pl.Int32(), "n_1": pl.Int32(), "note": pl.String()}
)
JOINT = pl.Schema(
    {"covariate": pl.String()}
    | dict.fromkeys(("coefficient", "ci_low", "ci_high", "odds_ratio", "p", "p_adjusted"), pl.Float64())
    | {"n": pl.Int32(), "note": pl.String()}
)


def compare_groups(
    label: Prompts, covariates: pl.DataFrame, *, resamples: int = 1000, permutations: int = 9999, seed: int = 0
) -> pl.DataFrame:
    """How the prompts of mode 1 differ from those of mode 0 in each covariate, one at a time.

    Numeric: Cohen's d (difference of means in pooled standard deviations) and Cliff's delta (P(x₁ > x₀) − P(x₁ < x₀),
    twice the AUC minus one). Binary (two distinct values): phi (Pearson correlation of two 0/1 variables) and the log
    odds ratio with 1/2 added to every cell.

    Args:
        label: 0 or 1 a prompt; prompts with NaN are left out.
        covariates: one column a candidate cause, one row a prompt; numbers or booleans. Missing values are left out.
        resamples: bootstrap samples, drawn within each group, for the percentile intervals.
        permutations: label permutations for the two-sided p-values, which are at least 1 / (permutations + 1).
        seed: seed of both.

    Returns two rows a covariate, one an effect; positive where mode 1 has the larger values. P-values are adjusted by
    Benjamini-Hochberg over all rows. NaN with the reason where a covariate is constant, or a group has fewer than five
    prompts with it.
    Raises UserError for a label that is not 0/1 or not as long as the table, or a column neither numeric nor boolean.
    Sources: Cohen 1988; Cliff 1993; Haldane 1956 (the 1/2); Phipson & Smyth 2010 (the + 1 of permutation p-values).
    """
    table = _checked(label, covariates)
    rows: list[dict[str, Any]] = []
    for name, values in zip(covariates.columns, table.T, strict=True):
        usable = np.isfinite(values) & np.isfinite(label)
        rows += _one(name, values[usable], label[usable] == 1, (resamples, permutations, seed))
    add_adjusted(rows)
    return pl.DataFrame(rows, schema=DIFFERENCES)


def covariate_values(covariates: pl.DataFrame, given: Prompts, word: str) -> Float[np.ndarray, "prompts covariates"]:
    """Candidate causes, numbers or booleans with a row a prompt, as numbers; NaN where one is missing.

    Raises UserError where they are not as many as what is `given` of the prompts besides (a `word` each), or a column
    is neither numeric nor boolean.
    """
    if len(given) != len(covariates):
        raise UserError(
            f"expected one {word} a prompt: {len(covariates)} prompts have covariates, {len(given)} a {word}"
        )
    for name, kind in covariates.schema.items():
        if not (kind.is_numeric() or kind == pl.Boolean()):
            raise UserError(f"expected numbers or booleans in {name!r}, got {kind}: turn categories into 0/1 columns")
    return covariates.select(pl.all().cast(pl.Float64).fill_null(float("nan"))).to_numpy()


def fit_jointly(label: Prompts, covariates: pl.DataFrame, *, ridge: float = RIDGE) -> pl.DataFrame:
    """Which covariates still tell the modes apart when all the others are held fixed: one logistic regression.

    Still an association: a cause that was not measured is not held fixed.

    Args:
        label: 0 or 1 a prompt; prompts with NaN are left out.
        covariates: as for `compare_groups`; a prompt that lacks any covariate that is used is left out.
        ridge: weight of the penalty (see `fit_logistic`).

    Returns one row a covariate: log odds ratio per standard deviation with its Wald interval, the odds ratio, p and
    Benjamini-Hochberg over the covariates. NaN with the reason for constants, and for all where the smaller mode has
    fewer than five prompts; `note` warns where it has fewer than ten a covariate. Raises as `compare_groups` does.
    """
    table = _checked(label, covariates)
    complete = np.isfinite(table) | ~np.isfinite(table).any(axis=0)
    usable = complete.all(axis=1) & np.isfinite(label)
    used = [c for c in range(table.shape[1]) if usable.any() and np.ptp(np.nan_to_num(table[usable, c])) > 0]
    mine = label[usable]
    fewest = int(min((mine == 0).sum(), (mine == 1).sum()))
    enough = fewest >= MIN_GROUP
    reason = "the same for every prompt, or missing for all"
    if not enough:
        reason = f"{fewest} prompts in the smaller mode, at least {MIN_GROUP} are needed"
    missing = dict.fromkeys(JOINT, np.nan) | {"n": int(usable.sum()), "note": f"no value: {reason}"}
    rows: list[dict[str, Any]] = [missing | {"covariate": name} for name in covariates.columns]
    if enough and used:
        fit = fit_logistic(table[np.ix_(usable, used)], mine, ridge=ridge)
        notes = []
        if fit.separated:
            notes.append("the covariates tell the modes apart without error: the size is set by the ridge")
        if fewest < 10 * len(used):
            notes.append(f"{fewest} prompts in the smaller mode for {len(used)} covariates: unreliable below 10 each")
        found = (fit.coefficients, fit.low, fit.high, np.exp(fit.coefficients), fit.p)
        for c, numbers in zip(used, np.transpose(found).tolist(), strict=True):
            rows[c] |= dict(zip(("coefficient", "ci_low", "ci_high", "odds_ratio", "p"), numbers, strict=True))
            rows[c]["note"] = "; ".join(notes)
    add_adjusted(rows)
    return pl.DataFrame(rows, schema=JOINT)


def _checked(label: np.ndarray, covariates: pl.DataFrame) -> np.ndarray:
    table = covariate_values(covariates, label, "label")
    finite = label[np.isfinite(label)]
    if not np.isin(finite, (0, 1)).all():
        raise UserError(f"expected labels 0 and 1, got {sorted(set(finite.tolist()))[:5]}")
    return table


def _one(name: str, values: np.ndarray, group: np.ndarray, how: tuple[int, int, int]) -> list[dict[str, Any]]:
    levels = np.unique(values)
    kind = "binary" if len(levels) == 2 else "numeric"
    row: dict[str, Any] = dict.fromkeys(DIFFERENCES, np.nan) | {"covariate": name, "kind": kind, "note": ""}
    for k, part in enumerate((values[~group], values[group])):
        row |= {f"n_{k}": len(part), f"mean_{k}": float(part.mean()) if len(part) else np.nan}
    n_0, n_1 = row["n_0"], row["n_1"]
    if min(n_0, n_1) < MIN_GROUP:
        few = f"{n_0} prompts of mode 0 and {n_1} of mode 1 have it, at least {MIN_GROUP} each are needed"
        row["note"] = f"no value: {few}"
    elif len(levels) < 2:
        row["note"] = "no value: the same for every prompt"
    if row["note"]:
        return [row | {"effect": effect} for effect in EFFECTS[kind]]
    # The larger of two values counts as 1, whatever the numbers are.
    coded = np.asarray(values == levels[1], dtype=np.float64) if kind == "binary" else values
    return [row | {"effect": effect} | _infer(coded, group, read, how) for effect, read in EFFECTS[kind].items()]


def _infer(values: np.ndarray, group: np.ndarray, effect: Effect, how: tuple[int, int, int]) -> dict[str, float]:
    resamples, permutations, seed = how
    ones = group.astype(np.float64)
    if effect is cliffs_delta:
        values = stats.rankdata(values)
    observed = float(effect(ones[None], values[None])[0])
    rng = np.random.default_rng(np.random.SeedSequence([seed, len(values), 4]))
    reached = 0
    # In pieces: all permutations of a thousand prompts at once are 80 MB.
    for start in range(0, permutations, 1000):
        shuffled = rng.permuted(np.tile(ones, (min(1000, permutations - start), 1)), axis=1)
        null = effect(shuffled, np.broadcast_to(values, shuffled.shape))
        reached += int((np.abs(null) >= abs(observed) - 1e-12).sum())
    weights = np.zeros((resamples, len(values)))
    for k, members in enumerate((~group, group)):
        weights[:, members] = bootstrap_weights(int(members.sum()), resamples, seed + k)
    drawn = drawn_items(weights)
    sampled = stats.rankdata(values[drawn], axis=1) if effect is cliffs_delta else values[drawn]
    ends = percentile_interval(effect(ones[drawn], sampled))
    return {"value": observed, "ci_low": ends.low, "ci_high": ends.high, "p": (1 + reached) / (1 + permutations)}


def _groups(group: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    n_1 = group.sum(axis=1)
    n_0 = group.shape[1] - n_1
    sum_1 = (group * values).sum(axis=1)
    return n_0, n_1, (values.sum(axis=1) - sum_1) / n_0, sum_1 / n_1


def _cohens_d(group: np.ndarray, values: np.ndarray) -> np.ndarray:
    n_0, n_1, mean_0, mean_1 = _groups(group, values)
    middle = np.where(group == 1, mean_1[:, None], mean_0[:, None])
    pooled = np.sqrt(((values - middle) ** 2).sum(axis=1) / (n_0 + n_1 - 2))
    return np.asarray(np.divide(mean_1 - mean_0, pooled, out=np.full_like(pooled, np.nan), where=pooled > 0))


def cliffs_delta(group: Float[np.ndarray, "samples n"], ranks: Float[np.ndarray, "samples n"]) -> np.ndarray:
    """P(x₁ > x₀) − P(x₁ < x₀) from the ranks of the values within each sample, a sample a row; in [-1, 1]."""
    n_1 = group.sum(axis=1)
    wins = (group * ranks).sum(axis=1) - n_1 * (n_1 + 1) / 2
    return np.asarray(2 * wins / ((group.shape[1] - n_1) * n_1) - 1)


def _phi(group: np.ndarray, values: np.ndarray) -> np.ndarray:
    n_0, n_1, mean_0, mean_1 = _groups(group, values)
    share = values.mean(axis=1)
    scale = np.sqrt(share * (1 - share))
    raw = (mean_1 - mean_0) * np.sqrt(n_0 * n_1) / (n_0 + n_1)
    return np.asarray(np.divide(raw, scale, out=np.full_like(raw, np.nan), where=scale > 0))


def _log_odds_ratio(group: np.ndarray, values: np.ndarray) -> np.ndarray:
    n_0, n_1, mean_0, mean_1 = _groups(group, values)
    odds_0 = (n_0 * mean_0 + 0.5) / (n_0 * (1 - mean_0) + 0.5)
    odds_1 = (n_1 * mean_1 + 0.5) / (n_1 * (1 - mean_1) + 0.5)
    return np.asarray(np.log(odds_1 / odds_0))


EFFECTS: dict[str, dict[str, Effect]] = {
    "numeric": {"cohens_d": _cohens_d, "cliffs_delta": cliffs_delta},
    "binary": {"phi": _phi, "log_odds_ratio": _log_odds_ratio},
}
