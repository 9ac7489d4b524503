"""The order of the entropy: S_alpha on power-law spectra (figure 7), and on real states."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import polars as pl
import torch
from jaxtyping import Float
from scipy import stats

from layerscope.figures import FacetLook
from layerscope.metrics.spectrum import renyi, shares
from layerscope.results.run import Run
from layerscope.studies.curves import MASSIVE, PromptCurves, chart_line, layer_curve, prompt_curves, tokens_to_test
from layerscope.studies.estimates import mean_estimate
from layerscope.studies.findings import number
from layerscope.studies.grid import entropy_run, short
from layerscope.studies.study import CLAIMS, Drawing, Job, Measure, Outcome, Results, Study, StudySpec, Test

ALPHAS = (0.5, 1.0, 1.5, 2.0, 5.0, math.inf)
SIZE = 512
ALIKE, MISFIT = 0.9, 0.25


def jobs(spec: StudySpec) -> Sequence[Job]:
    """One run a model, at every order."""
    return [Measure(model, entropy_run(spec, model, alphas=ALPHAS)) for model in spec.models]


def analyse(spec: StudySpec, results: Results) -> Outcome:
    """Closed forms, and how far real curves depend on the order."""
    tests: list[Test] = []
    lines: list[pl.DataFrame] = []
    for model, run in results.every(Run).items():
        label = short(spec, model)
        tests += _tests(label, run, spec.seed)
        lines += [
            layer_curve(run, "prompt_entropy", alpha=order, positions=positions).line((row, label, _name(order)))
            for positions, row in MASSIVE.items()
            for order in ALPHAS
        ]
    betas = np.linspace(0, 3, 61)
    theory = {order: [power_law_entropy(float(beta), SIZE, order) for beta in betas] for order in ALPHAS}
    curves = [chart_line(("entropy", "", _name(order)), betas, values) for order, values in theory.items()]
    figures = [Drawing.of_lines("power-law", curves, _THEORY)]
    if lines:
        figures.append(Drawing.of_lines("states", lines, _STATES))
    flat, *falling = (
        [number(power_law_entropy(beta, SIZE, order)) for order in (0.5, 1.0, 2.0, math.inf)]
        for beta in (0.0, 1.0, 2.0)
    )
    one, two = (f"{', '.join(said[:3])} and {said[3]}" for said in falling)
    notes = [
        f"On power laws (closed form from the spectrum, {SIZE} eigenvalues): at beta 0 every order gives log {SIZE} = "
        f"{flat[1]} nats; at beta 1 orders 0.5, 1, 2 and infinity give {one} nats, at beta 2 {two}: entropy falls with the "
        "order, and small orders see the tail of a steep spectrum that large ones do not. That is mathematics and holds for "
        "any states.",
        f"The margins, a rank correlation of {ALIKE} and {MISFIT} nats, are ours.",
    ]
    return Outcome(tests, figures, notes=notes)


def power_law_entropy(beta: float, size: int, order: float) -> float:
    """S_alpha of eigenvalues i^(-beta), i = 1 .. size, in nats."""
    spectrum = torch.arange(1, size + 1, dtype=torch.float64) ** -beta
    return float(renyi(shares(spectrum), order))


def exponents(entropy: Float[np.ndarray, " cases"], size: int, order: float = 2.0) -> Float[np.ndarray, " cases"]:
    """S_order of the power law of `size` eigenvalues whose S_1 is given; NaN outside of what betas 0 to 12 reach."""
    # S_1 falls with beta, so a fine table and linear interpolation are as good as solving for beta.
    betas = np.linspace(0, 12, 1201)
    first, wanted = (np.array([power_law_entropy(float(b), size, o) for b in betas]) for o in (1.0, order))
    inside = (entropy <= first[0] + 1e-9) & (entropy >= first[-1])
    return np.where(inside, np.interp(entropy, first[::-1], wanted[::-1]), np.nan)


def _tests(about: str, run: Run, seed: int) -> list[Test]:
    tests = []
    for positions, where in tokens_to_test(about, run).items():
        curves = {order: prompt_curves(run, "prompt_entropy", alpha=order, positions=positions) for order in ALPHAS}
        for order in (0.5, 2.0, math.inf):
            alike = mean_estimate(_alike(curves[1.0], curves[order]) - ALIKE, seed=seed)
            tests.append(Test(CLAIMS["order-keeps-shape"], f"{where}, order {_name(order)} against 1", alike))
        misfit = _misfit(curves[1.0], curves[2.0], run.record.resolved.dim) - MISFIT
        tests.append(Test(CLAIMS["power-law"], where, mean_estimate(misfit, unit="nats", seed=seed)))
    return tests


def _alike(one: PromptCurves, other: PromptCurves) -> Float[np.ndarray, " prompts"]:
    """Each prompt's rank correlation of two curves over layers."""
    ranks = [stats.rankdata(curves.values, axis=1) for curves in (one, other)]
    centred = [rank - rank.mean(axis=1, keepdims=True) for rank in ranks]
    scale = np.sqrt((centred[0] ** 2).sum(axis=1) * (centred[1] ** 2).sum(axis=1))
    value = np.divide((centred[0] * centred[1]).sum(axis=1), scale, out=np.full(len(scale), np.nan), where=scale > 0)
    return np.where(np.isfinite(one.values).all(axis=1) & np.isfinite(other.values).all(axis=1), value, np.nan)


def _misfit(first: PromptCurves, second: PromptCurves, dim: int) -> Float[np.ndarray, " prompts"]:
    """Each prompt's mean distance over layers between its S_2 and that of the power law with its S_1."""
    result = np.full(len(first.ids), np.nan)
    sizes = np.minimum(first.n_tokens, dim).astype(int)
    for size in np.unique(sizes):
        mine = np.flatnonzero(sizes == size)
        expected = exponents(first.values[mine].ravel(), int(size)).reshape(len(mine), -1)
        away = np.abs(expected - second.values[mine])
        known = np.isfinite(away).any(axis=1)
        result[mine[known]] = np.nanmean(away[known], axis=1)
    return result


def _name(order: float) -> str:
    return "α = ∞" if math.isinf(order) else f"α = {order:g}"


_THEORY = FacetLook(
    title="S_α of power-law spectra",
    about=f"{SIZE} eigenvalues i^(-β), closed form",
    x_label="exponent β of the spectrum",
    y_labels={"entropy": "S_α (nats)"},
)
_STATES = FacetLook(
    title="S_α of real prompts over depth",
    about="prompt entropy at six orders; readout hf; band: 95 % interval over prompts",
    y_labels={row: f"S_α, {row} (nats)" for row in MASSIVE.values()},
)
STUDY = Study.written("alpha", jobs, analyse)
