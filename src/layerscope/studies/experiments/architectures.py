"""Entropy, curvature and invariance against depth, Transformer and state-space model (figure 1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from layerscope.errors import UserError
from layerscope.figures import FacetLook
from layerscope.figures.curves import title
from layerscope.results.run import Run
from layerscope.studies.curves import PromptCurves, has_massive_tokens, layer_curve, paired, prompt_curves, same_lengths
from layerscope.studies.estimates import against_both, difference, mean_estimate
from layerscope.studies.findings import Claim, Test
from layerscope.studies.grid import MAMBA, PYTHIA, curves_run, is_ssm, named, short
from layerscope.studies.jobs import Job, Measure, Results
from layerscope.studies.spec import StudySpec
from layerscope.studies.study import Drawing, Outcome, Study
from layerscope.training.recipes import PAIR

OF_VIEWS = ("infonce", "lidar", "dime")
LABELS = {
    "prompt_entropy": "Prompt entropy\n(share of log min(T, D))",
    "prompt_entropy no-sink": "Prompt entropy, no-sink\n(share of log min(T, D))",
    "curvature": "Curvature (radians)",
    "infonce": "InfoNCE loss (nats)",
    "lidar": "LiDAR (nats)",
    "dime": "DiME (nats)",
}
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
    return [Measure(model, curves_run(spec, model)) for model in spec.models]


def analyse(spec: StudySpec, results: Results) -> Outcome:
    """Valleys of every model, and the pair's differences where the two may be compared."""
    runs = results.every(Run)
    tests = [test for model, run in runs.items() for test in _valleys(model, run, spec.seed)]
    transformers = [model for model in runs if not is_ssm(model)]
    machines = [model for model in runs if is_ssm(model)]
    how = "No Transformer and state-space model are both there, so the two kinds are not compared."
    if transformers and machines:
        pair, how = _compare(transformers[0], machines[0], runs, spec.seed)
        tests += pair
    notes = [
        "Thirds of a model: layers up to 1/3, 2/3 and all of its depth, fixed beforehand; embeddings count as early.",
        how,
        "Entropies of models with other tokenizers or dimensions stand side by side as shares of log min(T, D), and are not "
        "compared in nats. InfoNCE, LiDAR and DiME depend on the number of prompts, which is the same for all models here; "
        "their intervals take the largest error that the layers' intervals allow.",
    ]
    lines = []
    for chart in LABELS:
        metric, _, positions = chart.partition(" ")
        conditions = {"positions": positions or "all"}
        if metric == "prompt_entropy":
            conditions["normalization"] = "max"
        words = title(metric) + (f", {positions}" if positions else "")
        lines += [
            layer_curve(run, metric, **conditions).line((chart, words, short(model))) for model, run in runs.items()
        ]
    counts = sorted({run.record.resolved.n_prompts for run in runs.values()})
    about = f"{' or '.join(map(str, counts))} prompts; readout hf; band: 95 % interval"
    look = FacetLook(title="Representations over depth", about=about, y_labels=LABELS, wrap=3)
    return Outcome(tests, [Drawing.of_lines("architectures", lines, look)], notes=notes)


def _valleys(model: str, run: Run, seed: int) -> list[Test]:
    tests = []
    for claim, positions in ((VALLEY, "all"), (NO_SINK, "no-sink")):
        if positions == "all" or has_massive_tokens(run):
            # A valley is lower than both sides: a curve that only falls is lower than their mean.
            valley = prompt_curves(run, "prompt_entropy", positions=positions).valley
            tests.append(Test(claim, named(model), against_both(valley, -1, unit="nats", seed=seed)))
    return tests


def _compare(one: str, other: str, runs: Mapping[str, Run], seed: int) -> tuple[list[Test], str]:
    """The pair's tests, over the same prompts; and how they were compared."""
    about = f"{short(one)} against {short(other)}"
    pair = (runs[one], runs[other])

    def curves(metric: str, **conditions: str) -> tuple[PromptCurves, PromptCurves]:
        first, second = (prompt_curves(run, metric, **conditions) for run in pair)
        return paired(first, second)

    entropies = curves("prompt_entropy")
    in_nats = same_lengths(*entropies) and len({run.record.resolved.dim for run in pair}) == 1
    if not in_nats:
        entropies = curves("prompt_entropy", normalization="max")
    a, b = entropies
    tests = [Test(DEEPER, about, mean_estimate(a.valley() - b.valley(), unit=a.unit, seed=seed))]
    for metric, (a, b) in {"prompt_entropy": entropies, "curvature": curves("curvature")}.items():
        spread = mean_estimate(a.spread - b.spread, unit=a.unit, seed=seed)
        tests.append(Test(MORE_CHANGE, f"{title(metric)}, {about}", spread))
    sizes = {run.record.resolved.n_prompts for run in pair}
    if len(sizes) > 1:
        raise UserError(
            f"the models were measured on {' and '.join(map(str, sorted(sizes)))} prompts: use one number (--n)"
        )
    for metric in OF_VIEWS:
        first, second = (layer_curve(run, metric).spread for run in pair)
        tests.append(Test(MORE_CHANGE, f"{title(metric)}, {about}", difference(first, second)))
    how = (
        "in nats, since both models have one tokenizer and one dimension"
        if in_nats
        else "as shares of log min(T, D), since tokenizers or dimensions differ"
    )
    return tests, f"{short(one)} and {short(other)} are compared on the same prompts, their entropies {how}."


STUDY = Study(
    name="architectures",
    what="entropy, curvature and augmentation invariance against depth, Transformer and state-space model",
    paper="arXiv 2412.09563, figure 1",
    presets={
        "small": StudySpec(models=(*PAIR, "smollm2-135m", "minilm-l6"), n=32),
        "paper": StudySpec(preset="paper", models=(PYTHIA, MAMBA), texts="wikitext", n=1000, dtype="float32"),
    },
    options=frozenset({"models", "texts", "column", "n", "context"}),
    jobs=jobs,
    analyse=analyse,
)
