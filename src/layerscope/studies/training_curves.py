"""The checkpoints of a training run: which have a result of their own, how curves move over them and where they move most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from layerscope.errors import UserError
from layerscope.results.measurement import same_weights
from layerscope.results.run import Run
from layerscope.studies.curves import PromptCurves, band, layer_curve, paired, prompt_curves
from layerscope.studies.estimates import Estimate, against_both, difference, no_estimate
from layerscope.studies.jobs import Results


def training_runs(models: Sequence[str], results: Results) -> tuple[dict[str, dict[int, Run]], list[str]]:
    """The runs of each model's checkpoints by step, where there are two or more, and a sentence on each copy left out.

    Args:
        models: names of training runs; the key of a checkpoint's result is `MODEL STEP`.
        results: of the study.

    Raises:
        UserError: no model has two.
    """
    series, copies = {}, []
    for model in models:
        steps = {key.removeprefix(f"{model} "): run for key, run in results.every(Run).items()}
        kept, said = distinct(dict(sorted((int(step), run) for step, run in steps.items() if step.isdigit())))
        copies += said
        if len(kept) >= 2:
            series[model] = kept
    if not series:
        raise UserError(" ".join(["no model has two checkpoints that can be read: give more --steps.", *copies]))
    return series, copies


def distinct(runs: Mapping[int, Run]) -> tuple[dict[int, Run], list[str]]:
    """The runs without those of a checkpoint that is another one under a second name, and a sentence about each.

    Of neighbours the first is kept: nothing may have changed between them. Where other weights lie between two equal
    ones, a label is wrong, nobody knows whose, and neither is kept.
    """
    kept, notes, order = dict(runs), [], list(runs)
    by_name = {run.record.spec.model.name: step for step, run in runs.items()}
    for names in same_weights((run.record.spec.model.name, run.record) for run in runs.values()):
        places = [order.index(by_name[name]) for name in names]
        together = places == list(range(places[0], places[-1] + 1))
        left = names[1:] if together else names
        for name in left:
            del kept[by_name[name]]
        which = f"{', '.join(left)} {'is' if len(left) == 1 else 'are'} left out"
        why = "" if together else ", because other weights lie between them and a label must be wrong"
        notes.append(f"{', '.join(names[:-1])} and {names[-1]} have the same weights: {which}{why}.")
    return kept, notes


def training_series(runs: Mapping[int, Run], metric: str, **conditions: object) -> list[PromptCurves]:
    """The curves of the same prompts at every checkpoint, by step."""
    curves = [prompt_curves(runs[step], metric, **conditions) for step in sorted(runs)]
    return [paired(curves[0], other)[1] for other in curves]


def movement(series: Sequence[PromptCurves]) -> Float[np.ndarray, "prompts layers"]:
    """How far each prompt's value moves at each layer, Σ over neighbouring checkpoints of |change|."""
    return np.asarray(np.abs(np.diff(np.stack([one.values for one in series]), axis=0)).sum(axis=0))


def middle_lead(series: Sequence[PromptCurves], other: str) -> Float[np.ndarray, " prompts"]:
    """Each prompt's movement in the middle third minus that in another third; embeddings are left out."""
    depth = series[0].depth
    moved = movement(series)
    middle, rest = (moved[:, band(depth, name) & (depth > 0)].mean(axis=1) for name in ("middle", other))
    return np.asarray(middle - rest)


def middle_moves_most(series: Sequence[PromptCurves], seed: int) -> Estimate:
    """`middle_lead` over the more moved of the middle's neighbours."""
    return against_both(lambda other: middle_lead(series, other), 1, unit=series[0].unit, seed=seed)


def pooled_change(runs: Mapping[int, Run], metric: str, name: str) -> Estimate:
    """Change of a pooled metric in one third of the model, from the first checkpoint to the last."""
    first, last = (layer_curve(runs[step], metric) for step in (min(runs), max(runs)))
    inside = band(first.depth, name)
    if not inside.any():
        return no_estimate(f"no layer in the {name} third", unit=first.unit)
    return difference(*(curve.contrast(inside / inside.sum()) for curve in (last, first)))
