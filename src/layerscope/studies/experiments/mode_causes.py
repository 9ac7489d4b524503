"""Why do prompts fall into two groups by their entropy? Every candidate cause, and every way to take it away."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from layerscope.errors import UserError
from layerscope.results.run import Run
from layerscope.statistics.intervals import SIGNIFICANCE
from layerscope.statistics.modes import MIN_PROMPTS, assign_modes, find_modes
from layerscope.studies.estimates import no_estimate
from layerscope.studies.experiments.causes.candidates import CANDIDATES, candidate_table, why_constant
from layerscope.studies.experiments.causes.descriptions import Describe, Descriptions
from layerscope.studies.experiments.causes.figure import draw_forest, forest_data
from layerscope.studies.experiments.causes.pages import example_notes, explained_words, split_words
from layerscope.studies.experiments.causes.tests import EQUAL_TOKENS, ORDER, Case, look
from layerscope.studies.experiments.modes import entropy_rows, file_name, largest_dip, modes_run, values_at
from layerscope.studies.findings import Test, number, p_words
from layerscope.studies.grid import PAIR, require_trained, short, text_spec
from layerscope.studies.jobs import Job, Measure, Results
from layerscope.studies.spec import StudySpec
from layerscope.studies.study import Drawing, Outcome, Study


def jobs(spec: StudySpec) -> Sequence[Job]:
    """For each model: the run of `modes`, what is known of its prompts, and prompts of one length."""
    require_trained(spec.models)
    if spec.n is not None and spec.n < MIN_PROMPTS:
        raise UserError(f"too few prompts for a dip test: expected --n of at least {MIN_PROMPTS}, got {spec.n}")
    grid: list[Job] = []
    for model in spec.models:
        run = modes_run(spec, model)
        equal = text_spec(spec, at_least=EQUAL_TOKENS).model_copy(update={"context": EQUAL_TOKENS})
        short_run = run.model_copy(
            update={"texts": equal, "variants": ("paper",), "positions": ("all",), "normalizations": ("none",)}
        )
        grid += [
            Measure(model, run),
            Describe(f"prompts of {model}", run.model, run.texts),
            Measure(f"{model} at {EQUAL_TOKENS} tokens", short_run),
        ]
    return grid


def analyse(spec: StudySpec, results: Results) -> Outcome:
    """Every candidate cause of every model's modes."""
    tests: list[Test] = []
    tables: dict[str, pl.DataFrame] = {}
    figures: list[Drawing] = []
    notes: list[str] = []
    for model in spec.models:
        if not (results.has(model) and results.has(f"prompts of {model}")):
            continue
        run, described = results.run(model), results.of(f"prompts of {model}", Descriptions)
        case, sentence = make_case(model, run, described, spec)
        notes.append(sentence)
        notes += [f"{short(model)}: {note}" for note in described.notes]
        if case is None:
            tests += [Test(claim, short(model), no_estimate(sentence)) for claim in ORDER]
            continue
        equal = (
            results.run(f"{model} at {EQUAL_TOKENS} tokens")
            if results.has(f"{model} at {EQUAL_TOKENS} tokens")
            else None
        )
        found = look(case, run, equal, spec.seed)
        tests += found.tests
        tables |= {f"{name}-{file_name(model)}": table for name, table in found.tables.items()}
        data = forest_data(case, found)
        figures.append(Drawing(f"mode-causes-{file_name(model)}", draw_forest(case, data), data))
        notes.append(explained_words(case, found.tables["without"]))
        notes += split_words(case, found.tables["splits"]) if case.label is not None else []
        notes += example_notes(case.about, described.table, case.ids, case.values, case.label)
    notes += CAUTIONS
    tests.sort(key=lambda test: ORDER.index(test.claim))
    return Outcome(tests, figures, tables, notes)


CAUTIONS = (
    "Everything that goes with the entropy differs between prompts of high and of low entropy, in one mode as in two. A "
    "cause of the two modes has to do more: where a bendable prediction (cubic spline) from it is taken out of the "
    "entropy, the modes go. Only that, and measuring otherwise, speaks about the modes.",
    "The joint model holds fixed what was measured; what was not measured can still stand behind all of it. The modes were "
    "split on the same prompts, and the p-values take the split as given.",
    "What is left of the entropy after a candidate that predicts nearly all of it is noise: one mode there is weak evidence.",
)


def make_case(model: str, run: Run, described: Descriptions, spec: StudySpec) -> tuple[Case | None, str]:
    """The layer to look at and its two modes; None, with the reason, where no layer could be tested."""
    rows = entropy_rows(run)
    modes = find_modes(rows, resamples=100, seed=spec.seed)
    chosen = largest_dip(modes if spec.layer is None else modes.filter(pl.col("layer") == spec.layer))
    if chosen is None:
        if spec.layer is not None and modes.filter(pl.col("layer") == spec.layer).is_empty():
            return None, f"{short(model)} has no layer {spec.layer}: it has layers 0 to {run.record.resolved.n_layers}."
        return None, f"{short(model)}: {modes['note'][0]}."
    layer = int(str(chosen["layer"]))
    # A layer that was named beforehand was not looked for.
    p = float(str(chosen["p_adjusted" if spec.layer is None else "p"]))
    split = float(str(chosen["split"]))
    ids = tuple(rows["prompt_id"].unique(maintain_order=True).to_list())
    values = values_at(rows, layer, ids)
    why = ""
    if p >= SIGNIFICANCE:
        why = f"one mode is not rejected at layer {layer} (dip {number(float(str(chosen['dip'])))}, {p_words(p)})"
        where = "the layer asked for" if spec.layer is not None else "the layer with the largest dip"
        sentence = (
            f"{short(model)}: {why}, {where}. There are no two modes to explain; what goes with the entropy is shown."
        )
    elif not np.isfinite(split):
        why = f"two modes at layer {layer} ({p_words(p)}), but the fitted density has no lowest point between them"
        sentence = f"{short(model)}: {why}. The prompts cannot be split."
    else:
        label = assign_modes(values, split)
        sentence = (
            f"{short(model)}: two modes at layer {layer} (dip {number(float(str(chosen['dip'])))}, {p_words(p)}), split at "
            f"{number(split)} nats: {int((label == 0).sum())} prompts below, {int((label == 1).sum())} above."
        )
    table = candidate_table(described, run, layer, ids)
    reasons = {one.name: why_constant(described, one.name, table) for one in CANDIDATES}
    label_or_none = None if why else assign_modes(values, split)
    return Case(model, layer, ids, values, label_or_none, why, table, {k: v for k, v in reasons.items() if v}), sentence


STUDY = Study(
    name="mode-causes",
    what="why prompts fall into two groups by their entropy: every candidate cause, and every way to take it away",
    paper="arXiv 2412.09563, appendix A",
    presets={
        "small": StudySpec(preset="small", models=(*PAIR, "smollm2-135m"), n=400, context=512),
        "paper": StudySpec(
            preset="paper",
            models=("EleutherAI/pythia-410m", "state-spaces/mamba-370m-hf", "meta-llama/Meta-Llama-3-8B"),
            texts="ai-medical",
            n=1000,
            context=512,
            dtype="float32",
        ),
    },
    options=frozenset({"models", "texts", "column", "n", "context", "layer"}),
    jobs=jobs,
    analyse=analyse,
)
