"""Random prompts over training: what a model makes of input without any structure (figure 8)."""

from __future__ import annotations

from collections.abc import Sequence

from layerscope.errors import UserError
from layerscope.figures import FacetLook
from layerscope.studies.curves import MASSIVE, layer_curve, tokens_to_test
from layerscope.studies.estimates import mean_estimate
from layerscope.studies.grid import checkpoint_names, entropy_run, short, text_spec
from layerscope.studies.study import CLAIMS, Drawing, Job, Measure, Outcome, Results, Study, StudySpec, Test
from layerscope.studies.training_curves import middle_moves_most, training_runs, training_series


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
    tests, lines = [], []
    series, copies = training_runs(spec.models, results)
    for model, runs in series.items():
        name = short(spec, model)
        for positions, about in tokens_to_test(name, *runs.values()).items():
            curves = training_series(runs, "prompt_entropy", positions=positions)
            early, middle = (curves[-1].band(third) - curves[0].band(third) for third in ("early", "middle"))
            tests += [
                Test(CLAIMS["random-middle-moves-most"], about, middle_moves_most(curves, spec.seed)),
                Test(CLAIMS["random-compressed"], about, mean_estimate(middle, unit="nats", seed=spec.seed)),
                Test(CLAIMS["random-early-kept"], about, mean_estimate(early - middle, unit="nats", seed=spec.seed)),
            ]
        for positions, row in MASSIVE.items():
            for step, run in runs.items():
                curve = layer_curve(run, "prompt_entropy", positions=positions, normalization="max")
                lines.append(curve.line((row, name, f"step {step}"), float(step)))
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


STUDY = Study.written("random-prompts", jobs, analyse)
