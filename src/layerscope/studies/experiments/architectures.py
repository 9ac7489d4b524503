"""Entropy, curvature and invariance against depth, Transformer and state-space model (figure 1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from layerscope.errors import UserError
from layerscope.figures import FacetLook
from layerscope.figures.curves import title
from layerscope.results.run import Run
from layerscope.studies.curves import PromptCurves, counted_prompts, layer_curve, paired, prompt_curves, tokens_to_test
from layerscope.studies.estimates import against_both, difference, mean_estimate
from layerscope.studies.grid import curves_run, is_ssm, model_title, short
from layerscope.studies.study import CLAIMS, Drawing, Job, Measure, Outcome, Results, Study, StudySpec, Test

OF_VIEWS = ("infonce", "lidar", "dime")
LABELS = {
    "prompt_entropy": "Prompt entropy\n(share of log min(T, D))",
    "prompt_entropy no-sink": "Prompt entropy, no-sink\n(share of log min(T, D))",
    "curvature": "Curvature (radians)",
    "infonce": "InfoNCE loss (nats)",
    "lidar": "LiDAR (nats)",
    "dime": "DiME (nats)",
}
VALLEYS = {"all": CLAIMS["entropy-valley"], "no-sink": CLAIMS["entropy-valley-no-sink"]}
MORE_CHANGE = CLAIMS["transformer-changes-more"]


def jobs(spec: StudySpec) -> Sequence[Job]:
    """One run a model, every metric at every layer."""
    return [Measure(model, curves_run(spec, model)) for model in spec.models]


def analyse(spec: StudySpec, results: Results) -> Outcome:
    """Valleys of every model, and the pair's differences where the two may be compared."""
    runs = results.every(Run)
    tests = []
    for model, run in runs.items():
        for positions in tokens_to_test("", run):
            # A valley is lower than both sides: a curve that only falls is lower than their mean.
            valley = prompt_curves(run, "prompt_entropy", positions=positions).valley
            lower = against_both(valley, -1, unit="nats", seed=spec.seed)
            tests.append(Test(VALLEYS[positions], model_title(spec, model), lower))
    transformers = [model for model in runs if not is_ssm(model)]
    machines = [model for model in runs if is_ssm(model)]
    how = "No Transformer and state-space model are both there, so the two kinds are not compared."
    if transformers and machines:
        pair, how = _compare(spec, {model: runs[model] for model in (transformers[0], machines[0])})
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
        for model, run in runs.items():
            lines.append(layer_curve(run, metric, **conditions).line((chart, words, short(spec, model))))
    about = f"{counted_prompts(runs.values())}; readout hf; band: 95 % interval"
    look = FacetLook(title="Representations over depth", about=about, y_labels=LABELS, wrap=3)
    return Outcome(tests, [Drawing.of_lines("architectures", lines, look)], notes=notes)


def _compare(spec: StudySpec, pair: Mapping[str, Run]) -> tuple[list[Test], str]:
    """The tests of a Transformer and a state-space model over the same prompts; and how they were compared."""
    one, other = (short(spec, model) for model in pair)
    about = f"{one} against {other}"

    def curves(metric: str, **conditions: str) -> tuple[PromptCurves, PromptCurves]:
        first, second = (prompt_curves(run, metric, **conditions) for run in pair.values())
        return paired(first, second)

    a, b = curves("prompt_entropy")
    how = "in nats, since both models have one tokenizer and one dimension"
    if (a.n_tokens != b.n_tokens).any() or len({run.record.resolved.dim for run in pair.values()}) > 1:
        a, b = curves("prompt_entropy", normalization="max")
        how = "as shares of log min(T, D), since tokenizers or dimensions differ"
    tests = [
        Test(
            CLAIMS["valley-deeper-in-transformer"],
            about,
            mean_estimate(a.valley() - b.valley(), unit=a.unit, seed=spec.seed),
        )
    ]
    for metric, (first, second) in {"prompt_entropy": (a, b), "curvature": curves("curvature")}.items():
        spread = mean_estimate(first.spread - second.spread, unit=first.unit, seed=spec.seed)
        tests.append(Test(MORE_CHANGE, f"{title(metric)}, {about}", spread))
    sizes = sorted({run.record.resolved.n_prompts for run in pair.values()})
    if len(sizes) > 1:
        raise UserError(f"the models were measured on {' and '.join(map(str, sizes))} prompts: use one number (--n)")
    for metric in OF_VIEWS:
        spread = difference(*(layer_curve(run, metric).spread for run in pair.values()))
        tests.append(Test(MORE_CHANGE, f"{title(metric)}, {about}", spread))
    return tests, f"{one} and {other} are compared on the same prompts, their entropies {how}."


STUDY = Study.written("architectures", jobs, analyse)
