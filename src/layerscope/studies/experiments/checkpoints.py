"""Every metric over depth at log-spaced training steps (figure 2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from layerscope.errors import UserError
from layerscope.figures import FacetLook, plot_facets
from layerscope.figures.curves import title
from layerscope.results.run import Run
from layerscope.results.same_weights import same_weights
from layerscope.studies.estimates import mean_estimate, weaker
from layerscope.studies.findings import Claim, Test
from layerscope.studies.grid import PAIR, checkpoint_names, curves_run, short
from layerscope.studies.jobs import Job, Measure, Results
from layerscope.studies.layer_curves import facet, layer_curve
from layerscope.studies.spec import StudySpec
from layerscope.studies.study import Drawing, Outcome, Study
from layerscope.studies.training_curves import middle_lead, movement, pooled_change, training_series

OF_PROMPTS = ("prompt_entropy", "curvature", "effective_rank")
OF_MANY = ("infonce", "lidar", "dime", "dataset_entropy")
SOURCE = "arXiv 2412.09563, figure 2; arXiv 2502.02013, section on training"

MIDDLE = Claim(
    "middle-moves-most",
    "Training changes the middle layers most",
    SOURCE,
    "movement over the checkpoints, middle third minus the more moved of its neighbours",
    "positive",
)
COMPRESSED = Claim(
    "middle-compressed",
    "Prompt entropy of the middle layers falls in the course of training",
    SOURCE,
    "entropy of the middle third, last checkpoint minus first",
    "negative",
)
EARLY = Claim(
    "early-settles",
    "The early layers change little: they settle in the first part of training",
    SOURCE,
    "movement of the early third in the second half of the checkpoints minus that in the first half",
    "negative",
)
POOLED = Claim(
    "pooled-middle",
    "InfoNCE loss of the middle layers falls in the course of training: they become invariant to augmentation",
    SOURCE,
    "InfoNCE loss of the middle third, last checkpoint minus first",
    "negative",
)


def jobs(spec: StudySpec) -> Sequence[Job]:
    """One run a checkpoint; the last of a local training run is that of `architectures`."""
    grid: list[Job] = []
    for model in spec.models:
        names = checkpoint_names(spec, model)
        for step, name in names.items():
            grid.append(Measure(f"{model} {step}", curves_run(spec, name)))
    return grid


def analyse(spec: StudySpec, results: Results) -> Outcome:
    """Movement and trends of the same prompts over the checkpoints that are there."""
    series, copies = {}, []
    for model in spec.models:
        series[model], said = distinct(by_step(model, results))
        copies += said
    series = {model: runs for model, runs in series.items() if len(runs) >= 2}
    if not series:
        raise UserError(" ".join(["no model has two checkpoints that can be read: give more --steps.", *copies]))
    tests = [test for model, runs in series.items() for test in _tests(short(model), runs, spec.seed)]
    data = pl.concat([part for model, runs in series.items() for part in _curves(short(model), runs)])
    look = FacetLook(
        title="Representations over training",
        about=f"{_counts(series)} prompts; readout hf; color: training step",
        x_label="depth (layer / number of layers)",
        y_labels={
            "prompt_entropy": "Prompt entropy (nats)",
            "curvature": "Curvature (radians)",
            "effective_rank": "Effective rank (directions)",
            "infonce": "InfoNCE loss (nats)",
            "lidar": "LiDAR (nats)",
            "dime": "DiME (nats)",
            "dataset_entropy": "Dataset entropy (nats)",
        },
        color="step",
        same_y=True,
    )
    notes = [
        "Intervals are over prompts, for one training run a model: they do not say what another seed of the training "
        "would give.",
        "Steps with a run: "
        + "; ".join(f"{short(m)}: {', '.join(map(str, sorted(r)))}" for m, r in series.items())
        + ".",
    ]
    moved = {"movement": _moved(series)}
    return Outcome(tests, [Drawing("checkpoints", plot_facets(data, look), data)], moved, [*notes, *copies])


def by_step(model: str, results: Results) -> dict[int, Run]:
    """The runs of a model's checkpoints that have a result."""
    found = {}
    for key, run in results.runs().items():
        name, _, step = key.rpartition(" ")
        if name == model and step.isdigit():
            found[int(step)] = run
    return dict(sorted(found.items()))


def distinct(runs: Mapping[int, Run]) -> tuple[dict[int, Run], list[str]]:
    """The runs without those of a checkpoint that is another one under a second name, and a sentence about each.

    Of neighbours the first is kept: nothing may have changed between them. Where other weights lie between two equal
    ones, a label is wrong, nobody knows whose, and neither is kept.
    """
    kept, notes = dict(runs), []
    order = list(runs)
    by_name = {run.record.spec.model.name: step for step, run in runs.items()}
    for names in same_weights({run.record.spec.model.name: run for run in runs.values()}):
        places = [order.index(by_name[name]) for name in names]
        together = places == list(range(places[0], places[-1] + 1))
        left = names[1:] if together else names
        for name in left:
            del kept[by_name[name]]
        which = f"{', '.join(left)} {'is' if len(left) == 1 else 'are'} left out"
        why = "" if together else ", because other weights lie between them and a label must be wrong"
        notes.append(f"{', '.join(names[:-1])} and {names[-1]} have the same weights: {which}{why}.")
    return kept, notes


def _counts(series: Mapping[str, Mapping[int, Run]]) -> str:
    counts = {run.record.resolved.n_prompts for runs in series.values() for run in runs.values()}
    return " or ".join(map(str, sorted(counts)))


def _tests(about: str, runs: Mapping[int, Run], seed: int) -> list[Test]:
    tests = []
    for metric in OF_PROMPTS:
        series = training_series(runs, metric)
        sides = [mean_estimate(middle_lead(series, o), unit=series[0].unit, seed=seed) for o in ("early", "late")]
        tests.append(Test(MIDDLE, f"{title(metric)}, {about}", weaker(sides, 1)))
    entropy = training_series(runs, "prompt_entropy")
    change = entropy[-1].band("middle") - entropy[0].band("middle")
    tests.append(Test(COMPRESSED, about, mean_estimate(change, unit="nats", seed=seed)))
    if len(entropy) >= 4:
        half = len(entropy) // 2
        early = [layer for layer, depth in enumerate(entropy[0].depth) if 0 < depth <= 1 / 3 + 1e-9]
        first, second = movement(entropy[: half + 1])[:, early], movement(entropy[half:])[:, early]
        tests.append(Test(EARLY, about, mean_estimate((second - first).mean(axis=1), unit="nats", seed=seed)))
    tests.append(Test(POOLED, about, pooled_change(runs, "infonce", "middle")))
    return tests


def _curves(model: str, runs: Mapping[int, Run]) -> list[pl.DataFrame]:
    return [
        facet(layer_curve(run, metric), (metric, model, f"step {step}"), step=float(step))
        for metric in (*OF_PROMPTS, *OF_MANY)
        for step, run in runs.items()
    ]


def _moved(series: Mapping[str, Mapping[int, Run]]) -> pl.DataFrame:
    """How far the mean entropy of each layer moves between neighbouring checkpoints."""
    rows = []
    for model, runs in series.items():
        steps = sorted(runs)
        curves = training_series(runs, "prompt_entropy")
        for before, after, one, other in zip(steps, steps[1:], curves, curves[1:], strict=False):
            change = np.nanmean(other.values - one.values, axis=0)
            rows += [
                {"model": model, "from": before, "to": after, "layer": layer, "change": float(value)}
                for layer, value in zip(one.layers, change, strict=True)
            ]
    return pl.DataFrame(rows)


PYTHIA_STEPS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000, 2000, 4000, 8000, 16000, 32000, 64000, 143000)
STUDY = Study(
    name="checkpoints",
    what="every metric over depth at log-spaced training steps",
    paper="arXiv 2412.09563, figure 2",
    presets={
        "small": StudySpec(preset="small", models=PAIR, n=32),
        "paper": StudySpec(
            preset="paper",
            models=("EleutherAI/pythia-410m",),
            texts="wikitext",
            n=1000,
            steps=PYTHIA_STEPS,
            dtype="float32",
        ),
    },
    options=frozenset({"models", "texts", "column", "n", "context", "steps"}),
    jobs=jobs,
    analyse=analyse,
)
