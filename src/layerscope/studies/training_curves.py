"""How curves move from checkpoint to checkpoint, and in which part of a model they move most."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from layerscope.results.run import Run
from layerscope.studies.estimates import Estimate, difference, no_estimate
from layerscope.studies.layer_curves import LayerCurve, layer_curve
from layerscope.studies.prompt_curves import PromptCurves, band, paired, prompt_curves


def training_series(runs: Mapping[int, Run], metric: str, **conditions: object) -> list[PromptCurves]:
    """The curves of the same prompts at every checkpoint, by step."""
    curves = [prompt_curves(runs[step], metric, **conditions) for step in sorted(runs)]
    return [paired(curves[0], other)[1] for other in curves]


def movement(series: list[PromptCurves]) -> Float[np.ndarray, "prompts layers"]:
    """How far each prompt's value moves at each layer, Σ over neighbouring checkpoints of |change|."""
    return np.asarray(np.abs(np.diff(np.stack([one.values for one in series]), axis=0)).sum(axis=0))


def middle_lead(series: list[PromptCurves], other: str) -> Float[np.ndarray, " prompts"]:
    """Each prompt's movement in the middle third minus that in another third; embeddings are left out."""
    depth = series[0].depth
    moved = movement(series)
    middle, rest = (moved[:, band(depth, name) & (depth > 0)].mean(axis=1) for name in ("middle", other))
    return np.asarray(middle - rest)


def pooled_change(runs: Mapping[int, Run], metric: str, name: str) -> Estimate:
    """Change of a pooled metric in one third of the model, from the first checkpoint to the last."""
    first, last = (layer_curve(runs[step], metric) for step in (min(runs), max(runs)))
    return difference(_band(last, name), _band(first, name))


def _band(curve: LayerCurve, name: str) -> Estimate:
    inside = band(curve.depth, name)
    if not inside.any():
        return no_estimate(f"no layer in the {name} third", unit=curve.unit)
    return curve.contrast(inside / inside.sum())
