"""How much of "the middle layers are better" is the first token or the final norm: raw, normed and no-first states."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import polars as pl

from layerscope.config import RunSpec
from layerscope.errors import UserError
from layerscope.figures import FacetLook, plot_facets
from layerscope.picking.scores import TaskScores, read_scores
from layerscope.studies.estimates import mean_estimate, paired_t
from layerscope.studies.experiments.table1 import score_lines, tasks_spec
from layerscope.studies.findings import Claim, Test, number
from layerscope.studies.grid import model_spec, require_trained, short, text_spec
from layerscope.studies.jobs import Job, Measure, Results, Score
from layerscope.studies.layer_curves import facet, layer_curve
from layerscope.studies.prompt_curves import band, paired, prompt_curves, valley_weights
from layerscope.studies.spec import StudySpec
from layerscope.studies.study import Drawing, Outcome, Study

STATES = (("raw", "all"), ("raw", "no-first"), ("normed", "all"), ("normed", "no-first"))
SOURCE = "not in the papers, whose metrics are of raw and whose scores are of normed states"

ADVANTAGE = Claim(
    "middle-advantage",
    "The middle layers score higher than the last",
    "arXiv 2412.09563, table 1; arXiv 2502.02013, figure 1",
    "mean score of the middle third minus that of the last layer",
    "positive",
)
FIRST_HIDES = Claim(
    "first-token-hides",
    "In raw states the first token hides what the middle layers know",
    SOURCE,
    "mean score of the middle third, raw without the first token minus raw with it",
    "positive",
)
NORM_HELPS = Claim(
    "norm-helps",
    "The final norm brings out what the middle layers know",
    SOURCE,
    "mean score of the middle third, normed minus raw",
    "positive",
)
NORM_AND_FIRST = Claim(
    "norm-beyond-first",
    "Without the first token, the final norm still helps the middle layers",
    SOURCE,
    "mean score of the middle third without the first token, normed minus raw",
    "positive",
)
VALLEY_IS_FIRST = Claim(
    "valley-is-first-token",
    "The entropy valley of raw states is the first token's doing: without it the valley is shallower",
    SOURCE,
    "valley of raw states minus valley of raw states without the first token",
    "negative",
)


def jobs(spec: StudySpec) -> Sequence[Job]:
    """One sweep of tasks and one measurement a model, each of all four kinds of states."""
    require_trained(spec.models)
    grid: list[Job] = []
    for model in spec.models:
        kinds = {"readout": ("raw", "normed"), "positions": ("all", "no-first")}
        grid.append(Score(f"{model} tasks", model_spec(spec, model), tasks_spec(spec, **kinds)))
        measured = RunSpec(
            model=model_spec(spec, model),
            texts=text_spec(spec),
            metrics=("prompt_entropy", "curvature", "norm_ratio"),
            readouts=("raw", "normed"),
            positions=("all", "no-first"),
            normalizations=("none", "max"),
            seed=spec.seed,
        )
        grid.append(Measure(f"{model} metrics", measured))
    return grid


def analyse(spec: StudySpec, results: Results) -> Outcome:
    """Scores of the middle third against the last layer, and entropy valleys, in each kind of states."""
    tests: list[Test] = []
    notes = [
        "Tests of scores are over tasks, paired, by Student's t: with three tasks only large and even differences show. The "
        "middle third is fixed beforehand, no layer is chosen by its score."
    ]
    parts: list[pl.DataFrame] = []
    tables: dict[str, pl.DataFrame] = {}
    for model in spec.models:
        if results.has(f"{model} tasks"):
            run = results.scores(f"{model} tasks")
            notes += [f"{short(model)}: {failure.task} has no score: {failure.reason}" for failure in run.failures]
            found = {(one.readout, one.positions): one for one in read_scores(run.scores) if one.tasks}
            settings = {state: found[state] for state in STATES if state in found}
            tests += _score_tests(short(model), settings)
            notes += [_sentence(short(model), state, one) for state, one in settings.items()]
            prefix = f"{short(model)}: " if len(spec.models) > 1 else ""
            parts += [score_lines(one, ", ".join(state), prefix=prefix) for state, one in settings.items()]
            tables[f"scores-{short(model)}"] = run.scores
        if results.has(f"{model} metrics"):
            measured = results.run(f"{model} metrics")
            valleys = []
            for readout, positions in STATES:
                conditions = {"readout": readout, "positions": positions}
                curve = layer_curve(measured, "prompt_entropy", normalization="max", **conditions)
                parts.append(facet(curve, ("entropy", f"{short(model)}: prompt entropy", f"{readout}, {positions}")))
                valleys.append(prompt_curves(measured, "prompt_entropy", **conditions))
            with_first, without = paired(valleys[0], valleys[1])
            weights = valley_weights(with_first.depth)
            change = with_first.contrast(weights) - without.contrast(weights)
            tests.append(Test(VALLEY_IS_FIRST, short(model), mean_estimate(change, unit="nats", seed=spec.seed)))
    if not parts:
        raise UserError("no task and no metric has a value, so there is nothing to compare")
    data = pl.concat(parts)
    look = FacetLook(
        title="What is read from a layer, and what it is worth",
        about="raw: the residual stream; normed: after the model's final norm; no-first: without the first token; "
        "band of the entropy: 95 % interval over prompts",
        x_label="depth (layer / number of layers)",
        y_labels={
            "average": "average main score",
            "task": "main score",
            "entropy": "Prompt entropy\n(share of log min(T, D))",
        },
        wrap=2,
    )
    return Outcome(tests, [Drawing("readouts", plot_facets(data, look), data)], tables, notes)


def _middle(scores: TaskScores) -> np.ndarray:
    """Each task's mean score over the middle third."""
    depth = np.array(scores.layers) / max(1, scores.n_blocks)
    return np.asarray(scores.values[:, band(depth, "middle")].mean(axis=1))


def _last(scores: TaskScores) -> np.ndarray:
    place = scores.column(scores.n_blocks)
    return scores.values[:, place] if place is not None else np.full(len(scores.tasks), math.nan)


def _score_tests(model: str, settings: dict[tuple[str, str], TaskScores]) -> list[Test]:
    tests = []
    for (readout, positions), scores in settings.items():
        gains = (_middle(scores) - _last(scores)).tolist()
        tests.append(Test(ADVANTAGE, f"{model}, {readout}, {positions}", paired_t(gains, unit="score")))
    for claim, more, less in (
        (FIRST_HIDES, ("raw", "no-first"), ("raw", "all")),
        (NORM_HELPS, ("normed", "all"), ("raw", "all")),
        (NORM_AND_FIRST, ("normed", "no-first"), ("raw", "no-first")),
    ):
        if more in settings and less in settings and settings[more].tasks == settings[less].tasks:
            change = (_middle(settings[more]) - _middle(settings[less])).tolist()
            tests.append(Test(claim, model, paired_t(change, unit="score")))
    return tests


def _sentence(model: str, state: tuple[str, str], scores: TaskScores) -> str:
    means = scores.values.mean(axis=0)
    best = int(means.argmax())
    return (
        f"{model}, {state[0]}, {state[1]}: best at layer {scores.layers[best]} ({number(float(means[best]))}), middle third "
        f"{number(float(_middle(scores).mean()))}, last layer {number(float(_last(scores).mean()))}."
    )


STUDY = Study(
    name="readouts",
    what="raw, normed and no-first states: how much of the middle layers' lead is the first token or the final norm",
    paper="no figure; our own question about table 1 and figure 1",
    presets={
        "small": StudySpec(
            preset="small", models=("smollm2-135m",), benchmark="offline", texts="wiki", n=64, context=128
        ),
        "paper": StudySpec(
            preset="paper", models=("EleutherAI/pythia-410m",), benchmark="paper32", texts="wikitext", n=1000
        ),
    },
    options=frozenset({"models", "tasks", "benchmark", "texts", "column", "n", "context"}),
    jobs=jobs,
    analyse=analyse,
)
