"""Do prompts fall into two groups by their entropy, at which layer, and in which kind of model (figure 4)?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Bool, Float
from scipy import stats

from layerscope.config import RunSpec
from layerscope.errors import UserError
from layerscope.figures.curves import short_name
from layerscope.figures.facets import FacetLook
from layerscope.figures.ridges import RIDGES, plot_ridges
from layerscope.results.run import Run
from layerscope.statistics.intervals import LEVEL, SIGNIFICANCE
from layerscope.statistics.modes import DISTANCE, HALVES, MIN_PROMPTS, critical_dip, find_modes, weigh_dip
from layerscope.studies.curves import FIXED, band, chart_line, counted_prompts
from layerscope.studies.estimates import Estimate, no_estimate
from layerscope.studies.findings import number, p_words
from layerscope.studies.grid import READOUT, file_name, is_ssm, run_of, short
from layerscope.studies.study import CLAIMS, Drawing, Job, Measure, Outcome, Results, Study, StudySpec, Test

VARIANTS = ("paper", "centered", "unit", "centered-unit")
POSITIONS = ("all", "no-first", "no-sink")
# Which of a layer's densities are drawn: what lies outside is a handful of prompts that would flatten the rest.
SHOWN = (0.005, 0.995)
PLACES = 161


def modes_run(spec: StudySpec, model: str) -> RunSpec:
    """Prompt entropy in every way that could make modes come or go, from one pass; shared with `mode-causes`.

    Raises:
        UserError: too few prompts are asked for.
    """
    if spec.n is not None and spec.n < MIN_PROMPTS:
        raise UserError(f"too few prompts for a dip test: expected --n of at least {MIN_PROMPTS}, got {spec.n}")
    return run_of(
        spec,
        model,
        metrics=("prompt_entropy", "norm_ratio"),
        variants=VARIANTS,
        positions=POSITIONS,
        normalizations=("none", "logN"),
        resamples=200,
    )


def jobs(spec: StudySpec) -> Sequence[Job]:
    """One run a model."""
    return [Measure(model, modes_run(spec, model)) for model in spec.models]


def analyse(spec: StudySpec, results: Results) -> Outcome:
    """Hartigan's dip at every layer of every model, and a figure of the distributions."""
    tests: list[Test] = []
    figures: list[Drawing] = []
    tables: dict[str, pl.DataFrame] = {}
    lines: list[pl.DataFrame] = []
    notes = [
        "A dip test that does not reject is no evidence for one mode. So two clear modes (a share of 40 : 60, "
        f"{DISTANCE:g} standard deviations apart) are tested as well, and p is twice the smaller of the two: a dip below "
        "what one mode gives, with a small p, says that two modes as clear as these are not there. Modes that overlap more "
        "are not excluded.",
        f"At every layer the p-value is adjusted over the layers of a model (Benjamini and Hochberg); at least {MIN_PROMPTS} "
        "prompts are needed. That the layer with the largest dip was chosen for it is not paid for in its interval.",
    ]
    runs = results.every(Run)
    for model, run in runs.items():
        rows = entropy_rows(run)
        modes = find_modes(rows, seed=spec.seed)
        label, file = short(spec, model), file_name(spec, model)
        tables[f"dips-{file}"] = modes
        tests += _tests(label, run, rows, modes, ssm=is_ssm(model), seed=spec.seed)
        notes.append(_sentence(label, modes))
        if modes["dip"].is_not_nan().any():
            none = np.full(len(modes), np.nan)
            depth = modes["layer"].to_numpy() / run.record.resolved.n_layers
            lines.append(chart_line(("dip", "", label), depth, modes["dip"], (none, none)))
        data = ridge_data(rows, modes)
        if not data.is_empty():
            figure = plot_ridges(
                data,
                f"Prompt entropy at every layer, {label}",
                f"{modes['n_prompts'].max()!s} prompts of {short_name(run.record.spec.texts.source)}; orange: two modes "
                "(adjusted p of the dip below .05), dashed: where they part",
                "place within the layer's range, 0.5 % to 99.5 % of its prompts",
            )
            figures.append(Drawing(f"modes-{file}", figure, data))
    if lines:
        sizes = {run.record.resolved.n_prompts for run in runs.values()}
        look = FacetLook(
            title="Hartigan's dip over depth",
            about=f"{counted_prompts(runs.values())}; grey: what one mode exceeds in 5 % of samples",
            y_labels={"dip": "Hartigan's dip"},
            reference={"dip": critical_dip(max(sizes), spec.seed)} if len(sizes) == 1 else {},
        )
        figures.insert(0, Drawing.of_lines("dips", lines, look))
    return Outcome(tests, figures, tables, notes)


def entropy_rows(run: Run, **otherwise: str) -> pl.DataFrame:
    """The prompts table of prompt entropy as in the paper, or with another variant, positions or normalization."""
    return run.prompts.filter(metric="prompt_entropy", readout=READOUT, **{**FIXED, **otherwise})


def values_at(rows: pl.DataFrame, layer: int, ids: Sequence[str]) -> Float[np.ndarray, " prompts"]:
    """The values at a layer in the order of the prompt ids; NaN where there is none."""
    found = dict(rows.filter(pl.col("layer") == layer).select("prompt_id", "value").iter_rows())
    return np.array([found.get(one) for one in ids], dtype=np.float64)


def largest_dip(modes: pl.DataFrame) -> dict[str, Any] | None:
    """The row with the largest dip, significant or not; None where no layer could be tested."""
    tested = modes.filter(pl.col("dip").is_not_nan()).sort("dip", descending=True, maintain_order=True)
    return None if tested.is_empty() else tested.row(0, named=True)


def dip_estimate(values: Float[np.ndarray, " prompts"], p_one_mode: float | None = None, seed: int = 0) -> Estimate:
    """`weigh_dip` as an estimate."""
    try:
        weighed = weigh_dip(values, p_one_mode=p_one_mode, seed=seed)
    except UserError as error:
        return no_estimate(str(error))
    return Estimate(weighed.excess, weighed.low, weighed.high, weighed.p, weighed.n)


def _tests(label: str, run: Run, rows: pl.DataFrame, modes: pl.DataFrame, *, ssm: bool, seed: int) -> list[Test]:
    strongest, claim = largest_dip(modes), CLAIMS["ssm-not-bimodal" if ssm else "bimodal"]
    if strongest is None:
        return [Test(claim, label, no_estimate(str(modes["note"][0])))]
    ids = rows["prompt_id"].unique(maintain_order=True).to_list()
    layer, adjusted = strongest["layer"], strongest["p_adjusted"]
    tests = [Test(claim, f"{label}, layer {layer}", dip_estimate(values_at(rows, layer, ids), adjusted, seed))]
    if not ssm:
        estimate = no_estimate("no layer has two modes")
        if adjusted < SIGNIFICANCE:
            table = np.column_stack([values_at(rows, one, ids) for one in modes["layer"]])
            middle = band(modes["layer"].to_numpy() / run.record.resolved.n_layers, "middle")
            estimate = _middle(table[np.isfinite(table).all(axis=1)], middle, seed)
        tests.append(Test(CLAIMS["bimodal-in-the-middle"], label, estimate))
    return tests


def _middle(table: Float[np.ndarray, "prompts layers"], middle: Bool[np.ndarray, " layers"], seed: int) -> Estimate:
    """The difference of the largest dips inside and outside the middle third, with the error of `dip_error`."""
    import diptest

    def lead(rows: Float[np.ndarray, "some layers"]) -> float:
        dips = np.array([diptest.dipstat(column) for column in rows.T])
        return float(dips[middle].max() - dips[~middle].max())

    n = len(table)
    if n < MIN_PROMPTS or not middle.any() or middle.all():
        return no_estimate(f"{n} prompts have a value at every layer, at least {MIN_PROMPTS} are needed")
    full = lead(table)
    rng = np.random.default_rng(np.random.SeedSequence([seed, n, 10]))
    error = float(np.std([lead(table[rng.permutation(n)[: n // 2]]) for _ in range(HALVES)]))
    half = float(stats.norm.ppf((1 + LEVEL) / 2)) * error
    p = float(2 * stats.norm.sf(abs(full) / error)) if error > 0 else 1.0
    return Estimate(full, full - half, full + half, p, n)


def _sentence(label: str, modes: pl.DataFrame) -> str:
    """What the dip test says of a model, in words."""
    strongest = largest_dip(modes)
    if strongest is None:
        return f"{label}: {modes['note'][0]}."
    words = f"{label}: the largest dip, {number(strongest['dip'])}, is at layer {strongest['layer']}"
    layers = modes.filter(pl.col("p_adjusted") < SIGNIFICANCE)["layer"].sort()
    if layers.is_empty():
        return f"{words} (adjusted {p_words(strongest['p_adjusted'])}): one mode is not rejected at any layer."
    low, high, distance, *ends = (
        number(strongest[name]) for name in ("low_mean", "high_mean", "distance", "distance_ci_low", "distance_ci_high")
    )
    return (
        f"{words}; layers with two modes: {', '.join(map(str, layers))}. There the two Gaussians of the fit have means "
        f"{low} and {high} nats, {distance} standard deviations apart (95 % interval {ends[0]} to {ends[1]}), and "
        f"{strongest['low_share']:.0%} of the prompts are in the lower one."
    )


def ridge_data(rows: pl.DataFrame, modes: pl.DataFrame) -> pl.DataFrame:
    """A kernel density (Silverman's bandwidth, halved so that two modes stay two) of every layer over its own range."""
    parts = [pl.DataFrame(schema=RIDGES)]
    for row in modes.iter_rows(named=True):
        values = rows.filter(pl.col("layer") == row["layer"])["value"].fill_null(float("nan")).to_numpy()
        values = values[np.isfinite(values)]
        low, high = np.quantile(values, SHOWN) if len(values) >= 2 else (0.0, 0.0)
        if high <= low:
            continue
        kernel = stats.gaussian_kde(values, bw_method="silverman")
        kernel.set_bandwidth(kernel.factor / 2)
        tested = np.isfinite(row["dip"])
        marked = bool(tested and row["p_adjusted"] < SIGNIFICANCE)
        dip = f", dip {row['dip']:.3f}, {p_words(row['p_adjusted'])}" if tested else ""
        curve = {"place": np.linspace(0, 1, PLACES), "density": kernel(np.linspace(low, high, PLACES))}
        fixed = {"layer": row["layer"], "split": (row["split"] - low) / (high - low) if marked else None}
        fixed |= {"marked": marked, "words": f"{number(low)} – {number(high)} nats{dip}"}
        columns = curve | {name: [value] * PLACES for name, value in fixed.items()}
        parts.append(pl.DataFrame(columns, schema=RIDGES))
    return pl.concat(parts)


STUDY = Study.written("modes", jobs, analyse)
