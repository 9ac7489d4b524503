"""Repeated, randomised and random prompts: what extreme input does to entropy over the layers (figure 3)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from layerscope.errors import LayerscopeError, UserError
from layerscope.figures import FacetLook, plot_facets
from layerscope.results.run import Run
from layerscope.studies.estimates import mean_estimate
from layerscope.studies.experiments.examples import examples_page
from layerscope.studies.findings import Claim, Test
from layerscope.studies.grid import entropy_run, require_trained, short, text_spec
from layerscope.studies.jobs import Job, Measure, Results
from layerscope.studies.layer_curves import facet, layer_curve
from layerscope.studies.prompt_curves import PromptCurves, paired, prompt_curves
from layerscope.studies.spec import StudySpec
from layerscope.studies.study import Drawing, Outcome, Study

SOURCE = "arXiv 2412.09563, figure 3 and appendix G"
POSITIONS = ("all", "no-sink")
PLAIN = "plain"
KINDS = {
    "repetition": ("Prompts with repeated tokens", "share of tokens repeated, p"),
    "randomness": ("Prompts with random tokens", "share of tokens random, p"),
    "length": ("Random prompts of T tokens", "length T (tokens)"),
}

REPETITION = Claim(
    "repetition",
    "Repeating tokens lowers prompt entropy in the middle layers",
    SOURCE,
    "change of entropy in the middle third per unit of p",
    "negative",
)
RANDOMNESS = Claim(
    "randomness",
    "Random tokens raise prompt entropy in the early layers",
    SOURCE,
    "change of entropy in the early third per unit of p",
    "positive",
)
ROBUST = Claim(
    "randomness-late",
    "Random tokens raise entropy more in the early layers than in the late ones",
    SOURCE,
    "change per unit of p, early third minus late third",
    "positive",
)
LENGTH = Claim(
    "length",
    "Longer random prompts have a higher raw entropy",
    SOURCE,
    "change of entropy per doubling of T, mean of all layers",
    "positive",
)
SUBLINEAR = Claim(
    "length-sublinear",
    "Entropy grows more slowly with length than its largest possible value, log T",
    SOURCE,
    "change of entropy per doubling of T minus log 2, mean of all layers",
    "negative",
)
NORMALISED = Claim(
    "length-normalised",
    "The normalised entropy, S / log T, falls with length",
    SOURCE,
    "change of S / log T per doubling of T, mean of all layers",
    "negative",
)


def jobs(spec: StudySpec) -> Sequence[Job]:
    """For each model: its prompts as they are, at each share p, and random prompts of each length."""
    if not spec.shares or not spec.tokens:
        raise UserError("extremes needs shares and lengths: give --shares 0.5,1 and --tokens 64,128")
    require_trained(spec.models)
    grid: list[Job] = []
    for model in spec.models:
        grid.append(Measure(f"{model} {PLAIN}", entropy_run(spec, model, text_spec(spec))))
        for kind in ("repetition", "randomness"):
            for share in _shares(spec):
                name = f"{kind}:{share:g}"
                grid.append(Measure(f"{model} {name}", entropy_run(spec, model, text_spec(spec, perturbation=name))))
        for length in sorted(set(spec.tokens)):
            name = f"random:{length}"
            grid.append(Measure(f"{model} {name}", entropy_run(spec, model, text_spec(spec, perturbation=name))))
    return grid


def analyse(spec: StudySpec, results: Results) -> Outcome:
    """Slopes of every prompt's entropy over p, and of random prompts over log2 T."""
    tests: list[Test] = []
    data: dict[str, list[pl.DataFrame]] = {kind: [] for kind in KINDS}
    files: dict[str, str] = {}
    notes = [
        "The same prompts stand behind every p, and a longer random prompt begins with the shorter one of its seed: slopes "
        "are of single prompts, by least squares over the values of p (0 included; 1 left out for repetition, where one token "
        "is left and with it no entropy in any model) or of log2 T.",
        "`no-sink` leaves out tokens whose norm is over 10 times the prompt's median: what changes there is not the massive "
        "activation of one token.",
    ]
    for model in spec.models:
        series = {kind: _series(spec, model, kind, results) for kind in KINDS}
        for positions in POSITIONS:
            about = short(model) + ("" if positions == "all" else f", {positions}")
            tests += _tests(series, positions, about, spec.seed)
        for kind, runs in series.items():
            data[kind] += _curves(short(model), runs, len(spec.models) > 1)
        try:
            files[f"examples-{short(model)}.md"] = examples_page(model, [run.record.spec for run in _runs(series)])
        except LayerscopeError as error:
            notes.append(f"No examples of {short(model)}: {error}")
    figures = []
    for kind, parts in data.items():
        if parts:
            table = pl.concat(parts)
            look = FacetLook(
                title=KINDS[kind][0],
                about=f"{spec.n} prompts; readout hf; band: 95 % interval over prompts",
                x_label="depth (layer / number of layers)",
                y_labels={"raw": "Prompt entropy (nats)", "normalised": "Prompt entropy (share of log T)"},
                color="step",
                scale_label=KINDS[kind][1],
                same_y=True,
            )
            figures.append(Drawing(kind, plot_facets(table, look), table))
    return Outcome(tests, figures, {}, notes, files)


def _shares(spec: StudySpec) -> list[float]:
    return [share for share in sorted(set(spec.shares)) if share > 0]


def _series(spec: StudySpec, model: str, kind: str, results: Results) -> list[tuple[float, Run]]:
    """The runs of one perturbation by p (0 is the prompts as they are) or T."""
    keys = {0.0: f"{model} {PLAIN}"} | {share: f"{model} {kind}:{share:g}" for share in _shares(spec)}
    if kind == "length":
        keys = {float(length): f"{model} random:{length}" for length in sorted(set(spec.tokens))}
    return [(amount, results.run(key)) for amount, key in keys.items() if results.has(key)]


def _runs(series: dict[str, list[tuple[float, Run]]]) -> list[Run]:
    found = {run.path: run for runs in series.values() for _, run in runs}
    return list(found.values())


def _tests(series: dict[str, list[tuple[float, Run]]], positions: str, about: str, seed: int) -> list[Test]:
    tests = []
    for kind, wanted in (("repetition", (REPETITION,)), ("randomness", (RANDOMNESS, ROBUST))):
        # At p = 1 a prompt is one token over and over: no entropy is left, whatever the model does.
        below = [(share, run) for share, run in series[kind] if share < 1 or kind == "randomness"]
        slopes = _slopes(below, positions, "none")
        if slopes is None:
            continue
        for claim in wanted:
            values = {
                "repetition": slopes.band("middle"),
                "randomness": slopes.band("early"),
                "randomness-late": slopes.band("early") - slopes.band("late"),
            }[claim.id]
            tests.append(Test(claim, about, mean_estimate(values, unit="nats", seed=seed)))
    for claim, normalization, unit, least in (
        (LENGTH, "none", "nats", 0.0),
        (SUBLINEAR, "none", "nats", np.log(2)),
        (NORMALISED, "logN", "share", 0.0),
    ):
        slopes = _slopes(series["length"], positions, normalization, log=True)
        if slopes is not None:
            estimate = mean_estimate(slopes.values.mean(axis=1) - least, unit=unit, seed=seed)
            tests.append(Test(claim, about, estimate))
    return tests


def _slopes(
    runs: list[tuple[float, Run]], positions: str, normalization: str, *, log: bool = False
) -> PromptCurves | None:
    """Each prompt's slope at every layer, in place of its values; None where fewer than two amounts have a run."""
    if len(runs) < 2:
        return None
    curves = [prompt_curves(run, "prompt_entropy", positions=positions, normalization=normalization) for _, run in runs]
    first = curves[0]
    together = [paired(first, other)[1] for other in curves]
    x = np.array([amount for amount, _ in runs])
    x = np.log2(x) if log else x
    weights = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    values = np.einsum("a,apl->pl", weights, np.stack([one.values for one in together]))
    return PromptCurves(together[0].ids, first.n_tokens, first.layers, first.depth, values, first.unit)


def _curves(model: str, runs: list[tuple[float, Run]], several: bool) -> list[pl.DataFrame]:
    parts = []
    for row, normalization in (("raw", "none"), ("normalised", "logN")):
        for positions in POSITIONS:
            where = "all tokens" if positions == "all" else "without massive tokens"
            for amount, run in runs:
                curve = layer_curve(run, "prompt_entropy", positions=positions, normalization=normalization)
                place = (row, f"{model}: {where}" if several else where, f"{amount:g}")
                parts.append(facet(curve, place, step=amount))
    return parts


STUDY = Study(
    name="extremes",
    what="prompt entropy of repeated, randomised and random prompts over the layers",
    paper="arXiv 2412.09563, figure 3, appendix G",
    presets={
        "small": StudySpec(
            preset="small",
            models=("smollm2-135m",),
            texts="wiki",
            n=24,
            context=128,
            shares=(0.25, 0.5, 0.75, 1.0),
            tokens=(32, 64, 128, 256),
        ),
        "paper": StudySpec(
            preset="paper",
            models=("EleutherAI/pythia-410m",),
            texts="wikitext",
            n=1000,
            shares=(0.1, 0.2, 0.5, 0.8, 1.0),
            tokens=(64, 128, 256, 512, 1024, 2048),
            dtype="float32",
        ),
    },
    options=frozenset({"models", "texts", "column", "n", "context", "shares", "tokens"}),
    jobs=jobs,
    analyse=analyse,
)
