"""Repeated, randomised and random prompts: what extreme input does to entropy over the layers (figure 3)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import polars as pl
from jaxtyping import Float

from layerscope.config import RunSpec
from layerscope.errors import LayerscopeError, UserError
from layerscope.figures import FacetLook
from layerscope.inputs.models import load_model
from layerscope.inputs.prompts import select_prompts
from layerscope.inputs.texts import load_texts
from layerscope.results.run import Run
from layerscope.studies.curves import MASSIVE, PromptCurves, layer_curve, paired, prompt_curves
from layerscope.studies.estimates import mean_estimate
from layerscope.studies.grid import entropy_run, file_name, short, text_spec
from layerscope.studies.study import CLAIMS, Drawing, Job, Measure, Outcome, Results, Study, StudySpec, Test
from layerscope.wording import in_markdown, on_screen

Series = Sequence[tuple[float, Run]]
"""The runs of one perturbation by its amount: the share p (0 is the prompts as they are) or the length T."""
EXAMPLES, EXAMPLE_TOKENS = 2, 40
KINDS = {
    "repetition": ("Prompts with repeated tokens", "share of tokens repeated, p"),
    "randomness": ("Prompts with random tokens", "share of tokens random, p"),
    "length": ("Random prompts of T tokens", "length T (tokens)"),
}


def jobs(spec: StudySpec) -> Sequence[Job]:
    """For each model: its prompts as they are, at each share p, and random prompts of each length."""
    if not spec.shares or not spec.tokens:
        raise UserError("extremes needs shares and lengths: give --shares 0.5,1 and --tokens 64,128")
    return [
        Measure(f"{model} {name}", entropy_run(spec, model, text_spec(spec, None if name == "plain" else name)))
        for model in spec.models
        for name in dict.fromkeys(name for kind in KINDS for name in _amounts(spec, kind).values())
    ]


def analyse(spec: StudySpec, results: Results) -> Outcome:
    """Slopes of every prompt's entropy over p, and of random prompts over log2 T."""
    tests: list[Test] = []
    lines: dict[str, list[pl.DataFrame]] = {kind: [] for kind in KINDS}
    files: dict[str, str] = {}
    notes = [
        "The same prompts stand behind every p, and a longer random prompt begins with the shorter one of its seed: slopes "
        "are of single prompts, by least squares over the values of p (0 included; 1 left out for repetition, where one token "
        "is left and with it no entropy in any model) or of log2 T.",
        "`no-sink` leaves out tokens whose norm is over 10 times the prompt's median: what changes there is not the massive "
        "activation of one token.",
    ]
    runs = results.every(Run)
    for model in spec.models:
        label, series = short(spec, model), {}
        for kind in KINDS:
            keys = {amount: f"{model} {name}" for amount, name in _amounts(spec, kind).items()}
            series[kind] = [(amount, runs[key]) for amount, key in keys.items() if key in runs]
            for row, positions in product(("raw", "normalised"), MASSIVE):
                words = (f"{label}: " if len(spec.models) > 1 else "") + MASSIVE[positions]
                how = {"positions": positions, "normalization": "none" if row == "raw" else "logN"}
                lines[kind] += [
                    layer_curve(run, "prompt_entropy", **how).line((row, words, f"{amount:g}"), amount)
                    for amount, run in series[kind]
                ]
        for positions in MASSIVE:
            about = label if positions == "all" else f"{label}, {positions}"
            tests += [
                Test(CLAIMS[claim], about, mean_estimate(values, unit=unit, seed=spec.seed))
                for claim, values, unit in _claimed(series, positions)
            ]
        there = {run.path: run.record.spec for mine in series.values() for _, run in mine}
        try:
            files[f"examples-{file_name(spec, model)}.md"] = _examples(model, list(there.values()))
        except LayerscopeError as error:
            notes.append(f"No examples of {label}: {error}")
    figures = []
    for kind, (title, scale) in KINDS.items():
        if lines[kind]:
            look = FacetLook(
                title=title,
                about=f"{spec.n} prompts; readout hf; band: 95 % interval over prompts",
                y_labels={"raw": "Prompt entropy (nats)", "normalised": "Prompt entropy (share of log T)"},
                color="step",
                scale_label=scale,
                same_y=True,
            )
            figures.append(Drawing.of_lines(kind, lines[kind], look))
    return Outcome(tests, figures, notes=notes, files=files)


def _amounts(spec: StudySpec, kind: str) -> dict[float, str]:
    """What is done to the prompts by its amount; amount 0 leaves them as they are."""
    if kind == "length":
        return {float(length): f"random:{length}" for length in sorted(set(spec.tokens))}
    shares = [share for share in sorted(set(spec.shares)) if share > 0]
    return {0.0: "plain"} | {share: f"{kind}:{share:g}" for share in shares}


def _claimed(series: Mapping[str, Series], positions: str) -> Iterator[tuple[str, Float[np.ndarray, " prompts"], str]]:
    """The claims that the runs speak about: their ids, what each prompt has of their quantity, and its unit."""
    # At p = 1 a prompt is one token over and over: no entropy is left, whatever the model does.
    if repeated := _slopes([(share, run) for share, run in series["repetition"] if share < 1], positions):
        yield "repetition", repeated.band("middle"), "nats"
    if randomised := _slopes(series["randomness"], positions):
        yield "randomness", randomised.band("early"), "nats"
        yield "randomness-late", randomised.band("early") - randomised.band("late"), "nats"
    doublings = [(float(np.log2(length)), run) for length, run in series["length"]]
    longer, normalised = _slopes(doublings, positions), _slopes(doublings, positions, "logN")
    if longer and normalised:
        raw = longer.values.mean(axis=1)
        yield "length", raw, "nats"
        yield "length-sublinear", raw - np.log(2), "nats"
        yield "length-normalised", normalised.values.mean(axis=1), "share"


def _slopes(runs: Series, positions: str, normalization: str = "none") -> PromptCurves | None:
    """Each prompt's slope at every layer, in place of its values; None where fewer than two amounts have a run."""
    if len(runs) < 2:
        return None
    curves = [prompt_curves(run, "prompt_entropy", positions=positions, normalization=normalization) for _, run in runs]
    together = [paired(curves[0], other)[1] for other in curves]
    x = np.array([amount for amount, _ in runs])
    weights = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    values = np.einsum("a,apl->pl", weights, np.stack([one.values for one in together]))
    return replace(together[0], values=values)


def _examples(model: str, specs: Sequence[RunSpec]) -> str:
    """A page with the first prompts of each run, cut for reading, in the words of the model's tokenizer."""
    loaded = load_model(specs[0].model)
    about = f"The first {EXAMPLE_TOKENS} tokens of the first {EXAMPLES} prompts of each kind."
    lines = [f"# Prompts of {in_markdown(model)}", "", about, ""]
    for spec in specs:
        prompts = select_prompts(load_texts(spec.texts), spec.texts, loaded.tokenizer, loaded.context).prompts
        lines += [f"## {spec.texts.perturbation or 'as they are'}", ""]
        for prompt in prompts[:EXAMPLES]:
            words = str(loaded.tokenizer.decode(list(prompt.tokens[:EXAMPLE_TOKENS])))
            more = " ..." if len(prompt.tokens) > EXAMPLE_TOKENS else ""
            # Indented, so that nothing in a text is read as markup.
            shown = f"    {on_screen(' '.join(words.split()))}{more}"
            lines += [f"{in_markdown(prompt.id)}, {len(prompt.tokens)} tokens:", "", shown, ""]
    return "\n".join(lines)


STUDY = Study.written("extremes", jobs, analyse)
