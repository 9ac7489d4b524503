"""Curves of a run's layers table: for figures, and as estimates where a metric has no value per prompt."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Float

from layerscope.errors import UserError
from layerscope.figures import FACETS
from layerscope.results.run import Run
from layerscope.studies.estimates import Estimate, bounded_contrast
from layerscope.studies.prompt_curves import FIXED


@dataclass(frozen=True)
class LayerCurve:
    """One metric of a run over the layers, with its intervals."""

    depth: Float[np.ndarray, " layers"]
    layers: tuple[int, ...]
    value: Float[np.ndarray, " layers"]
    low: Float[np.ndarray, " layers"]
    high: Float[np.ndarray, " layers"]
    unit: str
    n: int

    def contrast(self, weights: Float[np.ndarray, " layers"]) -> Estimate:
        """Σ w·value with the widest interval that the layers' intervals allow."""
        return bounded_contrast(self.value, self.low, self.high, weights, n=self.n, unit=self.unit)

    @property
    def spread(self) -> Estimate:
        """Standard deviation over layers 1 to L, with the widest interval that the layers' intervals allow."""
        inside = np.array([layer > 0 for layer in self.layers])
        centred = self.value - self.value[inside].mean()
        size = float(np.sqrt((centred[inside] ** 2).mean()))
        # The standard deviation's gradient, so that its first-order error is that of a contrast.
        weights = np.where(inside, centred / (inside.sum() * size), 0.0) if size > 0 else np.zeros(len(self.value))
        return self.contrast(weights)


def layer_curve(run: Run, metric: str, **conditions: object) -> LayerCurve:
    """The curve of a metric; conditions as for `prompt_curves`.

    Raises:
        UserError: the run does not have it, or several fit.
    """
    rows = run.layers.filter(pl.col("metric") == metric)
    for name, value in {**FIXED, **conditions}.items():
        rows = rows.filter((pl.col(name) == value) | (pl.col(name).is_null() if name not in conditions else False))
    if rows.is_empty() or rows["layer"].is_duplicated().any():
        found = "no" if rows.is_empty() else "several kinds of"
        raise UserError(f"{run.path} has {found} {metric} with {conditions or 'the usual conditions'}")
    rows = rows.sort("layer")
    numbers = {name: rows[name].fill_null(float("nan")).to_numpy() for name in ("depth", "value", "ci_low", "ci_high")}
    return LayerCurve(
        depth=numbers["depth"],
        layers=tuple(rows["layer"].to_list()),
        value=numbers["value"],
        low=numbers["ci_low"],
        high=numbers["ci_high"],
        unit=str(rows["unit"][0] or ""),
        n=int(rows["n_prompts"][0] or 0),
    )


def facet(
    curve: LayerCurve, place: tuple[str, str, str], *, x: str = "depth", step: float | None = None
) -> pl.DataFrame:
    """A curve as rows of a grid of charts; `place` is its row, column and line."""
    return pl.DataFrame(
        {
            "row": [place[0]] * len(curve.value),
            "column": [place[1]] * len(curve.value),
            "line": [place[2]] * len(curve.value),
            "step": [step] * len(curve.value),
            "x": curve.depth if x == "depth" else np.array(curve.layers, dtype=np.float64),
            "value": curve.value,
            "low": curve.low,
            "high": curve.high,
        },
        schema=FACETS,
    )
