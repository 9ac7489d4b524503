"""Random prompts over training: what a model makes of input without any structure (figure 8)."""

from __future__ import annotations

from collections.abc import Sequence

from layerscope.errors import UserError
from layerscope.figures import FacetLook
from layerscope.studies.curves import MASSIVE, has_massive_tokens, layer_curve
from layerscope.studies.estimates import mean_estimate
from layerscope.studies.findings import Claim, Test
from layerscope.studies.grid import PYTHIA, PYTHIA_STEPS, checkpoint_names, entropy_run, short, text_spec
from layerscope.studies.jobs import Job, Measure, Results
from layerscope.studies.spec import StudySpec
from layerscope.studies.study import Drawing, Outcome, Study
from layerscope.studies.training_curves import middle_moves_most, training_runs, training_series
from layerscope.training.recipes import PAIR

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
    texts = text_spec(spec, f"random:{spec.tokens[0]}")
    return [
        Measure(f"{model} {step}", entropy_run(spec, name, texts))
        for model in spec.models
        for step, name in checkpoint_names(spec, model).items()
    ]


def analyse(spec: StudySpec, results: Results) -> Outcome:
    """Movement and trends of the same random prompts over the checkpoints that are there."""
    tests: list[Test] = []
    lines = []
    series, copies = training_runs(spec.models, results)
    for model, runs in series.items():
        for positions, row in MASSIVE.items():
            if positions == "all" or any(has_massive_tokens(run) for run in runs.values()):
                curves = training_series(runs, "prompt_entropy", positions=positions)
                early, middle = (curves[-1].band(name) - curves[0].band(name) for name in ("early", "middle"))
                found = {
                    MIDDLE: middle_moves_most(curves, spec.seed),
                    COMPRESSED: mean_estimate(middle, unit="nats", seed=spec.seed),
                    LATE: mean_estimate(early - middle, unit="nats", seed=spec.seed),
                }
                about = short(model) + ("" if positions == "all" else ", no-sink")
                tests += [Test(claim, about, estimate) for claim, estimate in found.items()]
            for step, run in runs.items():
                curve = layer_curve(run, "prompt_entropy", positions=positions, normalization="max")
                lines.append(curve.line((row, short(model), f"step {step}"), float(step)))
    look = FacetLook(
        title=f"Random prompts of {spec.tokens[0]} tokens over training",
        about=f"{spec.n} random prompts, the same at every step; readout hf",
        y_labels={row: f"Prompt entropy, {row}\n(share of log min(T, D))" for row in MASSIVE.values()},
        color="step",
        same_y=True,
    )
    notes = [
        "Tokens are drawn evenly from the vocabulary without special tokens. Models with one tokenizer get the same prompts.",
        "Intervals are over prompts, for one training run a model.",
        "The text of the paper says little on its figure 8; the claims are what its main text says of training, put to "
        "random prompts.",
        *copies,
    ]
    return Outcome(tests, [Drawing.of_lines("random-prompts", lines, look)], notes=notes)


STUDY = Study(
    name="random-prompts",
    what="prompt entropy of random prompts over training",
    paper="arXiv 2412.09563, figure 8",
    presets={
        "small": StudySpec(models=PAIR, n=24, tokens=(512,)),
        "paper": StudySpec(preset="paper", models=(PYTHIA,), n=100, tokens=(512,), steps=PYTHIA_STEPS, dtype="float32"),
    },
    options=frozenset({"models", "n", "tokens", "steps"}),
    jobs=jobs,
    analyse=analyse,
)
