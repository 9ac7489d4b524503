"""Every candidate cause of the modes of one model, put to the test."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from jaxtyping import Float

from layerscope.results.run import Run
from layerscope.statistics.adjustment import benjamini_hochberg
from layerscope.statistics.causes import residuals, take_out
from layerscope.statistics.differences import DIFFERENCES, JOINT, compare_groups, fit_jointly
from layerscope.statistics.modes import MIN_PROMPTS
from layerscope.statistics.splits import SPLITS, compare_splits
from layerscope.studies.estimates import Estimate, no_estimate
from layerscope.studies.experiments.causes.candidates import CANDIDATES, OURS, Candidate
from layerscope.studies.experiments.modes import POSITIONS, VARIANTS, dip_estimate, entropy_rows, values_at
from layerscope.studies.findings import Claim, Test
from layerscope.studies.grid import short

PAPER = "arXiv 2412.09563, section 4.3 and appendix A"
EQUAL_TOKENS = 64
PERMUTATIONS = 1999
QUANTITY = "dip less what a single mode exceeds in 5 % of samples"

DIFFER = Claim(
    "modes-differ",
    "The prompts of the two modes differ in it",
    PAPER + "; our own candidates beside",
    "size of the effect (Cliff's delta, or phi for yes or no)",
    "positive",
)
REMAIN = Claim(
    "modes-remain-without-cause",
    "The two modes remain when it is taken out of the entropy: it does not account for them",
    PAPER + " (length, semantic complexity, overlap with the training data); our own candidates beside",
    QUANTITY,
    "positive",
)
CHANGED = Claim(
    "modes-remain-when-measured-otherwise",
    "The two modes remain when the entropy is measured in another way",
    OURS.replace("candidate", "question"),
    QUANTITY,
    "positive",
)
ENTROPY = Claim(
    "goes-with-entropy",
    "It goes with the entropy, in one mode or two",
    OURS.replace("candidate", "question"),
    "share of the entropy's variance that it predicts",
    "positive",
)
JOINTLY = Claim(
    "tells-modes-apart-jointly",
    "It tells the two modes apart when all other candidates are held fixed",
    OURS.replace("candidate", "question"),
    "size of the log odds ratio per standard deviation",
    "positive",
)


ORDER = (REMAIN, CHANGED, DIFFER, JOINTLY, ENTROPY)


@dataclass(frozen=True)
class Case:
    """One model: the layer, its prompts' entropy there, the two modes, and the candidates."""

    model: str
    layer: int
    ids: tuple[str, ...]
    values: Float[np.ndarray, " prompts"]
    label: Float[np.ndarray, " prompts"] | None
    why_no_modes: str
    candidates: pl.DataFrame
    reasons: dict[str, str]

    @property
    def about(self) -> str:
        """The model and the layer, in words."""
        return f"{short(self.model)}, layer {self.layer}"


@dataclass(frozen=True)
class Look:
    """What was found about one case."""

    tests: list[Test]
    tables: dict[str, pl.DataFrame]


def look(case: Case, run: Run, equal: Run | None, seed: int) -> Look:
    """Every candidate: how the modes differ, whether they go when it is taken out; and every other way of measuring."""
    differences, joint = pl.DataFrame(schema=DIFFERENCES), pl.DataFrame(schema=JOINT)
    splits = pl.DataFrame(schema=SPLITS)
    without = take_out(case.values, case.candidates, seed=seed)
    changed = _measured_otherwise(case, run)
    if case.label is not None:
        differences = compare_groups(case.label, case.candidates, permutations=PERMUTATIONS, seed=seed)
        together = [one.name for one in CANDIDATES if one.joint and one.name not in case.reasons]
        joint = fit_jointly(case.label, case.candidates.select(together))
        splits = compare_splits(case.label, changed, seed=seed)
    tests = [_named(ENTROPY, one, case, _explained(case, one, without)) for one in CANDIDATES]
    if case.label is None:
        # One line a claim: the reason is the same for every candidate.
        tests += [Test(claim, case.about, no_estimate(case.why_no_modes)) for claim in ORDER if claim is not ENTROPY]
    else:
        tests += _about_modes(case, differences, joint, seed)
        tests += [
            Test(CHANGED, f"{name}, {case.about}", dip_estimate(values, seed=seed)) for name, values in changed.items()
        ]
        tests.append(
            Test(CHANGED, f"first {EQUAL_TOKENS} tokens of every prompt, {case.about}", _equal(case, equal, seed))
        )
    return Look(
        adjusted_within(tests), {"differences": differences, "without": without, "joint": joint, "splits": splits}
    )


def adjusted_within(tests: list[Test]) -> list[Test]:
    """The tests with p-values adjusted within each claim (Benjamini and Hochberg).

    A page is adjusted as a whole once more. That alone is not enough: where most of its tests reject, as when many
    candidates leave the modes as they are, it lets about one in twenty of the others pass.
    """
    p = {claim.id: [test.estimate.p for test in tests if test.claim.id == claim.id] for claim in ORDER}
    left = {claim: iter(benjamini_hochberg(np.array(values, dtype=np.float64))) for claim, values in p.items()}
    return [replace(test, estimate=replace(test.estimate, p=float(next(left[test.claim.id])))) for test in tests]


def _about_modes(case: Case, differences: pl.DataFrame, joint: pl.DataFrame, seed: int) -> list[Test]:
    tests: list[Test] = []
    for one in CANDIDATES:
        tests.append(_named(DIFFER, one, case, _difference(case, one, differences)))
        tests.append(Test(REMAIN, f"without {one.words}, {case.about}", _left(case, [one.name], seed)))
        if one.joint:
            tests.append(_named(JOINTLY, one, case, _jointly(case, one, joint)))
    usable = [one.name for one in CANDIDATES if one.joint and one.name not in case.reasons]
    tests.append(Test(REMAIN, f"without all of them together, {case.about}", _left(case, usable, seed)))
    return tests


def _explained(case: Case, one: Candidate, without: pl.DataFrame) -> Estimate:
    if one.name in case.reasons:
        return no_estimate(case.reasons[one.name])
    row = without.filter(pl.col("covariate") == one.name).row(0, named=True)
    if not np.isfinite(row["explained"]):
        return no_estimate(row["note"].removeprefix("no value: "))
    return Estimate(row["explained"], row["explained_ci_low"], row["explained_ci_high"], row["p_explained"], row["n"])


def _named(claim: Claim, one: Candidate, case: Case, estimate: Estimate) -> Test:
    """A test whose name says which mode has more: its number is a size."""
    direction = estimate.note.partition(";")[0]
    words = f"{one.words} ({direction})" if direction and np.isfinite(estimate.value) else one.words
    return Test(claim, f"{words}, {case.about}", estimate)


def _measured_otherwise(case: Case, run: Run) -> dict[str, Float[np.ndarray, " prompts"]]:
    changed = {}
    for positions in POSITIONS:
        for variant in VARIANTS:
            if (variant, positions) != ("paper", "all"):
                words = " ".join(part for part, usual in ((variant, "paper"), (positions, "all")) if part != usual)
                changed[words] = values_at(
                    entropy_rows(run, variant=variant, positions=positions), case.layer, case.ids
                )
    changed["divided by log T"] = values_at(entropy_rows(run, normalization="logN"), case.layer, case.ids)
    return changed


def _difference(case: Case, one: Candidate, differences: pl.DataFrame) -> Estimate:
    """The effect's size, whichever mode has more, so that `positive` is `differ`; the table has its sign."""
    if one.name in case.reasons:
        return no_estimate(case.reasons[one.name])
    row = differences.filter(pl.col("covariate") == one.name, pl.col("effect").is_in(["cliffs_delta", "phi"])).row(
        0, named=True
    )
    if row["note"]:
        return no_estimate(row["note"].removeprefix("no value: "))
    return _upwards(
        row["value"],
        (row["ci_low"], row["ci_high"]),
        row["p"],
        row["n_0"] + row["n_1"],
        ("more in the high mode", "more in the low mode"),
    )


def _jointly(case: Case, one: Candidate, joint: pl.DataFrame) -> Estimate:
    if one.name in case.reasons:
        return no_estimate(case.reasons[one.name])
    row = joint.filter(pl.col("covariate") == one.name).row(0, named=True)
    if not np.isfinite(row["coefficient"]):
        return no_estimate(row["note"].removeprefix("no value: "))
    return _upwards(
        row["coefficient"],
        (row["ci_low"], row["ci_high"]),
        row["p"],
        row["n"],
        ("towards the high mode", "towards the low mode"),
        row["note"],
    )


def _upwards(
    value: float, ends: tuple[float, float], p: float, n: int, words: tuple[str, str], note: str = ""
) -> Estimate:
    low, high = ends if value >= 0 else (-ends[1], -ends[0])
    which = words[0 if value >= 0 else 1]
    return Estimate(abs(value), low, high, p, n, note="; ".join(part for part in (which, note) if part))


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


def _equal(case: Case, equal: Run | None, seed: int) -> Estimate:
    if equal is None:
        return no_estimate("the run with prompts of one length has no result")
    rows = entropy_rows(equal)
    return dip_estimate(values_at(rows, case.layer, rows["prompt_id"].unique(maintain_order=True).to_list()), seed=seed)
