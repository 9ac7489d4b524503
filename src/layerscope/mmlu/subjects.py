"""Whether subjects that a model knows well look different inside it: accuracy against entropy over subjects."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from jaxtyping import Float
from scipy import stats

from layerscope.errors import UserError
from layerscope.statistics.association import correlate_rows, is_flat
from layerscope.statistics.intervals import LEVEL, benjamini_hochberg, percentile_interval

MIN_SUBJECTS = 5

ACCURACY = pl.Schema(
    {"subject": pl.String(), "n_questions": pl.Int32(), "n_correct": pl.Int32()}
    | dict.fromkeys(("accuracy", "ci_low", "ci_high"), pl.Float64())
)
SUBJECT_RELATIONS = pl.Schema(
    {"layer": pl.Int32(), "statistic": pl.String()}
    | dict.fromkeys(("value", "ci_low", "ci_high", "p", "p_max", "p_adjusted", "reliability"), pl.Float64())
    | {"n_subjects": pl.Int32(), "note": pl.String()}
)


def subject_accuracies(counts: pl.DataFrame) -> pl.DataFrame:
    """Accuracy of every subject with its Wilson 95 % interval, which also holds at 0 and 1 and for few questions.

    Args:
        counts: table with subject, n_questions (> 0), n_correct.

    Returns:
        One row a subject, in the table's order; accuracies in [0, 1].

    Raises:
        UserError: a subject stands twice, has no question, or more right answers than questions.

    Paper: Wilson 1927; Brown, Cai & DasGupta 2001.
    """
    if counts["subject"].is_duplicated().any():
        raise UserError("expected one row a subject, got several: add up the questions of each subject first")
    n, k = counts["n_questions"].to_numpy(), counts["n_correct"].to_numpy()
    wrong = (n < 1) | (k < 0) | (k > n)
    if wrong.any():
        raise UserError(
            f"expected 0 <= n_correct <= n_questions and a question at least, got {int(k[wrong][0])} of "
            f"{int(n[wrong][0])} in {counts['subject'][int(np.flatnonzero(wrong)[0])]!r}"
        )
    share = k / n
    z = float(stats.norm.ppf((1 + LEVEL) / 2))
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return (
        counts.select("subject", "n_questions", "n_correct")
        .with_columns(accuracy=pl.Series(share), ci_low=pl.Series(middle - half), ci_high=pl.Series(middle + half))
        .cast(ACCURACY)
    )


def relate_subjects(
    counts: pl.DataFrame,
    entropies: pl.DataFrame,
    *,
    lengths: pl.DataFrame | None = None,
    resamples: int = 1000,
    permutations: int = 9999,
    seed: int = 0,
) -> pl.DataFrame:
    """Correlation over subjects between accuracy and mean entropy, at every layer.

    Subjects are exchangeable under the null, so their accuracies are permuted, the same way at all layers: `p` is of
    one layer; `p_max` is adjusted for the number of layers by the maximum of |r| over layers (family-wise), which
    knows that neighbouring layers repeat each other; `p_adjusted` is Benjamini-Hochberg's over layers. Intervals are
    percentile bootstraps over subjects; what chance does to an accuracy is in them, since it differs by subject.

    `reliability` is the share of the variance of the accuracies that is not binomial chance,
    1 − mean(p(1 − p)/(n − 1)) / variance, at least 0. No correlation can be expected above its square root, and near 0
    (a model that guesses) there is nothing to correlate with. NaN where a subject has one question only.

    Long prompts have more entropy than short ones, whatever they are about. With `lengths` a third statistic,
    `partial`, is Spearman's with the ranks of the lengths taken out of both sides by least squares; what is permuted
    is then the rest of the accuracies.

    Args:
        counts: subject, n_questions, n_correct.
        entropies: subject, layer, value (mean over the subject's prompts).
        lengths: subject, value (mean length of the subject's prompts).
        resamples: bootstrap samples over subjects.
        permutations: permutations of the subjects; p is at least 1 / (permutations + 1).
        seed: seed of both.

    Returns:
        Two or three rows a layer: `spearman`, `pearson`, `partial`. NaN with the reason at layers where fewer than five subjects have a
        value, or all the same.

    Raises:
        UserError: fewer than five subjects are in both tables.

    Papers: arXiv 2412.09563, figures 5 and 6; Westfall & Young 1993 (the maximum); Freedman & Lane 1983 (`partial`).
    """
    accuracies = subject_accuracies(counts)
    wide = entropies.select("subject", "layer", "value").join(accuracies, on="subject", how="inner")
    known = accuracies.filter(pl.col("subject").is_in(wide["subject"].unique().implode())).sort("subject")
    if len(known) < MIN_SUBJECTS:
        raise UserError(
            f"expected at least {MIN_SUBJECTS} subjects with accuracy and entropy, got {len(known)}: a correlation over "
            "fewer says nothing"
        )
    if wide.select("subject", "layer").is_duplicated().any():
        raise UserError("expected one entropy a subject and layer, got several: average over prompts first")
    layers = wide["layer"].unique().sort()
    by_layer = wide.sort("layer").pivot("layer", index="subject", values="value").sort("subject").drop("subject")
    values = by_layer.cast(pl.Float64).fill_null(np.nan).to_numpy().T
    reliability = reliability_of(known)
    weak = "accuracies differ by no more than chance" if reliability < 0.1 else ""
    sides = [known["accuracy"].to_numpy()]
    if lengths is not None:
        sought = lengths.select("subject", length=pl.col("value").cast(pl.Float64))
        found = known.join(sought, on="subject", how="left", maintain_order="left")
        if found["length"].has_nulls():
            lacking = found.filter(pl.col("length").is_null())["subject"][0]
            raise UserError(
                f"expected a length for every subject, got none for {lacking!r}: leave lengths out or add it"
            )
        sides.append(found["length"].to_numpy())
    parts = []
    for statistic in ("spearman", "pearson", "partial")[: 1 + len(sides)]:
        rng = np.random.default_rng(np.random.SeedSequence([seed, len(known), 5]))
        used = sides if statistic == "partial" else sides[:1]
        columns, notes = _relate(statistic, values, used, (resamples, permutations, rng))
        notes = ["; ".join(filter(None, (note, weak))) for note in notes]
        said = {"statistic": [statistic] * len(notes), "note": notes}
        parts.append(pl.DataFrame({"layer": layers, **columns, **said}))
    table = pl.concat(parts).with_columns(reliability=pl.lit(reliability)).sort("layer", maintain_order=True)
    return table.select(pl.col(name).cast(kind) for name, kind in SUBJECT_RELATIONS.items())


def reliability_of(accuracies: pl.DataFrame) -> float:
    """Share of the variance of the subjects' accuracies that is not binomial chance, see `relate_subjects`.

    Args:
        accuracies: n_questions and accuracy of each subject.

    Returns:
        A share in [0, 1]; NaN where a subject has one question only.
    """
    n, accuracy = accuracies["n_questions"].to_numpy(), accuracies["accuracy"].to_numpy()
    if (n < 2).any():
        return float("nan")
    chance, variance = float((accuracy * (1 - accuracy) / (n - 1)).mean()), float(accuracy.var(ddof=1))
    return max(0.0, 1 - chance / variance) if variance > 0 else 0.0


def _relate(
    statistic: str,
    values: Float[np.ndarray, "layers subjects"],
    sides: Sequence[Float[np.ndarray, " subjects"]],
    how: tuple[int, int, np.random.Generator],
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Columns of the table, and why a layer has no value or some subjects are left out.

    Args:
        statistic: spearman, pearson or partial.
        values: the mean entropies, NaN where a subject has none.
        sides: the accuracies, and, for `partial`, the lengths.
        how: resamples, permutations and what draws both.
    """
    resamples, permutations, rng = how
    present, n = np.isfinite(values), values.shape[1]
    notes = [_reason(row[ok], *(side[ok] for side in sides)) for row, ok in zip(values, present, strict=True)]
    orders = rng.permuted(np.tile(np.arange(n), (permutations, 1)), axis=1)
    shuffled = _permutable(*sides)[orders]
    observed, low, high = (np.full(len(values), np.nan) for _ in range(3))
    null = np.full((len(values), permutations), np.nan)
    for layer in np.flatnonzero([not note for note in notes]):
        ok = present[layer]
        mine, *theirs = rows = [side[ok] for side in (values[layer], *sides)]
        observed[layer] = _statistic(statistic, *(row[None] for row in rows))[0]
        # A subject without an entropy here keeps its place, so that all layers share one permutation.
        free = np.broadcast_to(_permutable(mine, *theirs[1:]), (permutations, len(mine)))
        null[layer] = np.abs(correlate_rows(free, shuffled[:, ok], ranks=statistic == "spearman"))
        drawn = rng.integers(0, len(mine), size=(resamples, len(mine)))
        ends = percentile_interval(_statistic(statistic, *(row[drawn] for row in rows)))
        low[layer], high[layer] = ends.low, ends.high
        if len(mine) < n:
            notes[layer] = f"{n - len(mine)} subjects without an entropy left out"
    largest = np.nan_to_num(null).max(axis=0)
    size = np.abs(observed)[:, None] - 1e-12
    tested = np.isfinite(observed)
    p, p_max = (
        np.where(tested, (1 + (drawn >= size).sum(axis=1)) / (1 + permutations), np.nan)
        for drawn in (null, largest[None])
    )
    columns = {"value": observed, "ci_low": low, "ci_high": high, "p": p, "p_max": p_max}
    return columns | {"p_adjusted": benjamini_hochberg(p), "n_subjects": present.sum(axis=1)}, notes


def _reason(values: np.ndarray, accuracy: np.ndarray, control: np.ndarray | None = None) -> str:
    """Why there is no correlation; empty where there is one."""
    if len(values) < MIN_SUBJECTS:
        return f"no value: {len(values)} subjects have an entropy, at least {MIN_SUBJECTS} are needed"
    both = {"entropy": values, "accuracy": accuracy}
    for name, numbers in (both if control is None else {**both, "prompt length": control}).items():
        if is_flat(numbers):
            return f"no value: {name} is the same for all subjects"
    for name, numbers in both.items():
        if control is not None and np.abs(correlate_rows(numbers[None], control[None], ranks=True)[0]) > 1 - 1e-9:
            return f"no value: {name} has the order of prompt length, so nothing is left without it"
    return ""


def _permutable(numbers: np.ndarray, control: np.ndarray | None = None) -> np.ndarray:
    """The numbers, or what is left of their ranks when a line over the control's ranks is taken out."""
    if control is None:
        return numbers
    ranks, held = stats.rankdata(numbers), stats.rankdata(control)
    ranks, held = ranks - ranks.mean(), held - held.mean()
    return np.asarray(ranks - held * ((ranks * held).sum() / max(float((held**2).sum()), 1e-300)))


def _statistic(statistic: str, a: np.ndarray, b: np.ndarray, control: np.ndarray | None = None) -> np.ndarray:
    if control is None:
        return correlate_rows(a, b, ranks=statistic == "spearman")
    ab, ac, bc = (correlate_rows(x, y, ranks=True) for x, y in ((a, b), (a, control), (b, control)))
    scale = np.sqrt(np.maximum((1 - ac**2) * (1 - bc**2), 0.0))
    return np.asarray(np.divide(ab - ac * bc, scale, out=np.full(len(ab), np.nan), where=scale > 1e-9))
