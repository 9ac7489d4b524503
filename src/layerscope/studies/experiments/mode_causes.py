"""Why do prompts fall into two groups by their entropy? Every candidate cause, and every way to take it away."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from layerscope.results.run import Run
from layerscope.statistics.intervals import SIGNIFICANCE
from layerscope.statistics.modes import assign_modes, find_modes
from layerscope.studies.estimates import no_estimate
from layerscope.studies.experiments.causes.candidates import candidate_table, reasons_without
from layerscope.studies.experiments.causes.descriptions import Describe, Descriptions
from layerscope.studies.experiments.causes.questions import EQUAL_TOKENS, ORDER, Case, ask
from layerscope.studies.experiments.causes.shown import draw_forest, example_notes, explained_words, split_words
from layerscope.studies.experiments.modes import entropy_rows, largest_dip, modes_run, values_at
from layerscope.studies.findings import number, p_words
from layerscope.studies.grid import file_name, short
from layerscope.studies.study import Drawing, Job, Measure, Outcome, Results, Study, StudySpec, Test

CAUTIONS = (
    "Everything that goes with the entropy differs between prompts of high and of low entropy, in one mode as in two. A "
    "cause of the two modes has to do more: where a bendable prediction (cubic spline) from it is taken out of the "
    "entropy, the modes go. Only that, and measuring otherwise, speaks about the modes.",
    "The joint model holds fixed what was measured; what was not measured can still stand behind all of it. The modes were "
    "split on the same prompts, and the p-values take the split as given.",
    "What is left of the entropy after a candidate that predicts nearly all of it is noise: one mode there is weak evidence.",
)


def jobs(spec: StudySpec) -> Sequence[Job]:
    """For each model: the run of `modes`, what is known of its prompts, and prompts of one length."""
    grid: list[Job] = []
    for model in spec.models:
        run = modes_run(spec, model)
        texts = run.texts.model_copy(update={"min_tokens": EQUAL_TOKENS, "context": EQUAL_TOKENS})
        equal = {"texts": texts, "variants": ("paper",), "positions": ("all",), "normalizations": ("none",)}
        grid += [
            Measure(model, run),
            Describe(f"prompts of {model}", run.model, run.texts),
            Measure(f"{model} at {EQUAL_TOKENS} tokens", run.model_copy(update=equal)),
        ]
    return grid


def analyse(spec: StudySpec, results: Results) -> Outcome:
    """Every candidate cause of every model's modes."""
    tests: list[Test] = []
    tables: dict[str, pl.DataFrame] = {}
    figures: list[Drawing] = []
    notes: list[str] = []
    runs, descriptions = results.every(Run), results.every(Descriptions)
    for model in spec.models:
        run, described, label = runs.get(model), descriptions.get(f"prompts of {model}"), short(spec, model)
        if run is None or described is None:
            continue
        case, sentence = make_case(label, run, described, spec)
        notes += [sentence, *(f"{label}: {note}" for note in described.notes)]
        if case is None:
            tests += [Test(claim, label, no_estimate(sentence)) for claim in ORDER]
            continue
        asked, found = ask(case, run, runs.get(f"{model} at {EQUAL_TOKENS} tokens"), spec.seed)
        tests += asked
        tables |= {f"{name}-{file_name(spec, model)}": table for name, table in found.items()}
        figures.append(Drawing(f"mode-causes-{file_name(spec, model)}", *draw_forest(case, found)))
        notes.append(explained_words(case, found["without"]))
        notes += split_words(case, found["splits"]) if case.label is not None else []
        notes += example_notes(case, described.table)
    tests.sort(key=lambda test: ORDER.index(test.claim))
    return Outcome(tests, figures, tables, [*notes, *CAUTIONS])


def make_case(model: str, run: Run, described: Descriptions, spec: StudySpec) -> tuple[Case | None, str]:
    """The layer of a model to look at and its two modes; None, with the reason, where no layer could be tested."""
    rows = entropy_rows(run)
    modes = find_modes(rows, resamples=100, seed=spec.seed)
    mine = modes if spec.layer is None else modes.filter(layer=spec.layer)
    if mine.is_empty():
        return None, f"{model} has no layer {spec.layer}: it has layers 0 to {run.record.resolved.n_layers}."
    chosen = largest_dip(mine)
    if chosen is None:
        return None, f"{model}: {modes['note'][0]}."
    layer, split = chosen["layer"], chosen["split"]
    # A layer that was named beforehand was not looked for.
    p = chosen["p_adjusted" if spec.layer is None else "p"]
    ids = tuple(rows["prompt_id"].unique(maintain_order=True).to_list())
    values = values_at(rows, layer, ids)
    label, why = None, ""
    if p >= SIGNIFICANCE:
        why = f"one mode is not rejected at layer {layer} (dip {number(chosen['dip'])}, {p_words(p)})"
        where = "the layer asked for" if spec.layer is not None else "the layer with the largest dip"
        sentence = f"{why}, {where}. There are no two modes to explain; what goes with the entropy is shown."
    elif not np.isfinite(split):
        why = f"two modes at layer {layer} ({p_words(p)}), but the fitted density has no lowest point between them"
        sentence = f"{why}. The prompts cannot be split."
    else:
        label = assign_modes(values, split)
        sentence = (
            f"two modes at layer {layer} (dip {number(chosen['dip'])}, {p_words(p)}), split at {number(split)} nats: "
            f"{int((label == 0).sum())} prompts below, {int((label == 1).sum())} above."
        )
    table = candidate_table(described, run, layer, ids)
    case = Case(f"{model}, layer {layer}", layer, ids, values, label, why, table, reasons_without(described, table))
    return case, f"{model}: {sentence}"


STUDY = Study.written("mode-causes", jobs, analyse)
