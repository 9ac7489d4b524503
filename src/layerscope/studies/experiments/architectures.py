"""Entropy, curvature and invariance against depth, Transformer and state-space model (figure 1)."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from layerscope.errors import UserError
from layerscope.figures import FacetLook, plot_facets
from layerscope.figures.curves import title
from layerscope.results.run import Run
from layerscope.studies.estimates import difference, mean_estimate, weaker
from layerscope.studies.findings import Claim, Test
from layerscope.studies.grid import PAIR, curves_run, is_ssm, require_trained, short
from layerscope.studies.jobs import Job, Measure, Results
from layerscope.studies.layer_curves import facet, layer_curve
from layerscope.studies.prompt_curves import has_massive_tokens, paired, prompt_curves, same_lengths, valley_weights
from layerscope.studies.spec import StudySpec
from layerscope.studies.study import Drawing, Outcome, Study

OF_PROMPTS = ("prompt_entropy", "curvature")
OF_VIEWS = ("infonce", "lidar", "dime")
METRICS = (*OF_PROMPTS, *OF_VIEWS)
SOURCE = "arXiv 2412.09563, figure 1; arXiv 2502.02013, figure 2"

VALLEY = Claim(
    "entropy-valley",
    "Prompt entropy of a Transformer is lower in the middle layers than before and after them",
    SOURCE,
    "entropy of the middle third minus that of the lower of its neighbours",
    "negative",
)
NO_SINK = Claim(
    "entropy-valley-no-sink",
    "The valley is there when massive tokens are left out (our own question)",
    "not in the papers; arXiv 2402.17762 on massive activations",
    "entropy without massive tokens, middle third minus the lower of its neighbours",
    "negative",
)
DEEPER = Claim(
    "valley-deeper-in-transformer",
    "The valley is deeper in a Transformer than in a state-space model",
    SOURCE,
    "middle third minus the mean of the outer thirds, Transformer minus state-space model",
    "negative",
)
MORE_CHANGE = Claim(
    "transformer-changes-more",
    "Representations change more over the layers of a Transformer than over those of a state-space model",
    SOURCE,
    "standard deviation over layers, Transformer minus state-space model",
    "positive",
)


def jobs(spec: StudySpec) -> Sequence[Job]:
    """One run a model, every metric at every layer."""
    require_trained(spec.models)
    return [Measure(model, curves_run(spec, model)) for model in spec.models]


def analyse(spec: StudySpec, results: Results) -> Outcome:
    """Valleys of every model, and the pair's differences where the two may be compared."""
    runs = {model: results.run(model) for model in spec.models if results.has(model)}
    tests = [test for model, run in runs.items() for test in _valleys(model, run, spec.seed)]
    notes = [
        "Thirds of a model: layers up to 1/3, 2/3 and all of its depth, fixed beforehand; embeddings count as early."
    ]
    transformers = [model for model in runs if not is_ssm(model)]
    machines = [model for model in runs if is_ssm(model)]
    if transformers and machines:
        pair, why = _compare(transformers[0], machines[0], runs, spec.seed)
        tests += pair
        notes.append(why)
    else:
        notes.append("No Transformer and state-space model are both there, so the two kinds are not compared.")
    notes.append(
        "Entropies of models with other tokenizers or dimensions stand side by side as shares of log min(T, D), and are not "
        "compared in nats. InfoNCE, LiDAR and DiME depend on the number of prompts, which is the same for all models here; "
        "their intervals take the largest error that the layers' intervals allow."
    )
    data = _figure_data(runs)
    counts = sorted({run.record.resolved.n_prompts for run in runs.values()})
    look = FacetLook(
        title="Representations over depth",
        about=f"{' or '.join(map(str, counts))} prompts; readout hf; band: 95 % interval",
        x_label="depth (layer / number of layers)",
        y_labels=_labels(),
        wrap=3,
    )
    return Outcome(tests, [Drawing("architectures", plot_facets(data, look), data)], {}, notes)


def _labels() -> dict[str, str]:
    return {
        "prompt_entropy": "Prompt entropy\n(share of log min(T, D))",
        "prompt_entropy no-sink": "Prompt entropy, no-sink\n(share of log min(T, D))",
        "curvature": "Curvature (radians)",
        "infonce": "InfoNCE loss (nats)",
        "lidar": "LiDAR (nats)",
        "dime": "DiME (nats)",
    }


def _figure_data(runs: dict[str, Run]) -> pl.DataFrame:
    """A chart a quantity, a line a model."""
    order = ("prompt_entropy", "prompt_entropy no-sink", *METRICS[1:])
    parts = []
    for name in order:
        metric, _, positions = name.partition(" ")
        conditions = {"positions": positions or "all"} | (
            {"normalization": "max"} if metric == "prompt_entropy" else {}
        )
        for model, run in runs.items():
            curve = layer_curve(run, metric, **conditions)
            parts.append(facet(curve, (name, title(metric) + (f", {positions}" if positions else ""), short(model))))
    return pl.concat(parts)


def _valleys(model: str, run: Run, seed: int) -> list[Test]:
    tests = []
    for claim, positions in ((VALLEY, "all"), (NO_SINK, "no-sink")):
        curves = prompt_curves(run, "prompt_entropy", positions=positions)
        if positions == "no-sink" and not has_massive_tokens(run):
            continue
        kind = " (state-space model)" if is_ssm(model) else ""
        # A valley is lower than both sides: a curve that only falls is lower than their mean.
        sides = [
            mean_estimate(curves.contrast(valley_weights(curves.depth, (other,))), unit="nats", seed=seed)
            for other in ("early", "late")
        ]
        tests.append(Test(claim, f"{short(model)}{kind}", weaker(sides, -1)))
    return tests


def _compare(one: str, other: str, runs: dict[str, Run], seed: int) -> tuple[list[Test], str]:
    """The pair's tests, over the same prompts; and how they were compared."""
    about = f"{short(one)} against {short(other)}"
    tests = []
    kind = "max"
    for metric in OF_PROMPTS:
        conditions = {"normalization": "none"} if metric == "prompt_entropy" else {}
        a, b = paired(prompt_curves(runs[one], metric, **conditions), prompt_curves(runs[other], metric, **conditions))
        dims = {runs[model].record.resolved.dim for model in (one, other)}
        if metric == "prompt_entropy":
            kind = "none" if same_lengths(a, b) and len(dims) == 1 else "max"
            if kind == "max":
                conditions = {"normalization": "max"}
                a, b = paired(
                    prompt_curves(runs[one], metric, **conditions), prompt_curves(runs[other], metric, **conditions)
                )
            valley = a.contrast(valley_weights(a.depth)) - b.contrast(valley_weights(b.depth))
            tests.append(Test(DEEPER, about, mean_estimate(valley, unit=a.unit, seed=seed)))
        spread = a.spread - b.spread
        tests.append(Test(MORE_CHANGE, f"{title(metric)}, {about}", mean_estimate(spread, unit=a.unit, seed=seed)))
    sizes = {runs[model].record.resolved.n_prompts for model in (one, other)}
    if len(sizes) > 1:
        raise UserError(
            f"the models were measured on {' and '.join(map(str, sorted(sizes)))} prompts: use one number (--n)"
        )
    for metric in OF_VIEWS:
        spread_of = [layer_curve(runs[model], metric).spread for model in (one, other)]
        tests.append(Test(MORE_CHANGE, f"{title(metric)}, {about}", difference(*spread_of)))
    how = (
        "in nats, since both models have one tokenizer and one dimension"
        if kind == "none"
        else "as shares of log min(T, D), since tokenizers or dimensions differ"
    )
    return tests, f"{short(one)} and {short(other)} are compared on the same prompts, their entropies {how}."


_OPTIONS = frozenset({"models", "texts", "column", "n", "context"})
STUDY = Study(
    name="architectures",
    what="entropy, curvature and augmentation invariance against depth, Transformer and state-space model",
    paper="arXiv 2412.09563, figure 1",
    presets={
        "small": StudySpec(preset="small", models=(*PAIR, "smollm2-135m", "minilm-l6"), n=32),
        "paper": StudySpec(
            preset="paper",
            models=("EleutherAI/pythia-410m", "state-spaces/mamba-370m-hf"),
            texts="wikitext",
            n=1000,
            dtype="float32",
        ),
    },
    options=_OPTIONS,
    jobs=jobs,
    analyse=analyse,
)
