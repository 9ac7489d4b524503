"""Random prompts over training: what a model makes of input without any structure (figure 8)."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from layerscope.errors import UserError
from layerscope.figures import FacetLook, plot_facets
from layerscope.studies.estimates import mean_estimate, weaker
from layerscope.studies.experiments.checkpoints import PYTHIA_STEPS, by_step, distinct
from layerscope.studies.findings import Claim, Test
from layerscope.studies.grid import PAIR, checkpoint_names, entropy_run, short, text_spec
from layerscope.studies.jobs import Job, Measure, Results
from layerscope.studies.layer_curves import facet, layer_curve
from layerscope.studies.prompt_curves import has_massive_tokens
from layerscope.studies.spec import StudySpec
from layerscope.studies.study import Drawing, Outcome, Study
from layerscope.studies.training_curves import middle_lead, training_series

SOURCE = "arXiv 2412.09563, figure 8"

MIDDLE = Claim(
    "random-middle-moves-most",
    "For random prompts too, training changes the middle layers most",
    SOURCE,
    "movement of entropy over the checkpoints, middle third minus the more moved of its neighbours",
    "positive",
)
COMPRESSED = Claim(
    "random-compressed",
    "Training lowers the entropy of random prompts in the middle layers",
    SOURCE,
    "entropy of the middle third, last checkpoint minus first",
    "negative",
)
LATE = Claim(
    "random-early-kept",
    "Training lowers it less in the early layers than in the middle ones",
    SOURCE,
    "change of the early third minus change of the middle third, last checkpoint minus first",
    "positive",
)


def jobs(spec: StudySpec) -> Sequence[Job]:
    """One run of random prompts a checkpoint."""
    if len(spec.tokens) != 1:
        raise UserError(f"random-prompts takes one length of prompts (--tokens 512), got {len(spec.tokens)}")
    texts = text_spec(spec, perturbation=f"random:{spec.tokens[0]}")
    return [
        Measure(f"{model} {step}", entropy_run(spec, name, texts))
        for model in spec.models
        for step, name in checkpoint_names(spec, model).items()
    ]


def analyse(spec: StudySpec, results: Results) -> Outcome:
    """Movement and trends of the same random prompts over the checkpoints that are there."""
    tests: list[Test] = []
    parts: list[pl.DataFrame] = []
    copies: list[str] = []
    for model in spec.models:
        runs, said = distinct(by_step(model, results))
        copies += said
        if len(runs) < 2:
            continue
        for positions in ("all", "no-sink"):
            where = "" if positions == "all" else ", no-sink"
            about = f"{short(model)}{where}"
            series = training_series(runs, "prompt_entropy", positions=positions)
            told = positions == "all" or any(has_massive_tokens(run) for run in runs.values())
            change = {name: series[-1].band(name) - series[0].band(name) for name in ("early", "middle")}
            leads = [mean_estimate(middle_lead(series, one), unit="nats", seed=spec.seed) for one in ("early", "late")]
            fallen = mean_estimate(change["middle"], unit="nats", seed=spec.seed)
            kept = mean_estimate(change["early"] - change["middle"], unit="nats", seed=spec.seed)
            if told:
                found = {MIDDLE: weaker(leads, 1), COMPRESSED: fallen, LATE: kept}
                tests += [Test(claim, about, estimate) for claim, estimate in found.items()]
            for step, run in runs.items():
                curve = layer_curve(run, "prompt_entropy", positions=positions, normalization="max")
                row = "all tokens" if positions == "all" else "without massive tokens"
                parts.append(facet(curve, (row, short(model), f"step {step}"), step=float(step)))
    if not parts:
        raise UserError(" ".join(["no model has two checkpoints that can be read: give more --steps.", *copies]))
    data = pl.concat(parts)
    look = FacetLook(
        title=f"Random prompts of {spec.tokens[0]} tokens over training",
        about=f"{spec.n} random prompts, the same at every step; readout hf",
        x_label="depth (layer / number of layers)",
        y_labels={
            row: f"Prompt entropy, {row}\n(share of log min(T, D))" for row in ("all tokens", "without massive tokens")
        },
        color="step",
        same_y=True,
    )
    notes = [
        "Tokens are drawn evenly from the vocabulary without special tokens. Models with one tokenizer get the same prompts.",
        "Intervals are over prompts, for one training run a model.",
        "The text of the paper says little on its figure 8; the claims are what its main text says of training, put to "
        "random prompts.",
    ]
    return Outcome(tests, [Drawing("random-prompts", plot_facets(data, look), data)], {}, [*notes, *copies])


STUDY = Study(
    name="random-prompts",
    what="prompt entropy of random prompts over training",
    paper="arXiv 2412.09563, figure 8",
    presets={
        "small": StudySpec(preset="small", models=PAIR, n=24, tokens=(512,)),
        "paper": StudySpec(
            preset="paper",
            models=("EleutherAI/pythia-410m",),
            n=100,
            tokens=(512,),
            steps=PYTHIA_STEPS,
            dtype="float32",
        ),
    },
    options=frozenset({"models", "n", "tokens", "steps"}),
    jobs=jobs,
    analyse=analyse,
)
