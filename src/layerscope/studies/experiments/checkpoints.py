"""Every metric over depth at log-spaced training steps (figure 2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import polars as pl

from layerscope.figures import FacetLook
from layerscope.figures.curves import title
from layerscope.results.run import Run
from layerscope.studies.curves import counted_prompts, layer_curve
from layerscope.studies.estimates import mean_estimate
from layerscope.studies.grid import checkpoint_names, curves_run, short
from layerscope.studies.study import CLAIMS, Drawing, Job, Measure, Outcome, Results, Study, StudySpec, Test
from layerscope.studies.training_curves import (
    middle_moves_most,
    movement,
    pooled_change,
    training_runs,
    training_series,
)

OF_PROMPTS = ("prompt_entropy", "curvature", "effective_rank")
LABELS = {
    "prompt_entropy": "Prompt entropy (nats)",
    "curvature": "Curvature (radians)",
    "effective_rank": "Effective rank (directions)",
    "infonce": "InfoNCE loss (nats)",
    "lidar": "LiDAR (nats)",
    "dime": "DiME (nats)",
    "dataset_entropy": "Dataset entropy (nats)",
}


def jobs(spec: StudySpec) -> Sequence[Job]:
    """One run a checkpoint; the last of a local training run is that of `architectures`."""
    return [
        Measure(f"{model} {step}", curves_run(spec, name))
        for model in spec.models
        for step, name in checkpoint_names(spec, model).items()
    ]


def analyse(spec: StudySpec, results: Results) -> Outcome:
    """Movement and trends of the same prompts over the checkpoints that are there."""
    series, copies = training_runs(spec.models, results)
    tests = [test for model, runs in series.items() for test in _tests(short(spec, model), runs, spec.seed)]
    lines = [
        layer_curve(run, metric).line((metric, short(spec, model), f"step {step}"), float(step))
        for model, runs in series.items()
        for metric in LABELS
        for step, run in runs.items()
    ]
    look = FacetLook(
        title="Representations over training",
        about=f"{counted_prompts(run for runs in series.values() for run in runs.values())}; readout hf; color: training step",
        y_labels=LABELS,
        color="step",
        same_y=True,
    )
    steps = "; ".join(f"{short(spec, model)}: {', '.join(map(str, runs))}" for model, runs in series.items())
    notes = [
        "Intervals are over prompts, for one training run a model: they do not say what another seed of the training "
        "would give.",
        f"Steps with a run: {steps}.",
        *copies,
    ]
    return Outcome(tests, [Drawing.of_lines("checkpoints", lines, look)], {"movement": _moved(series)}, notes)


def _tests(about: str, runs: Mapping[int, Run], seed: int) -> list[Test]:
    series = {metric: training_series(runs, metric) for metric in OF_PROMPTS}
    tests = [
        Test(CLAIMS["middle-moves-most"], f"{title(name)}, {about}", middle_moves_most(one, seed))
        for name, one in series.items()
    ]
    entropy = series["prompt_entropy"]
    change = entropy[-1].band("middle") - entropy[0].band("middle")
    tests.append(Test(CLAIMS["middle-compressed"], about, mean_estimate(change, unit="nats", seed=seed)))
    if len(entropy) >= 4:
        half = len(entropy) // 2
        early = [layer for layer, depth in enumerate(entropy[0].depth) if 0 < depth <= 1 / 3 + 1e-9]
        first, second = movement(entropy[: half + 1])[:, early], movement(entropy[half:])[:, early]
        tests.append(
            Test(CLAIMS["early-settles"], about, mean_estimate((second - first).mean(axis=1), unit="nats", seed=seed))
        )
    return [*tests, Test(CLAIMS["pooled-middle"], about, pooled_change(runs, "infonce", "middle"))]


def _moved(series: Mapping[str, Mapping[int, Run]]) -> pl.DataFrame:
    """How far the mean entropy of each layer moves between neighbouring checkpoints."""
    rows = []
    for model, runs in series.items():
        curves = zip(runs, training_series(runs, "prompt_entropy"), strict=True)
        for (before, one), (after, other) in pairwise(curves):
            change = np.nanmean(other.values - one.values, axis=0).tolist()
            rows += [(model, before, after, layer, value) for layer, value in zip(one.layers, change, strict=True)]
    return pl.DataFrame(rows, schema=["model", "from", "to", "layer", "change"], orient="row")


STUDY = Study.written("checkpoints", jobs, analyse)
