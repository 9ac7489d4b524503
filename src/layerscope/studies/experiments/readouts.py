"""How much of "the middle layers are better" is the first token or the final norm: raw, normed and no-first states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float

from layerscope.errors import UserError
from layerscope.figures import FacetLook
from layerscope.picking.scores import TaskScores, read_scores
from layerscope.results.run import Run
from layerscope.studies.curves import band, layer_curve, paired, prompt_curves
from layerscope.studies.estimates import mean_estimate, paired_t
from layerscope.studies.experiments.table1 import failure_notes, score_lines, tasks_spec
from layerscope.studies.findings import number
from layerscope.studies.grid import file_name, model_spec, run_of, short
from layerscope.studies.study import CLAIMS, Drawing, Job, Measure, Outcome, Results, Score, Study, StudySpec, Test
from layerscope.tasks.run import TasksRun

STATES = (("raw", "all"), ("raw", "no-first"), ("normed", "all"), ("normed", "no-first"))


def jobs(spec: StudySpec) -> Sequence[Job]:
    """One sweep of tasks and one measurement a model, each of all four kinds of states."""
    states: dict[str, Any] = {"readouts": ("raw", "normed"), "positions": ("all", "no-first")}
    metrics = ("prompt_entropy", "curvature", "norm_ratio")
    grid: list[Job] = []
    for model in spec.models:
        scored = tasks_spec(spec, readout=states["readouts"], positions=states["positions"])
        measured = run_of(spec, model, metrics=metrics, normalizations=("none", "max"), **states)
        grid += [Score(f"{model} tasks", model_spec(spec, model), scored), Measure(f"{model} metrics", measured)]
    return grid


def analyse(spec: StudySpec, results: Results) -> Outcome:
    """Scores of the middle third against the last layer, and entropy valleys, in each kind of states."""
    tests: list[Test] = []
    notes = [
        "Tests of scores are over tasks, paired, by Student's t: with three tasks only large and even differences show. The "
        "middle third is fixed beforehand, no layer is chosen by its score."
    ]
    lines: list[pl.DataFrame] = []
    tables: dict[str, pl.DataFrame] = {}
    scored, measured = results.every(TasksRun), results.every(Run)
    for model in spec.models:
        label = short(spec, model)
        if run := scored.get(f"{model} tasks"):
            notes += failure_notes(label, run)
            found = {(one.readout, one.positions): one for one in read_scores(run.scores) if one.tasks}
            settings = {state: found[state] for state in STATES if state in found}
            tests += _score_tests(label, settings)
            notes += [_sentence(label, state, one) for state, one in settings.items()]
            prefix = f"{label}: " if len(spec.models) > 1 else ""
            lines += [part for state, one in settings.items() for part in score_lines(one, ", ".join(state), prefix)]
            tables[f"scores-{file_name(spec, model)}"] = run.scores
        if curves := measured.get(f"{model} metrics"):
            for readout, positions in STATES:
                conditions = {"readout": readout, "positions": positions, "normalization": "max"}
                place = ("entropy", f"{label}: prompt entropy", f"{readout}, {positions}")
                lines.append(layer_curve(curves, "prompt_entropy", **conditions).line(place))
            with_first, without = paired(
                *(prompt_curves(curves, "prompt_entropy", readout="raw", positions=one) for one in ("all", "no-first"))
            )
            change = with_first.valley() - without.valley()
            tests.append(
                Test(CLAIMS["valley-is-first-token"], label, mean_estimate(change, unit="nats", seed=spec.seed))
            )
    if not lines:
        raise UserError("no task and no metric has a value, so there is nothing to compare")
    look = FacetLook(
        title="What is read from a layer, and what it is worth",
        about="raw: the residual stream; normed: after the model's final norm; no-first: without the first token; "
        "band of the entropy: 95 % interval over prompts",
        y_labels={
            "average": "average main score",
            "task": "main score",
            "entropy": "Prompt entropy\n(share of log min(T, D))",
        },
        wrap=2,
    )
    return Outcome(tests, [Drawing.of_lines("readouts", lines, look)], tables, notes)


def _middle(scores: TaskScores) -> Float[np.ndarray, " tasks"]:
    """Each task's mean score over the middle third."""
    depth = np.array(scores.layers) / max(1, scores.n_blocks)
    return np.asarray(scores.values[:, band(depth, "middle")].mean(axis=1))


def _last(scores: TaskScores) -> Float[np.ndarray, " tasks"]:
    there = scores.n_blocks in scores.layers
    return scores.values[:, scores.layers.index(scores.n_blocks)] if there else np.full(len(scores.tasks), np.nan)


def _score_tests(label: str, settings: Mapping[tuple[str, str], TaskScores]) -> list[Test]:
    tests = [
        Test(
            CLAIMS["middle-advantage"],
            f"{label}, {', '.join(state)}",
            paired_t(_middle(scores) - _last(scores), unit="score"),
        )
        for state, scores in settings.items()
    ]
    for claim, more, less in (
        (CLAIMS["first-token-hides"], ("raw", "no-first"), ("raw", "all")),
        (CLAIMS["norm-helps"], ("normed", "all"), ("raw", "all")),
        (CLAIMS["norm-beyond-first"], ("normed", "no-first"), ("raw", "no-first")),
    ):
        if more in settings and less in settings and settings[more].tasks == settings[less].tasks:
            change = _middle(settings[more]) - _middle(settings[less])
            tests.append(Test(claim, label, paired_t(change, unit="score")))
    return tests


def _sentence(label: str, state: tuple[str, str], scores: TaskScores) -> str:
    means = scores.values.mean(axis=0)
    best = int(means.argmax())
    return (
        f"{label}, {', '.join(state)}: best at layer {scores.layers[best]} ({number(means[best])}), middle third "
        f"{number(_middle(scores).mean())}, last layer {number(_last(scores).mean())}."
    )


STUDY = Study.written("readouts", jobs, analyse)
