"""The questions that are put to every candidate cause of the modes of one model, and to every other way of measuring."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import polars as pl
from jaxtyping import Float

from layerscope.results.run import Run
from layerscope.statistics.causes import residuals, take_out
from layerscope.statistics.differences import DIFFERENCES, JOINT, compare_groups, fit_jointly
from layerscope.statistics.intervals import benjamini_hochberg
from layerscope.statistics.modes import MIN_PROMPTS
from layerscope.statistics.splits import SPLITS, compare_splits
from layerscope.studies.estimates import Estimate, no_estimate, size
from layerscope.studies.experiments.causes.candidates import CANDIDATES, Candidate
from layerscope.studies.experiments.modes import POSITIONS, VARIANTS, dip_estimate, entropy_rows, values_at
from layerscope.studies.findings import CLAIMS, Claim, Test

EQUAL_TOKENS = 64
PERMUTATIONS = 1999

DIFFER = CLAIMS["modes-differ"]
REMAIN = CLAIMS["modes-remain-without-cause"]
CHANGED = CLAIMS["modes-remain-when-measured-otherwise"]
ENTROPY = CLAIMS["goes-with-entropy"]
JOINTLY = CLAIMS["tells-modes-apart-jointly"]
ORDER = (REMAIN, CHANGED, DIFFER, JOINTLY, ENTROPY)


@dataclass(frozen=True)
class Case:
    """One model: the layer, its prompts' entropy there, the two modes, and the candidates; `about` says which."""

    about: str
    layer: int
    ids: tuple[str, ...]
    values: Float[np.ndarray, " prompts"]
    label: Float[np.ndarray, " prompts"] | None
    why_no_modes: str
    candidates: pl.DataFrame
    reasons: dict[str, str]


def ask(case: Case, run: Run, equal: Run | None, seed: int) -> tuple[list[Test], dict[str, pl.DataFrame]]:
    """Every candidate: how the modes differ, whether they go when it is taken out; and every other way of measuring.

    Args:
        case: what is looked at.
        run: the run that it is from.
        equal: the run with prompts of one length, where it has a result.
        seed: of the resampling.

    Returns:
        The tests, and the tables `differences`, `without`, `joint` and `splits` behind them.
    """
    tables = {
        "differences": pl.DataFrame(schema=DIFFERENCES),
        "without": take_out(case.values, case.candidates, seed=seed),
    }
    tables |= {"joint": pl.DataFrame(schema=JOINT), "splits": pl.DataFrame(schema=SPLITS)}
    tests = [_asked(ENTROPY, one, case, tables["without"]) for one in CANDIDATES]
    if case.label is None:
        # One line a claim: the reason is the same for every candidate.
        tests += [Test(claim, case.about, no_estimate(case.why_no_modes)) for claim in ORDER if claim is not ENTROPY]
        return adjusted_within(tests), tables
    together = [one.name for one in CANDIDATES if one.joint and one.name not in case.reasons]
    tables["differences"] = compare_groups(case.label, case.candidates, permutations=PERMUTATIONS, seed=seed)
    tables["joint"] = fit_jointly(case.label, case.candidates.select(together))
    for one in CANDIDATES:
        tests.append(_asked(DIFFER, one, case, effects(tables["differences"])))
        tests.append(Test(REMAIN, f"without {one.words}, {case.about}", _left(case, [one.name], seed)))
        if one.joint:
            tests.append(_asked(JOINTLY, one, case, tables["joint"]))
    tests.append(Test(REMAIN, f"without all of them together, {case.about}", _left(case, together, seed)))
    changed = _measured_otherwise(case, run)
    tables["splits"] = compare_splits(case.label, changed, seed=seed)
    tests += [Test(CHANGED, f"{name}, {case.about}", dip_estimate(at, seed=seed)) for name, at in changed.items()]
    alike = no_estimate("the run with prompts of one length has no result")
    if equal is not None:
        rows = entropy_rows(equal)
        ids = rows["prompt_id"].unique(maintain_order=True).to_list()
        alike = dip_estimate(values_at(rows, case.layer, ids), seed=seed)
    tests.append(Test(CHANGED, f"first {EQUAL_TOKENS} tokens of every prompt, {case.about}", alike))
    return adjusted_within(tests), tables


def effects(differences: pl.DataFrame) -> pl.DataFrame:
    """The rows of the differences between modes that say how large they are: one a candidate."""
    return differences.filter(pl.col("effect").is_in(["cliffs_delta", "phi"]))


def adjusted_within(tests: list[Test]) -> list[Test]:
    """The tests by claim, with p-values adjusted within each (Benjamini and Hochberg).

    A page is adjusted as a whole once more. That alone is not enough: where most of its tests reject, as when many
    candidates leave the modes as they are, it lets about one in twenty of the others pass.
    """
    adjusted = []
    for claim in ORDER:
        mine = [test for test in tests if test.claim is claim]
        p = benjamini_hochberg(np.array([test.estimate.p for test in mine], dtype=np.float64))
        adjusted += [replace(one, estimate=replace(one.estimate, p=float(q))) for one, q in zip(mine, p, strict=True)]
    return adjusted


# The columns of a claim's table: value, ends of its interval, p and numbers of prompts; and the words for its signs.
_COLUMNS = {
    ENTROPY: ("explained", "explained_ci_low", "explained_ci_high", "p_explained", "n"),
    DIFFER: ("value", "ci_low", "ci_high", "p", "n_0", "n_1"),
    JOINTLY: ("coefficient", "ci_low", "ci_high", "p", "n"),
}
_SIGNS = {
    DIFFER: ("more in the high mode", "more in the low mode"),
    JOINTLY: ("towards the high mode", "towards the low mode"),
}


def _asked(claim: Claim, one: Candidate, case: Case, table: pl.DataFrame) -> Test:
    """A claim about a candidate, by its row of a table.

    Where the number has a sign, the test is of its size, so that `positive` is `differ`, and its name says which mode has
    more; the table has the sign.
    """
    about = f"{one.words}, {case.about}"
    if one.name in case.reasons:
        return Test(claim, about, no_estimate(case.reasons[one.name]))
    row = table.row(by_predicate=pl.col("covariate") == one.name, named=True)
    value, low, high, p, *n = (row[name] for name in _COLUMNS[claim])
    if (claim is DIFFER and row["note"]) or not np.isfinite(value):
        return Test(claim, about, no_estimate(row["note"].removeprefix("no value: ")))
    estimate = Estimate(value, low, high, p, sum(n))
    if claim is ENTROPY:
        return Test(claim, about, estimate)
    direction = _SIGNS[claim][0 if value >= 0 else 1]
    note = "; ".join(filter(None, (direction, row["note"])))
    return Test(claim, f"{one.words} ({direction}), {case.about}", replace(size(estimate), note=note))


def _measured_otherwise(case: Case, run: Run) -> dict[str, Float[np.ndarray, " prompts"]]:
    changed = {}
    for positions, variant in product(POSITIONS, VARIANTS):
        if words := " ".join(part for part in (variant, positions) if part not in {"paper", "all"}):
            changed[words] = values_at(entropy_rows(run, variant=variant, positions=positions), case.layer, case.ids)
    changed["divided by log T"] = values_at(entropy_rows(run, normalization="logN"), case.layer, case.ids)
    return changed


def _left(case: Case, names: list[str], seed: int) -> Estimate:
    """The dip of what is left of the entropy when what the candidates predict is taken out."""
    reasons = [case.reasons[name] for name in names if name in case.reasons]
    if reasons:
        return no_estimate(reasons[0])
    table = case.candidates.select(pl.col(names).cast(pl.Float64)).fill_null(float("nan")).to_numpy()
    usable = np.isfinite(table).all(axis=1) & np.isfinite(case.values)
    kept = table[usable]
    if len(kept) < MIN_PROMPTS:
        return no_estimate(f"{len(kept)} prompts have it, at least {MIN_PROMPTS} are needed")
    varying = np.ptp(kept, axis=0) > 0
    if not varying.any():
        return no_estimate("the same for every prompt that has it")
    return dip_estimate(residuals(case.values[usable], kept[:, varying]), seed=seed)
