"""Curves over the layers: of single prompts, of a whole run, as lines of a chart; and the thirds that claims speak of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

from layerscope.errors import UserError
from layerscope.figures import FACETS
from layerscope.results.run import Run
from layerscope.studies.estimates import Estimate, bounded_contrast

BANDS = ("early", "middle", "late")
"""Thirds of a model by depth: [0, 1/3], (1/3, 2/3], (2/3, 1]. Fixed beforehand, so that no layer is chosen by its value."""

MASSIVE = {"all": "all tokens", "no-sink": "without massive tokens"}
"""The positions at which entropy is shown, since a token with a massive activation can drown all others; and their words."""

FIXED: Mapping[str, object] = {"variant": "paper", "alpha": 1.0, "positions": "all", "normalization": "none"}


def band(depth: Float[np.ndarray, " layers"], name: str) -> Bool[np.ndarray, " layers"]:
    """Which layers belong to a third of the model. Layer 0, the embeddings, is early."""
    third = np.ceil(np.round(depth * 3, 9)).clip(1, 3)
    return np.asarray(third == 1 + BANDS.index(name))


def valley_weights(
    depth: Float[np.ndarray, " layers"], outer: Sequence[str] = ("early", "late")
) -> Float[np.ndarray, " layers"]:
    """The contrast `middle third minus the mean of the outer thirds`: negative where the middle is low."""
    weights = np.zeros(len(depth))
    for name, share in (("middle", 1.0), *((name, -1 / len(outer)) for name in outer)):
        mine = band(depth, name)
        weights[mine] = share / mine.sum()
    return weights


@dataclass(frozen=True)
class PromptCurves:
    """One metric of every prompt at every layer."""

    ids: tuple[str, ...]
    n_tokens: Float[np.ndarray, " prompts"]
    layers: tuple[int, ...]
    depth: Float[np.ndarray, " layers"]
    values: Float[np.ndarray, "prompts layers"]
    unit: str

    def band(self, name: str) -> Float[np.ndarray, " prompts"]:
        """Each prompt's mean over a third of the model; NaN where a layer has no value."""
        return np.asarray(self.values[:, band(self.depth, name)].mean(axis=1))

    def valley(self, *outer: str) -> Float[np.ndarray, " prompts"]:
        """Each prompt's mean over the middle third minus that over other thirds, both of them where none is named."""
        return np.asarray(self.values @ valley_weights(self.depth, outer or ("early", "late")))

    @property
    def spread(self) -> Float[np.ndarray, " prompts"]:
        """Each prompt's standard deviation over layers 1 to L: how much the value changes on the way through."""
        return np.asarray(self.values[:, self.depth > 0].std(axis=1))

    def of(self, ids: Sequence[str]) -> PromptCurves:
        """Some of the prompts, in the order that is given."""
        place = {prompt: row for row, prompt in enumerate(self.ids)}
        rows = [place[prompt] for prompt in ids]
        return replace(self, ids=tuple(ids), n_tokens=self.n_tokens[rows], values=self.values[rows])


@dataclass(frozen=True)
class LayerCurve:
    """One metric of a run over the layers, with its intervals."""

    depth: Float[np.ndarray, " layers"]
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
        inside = self.depth > 0
        centred = self.value - self.value[inside].mean()
        size = float(np.sqrt((centred[inside] ** 2).mean()))
        # The standard deviation's gradient, so that its first-order error is that of a contrast.
        weights = np.where(inside, centred / (inside.sum() * size), 0.0) if size > 0 else np.zeros(len(self.value))
        return self.contrast(weights)

    def line(self, place: tuple[str, str, str], step: float | None = None) -> pl.DataFrame:
        """The curve as a line of a grid of charts; `place` is its row, column and line."""
        return chart_line(place, self.depth, self.value, (self.low, self.high), step=step)


def prompt_curves(run: Run, metric: str, **conditions: object) -> PromptCurves:
    """The prompts' curves of a metric.

    Args:
        run: a finished run.
        metric: a metric of single prompts.
        **conditions: variant, alpha, readout, positions, normalization where they differ from paper, 1, the run's only
            readout, all, none.

    Raises:
        UserError: the run does not have them, or several fit.
    """
    rows = _chosen(run, run.prompts, ("prompt_id", "layer"), metric, conditions)
    wide = rows.pivot("layer", index="prompt_id", values="value")
    # Without massive tokens a prompt has other lengths at other layers: the longest is its own.
    lengths = rows.group_by("prompt_id", maintain_order=True).agg(pl.col("n_tokens").max())
    layers = tuple(sorted(int(name) for name in wide.columns if name.isdigit()))
    info = run.layers.filter(pl.col("metric") == metric).row(0, named=True)
    return PromptCurves(
        ids=tuple(wide["prompt_id"].to_list()),
        n_tokens=lengths["n_tokens"].cast(pl.Float64).to_numpy(),
        layers=layers,
        depth=np.array(layers) / run.record.resolved.n_layers,
        values=wide.select(str(layer) for layer in layers).cast(pl.Float64).fill_null(float("nan")).to_numpy(),
        unit="share" if conditions.get("normalization", "none") != "none" else str(info["unit"]),
    )


def layer_curve(run: Run, metric: str, **conditions: object) -> LayerCurve:
    """The curve of a metric; conditions as for `prompt_curves`.

    Raises:
        UserError: the run does not have it, or several fit.
    """
    rows = _chosen(run, run.layers, ("layer",), metric, conditions).sort("layer")
    depth, value, low, high = (
        rows[name].fill_null(float("nan")).to_numpy() for name in ("depth", "value", "ci_low", "ci_high")
    )
    unit, n = str(rows["unit"][0] or ""), int(rows["n_prompts"][0] or 0)
    return LayerCurve(depth, value, low, high, unit, n)


def _chosen(
    run: Run, rows: pl.DataFrame, key: tuple[str, ...], metric: str, conditions: Mapping[str, object]
) -> pl.DataFrame:
    rows = rows.filter(pl.col("metric") == metric)
    for name, value in {**FIXED, **conditions}.items():
        # A metric without variants, orders or normalisations has null there.
        fits = pl.col(name) == value
        rows = rows.filter(fits if name in conditions else fits | pl.col(name).is_null())
    if rows.is_empty() or rows.select(key).is_duplicated().any():
        found, advice = ("no", "") if rows.is_empty() else ("several kinds of", ": name more conditions")
        raise UserError(f"{run.path} has {found} {metric} with {dict(conditions) or 'the usual conditions'}{advice}")
    return rows


def chart_line(
    place: tuple[str, str, str],
    x: ArrayLike,
    value: ArrayLike,
    ends: tuple[ArrayLike, ArrayLike] | None = None,
    *,
    step: float | None = None,
) -> pl.DataFrame:
    """A line of a grid of charts as rows of `FACETS`.

    Args:
        place: its row, column and line.
        x: where its points stand.
        value: what they show.
        ends: lower and upper ends of their intervals.
        step: its place on the colour scale.
    """
    n = len(np.asarray(x))
    low, high = ends or ([None] * n, [None] * n)
    columns: list[Any] = [*([part] * n for part in place), [step] * n, x, value, low, high]
    return pl.DataFrame(dict(zip(FACETS, columns, strict=True)), schema=FACETS)


def tokens_to_test(about: str, *runs: Run) -> dict[str, str]:
    """What a test is about at each of the positions that say something of their own: `MASSIVE`, or only all tokens.

    Where leaving out massive tokens changes no entropy, the same test twice says nothing.
    """
    for run in runs:
        plain, without = (prompt_curves(run, "prompt_entropy", positions=one).values for one in MASSIVE)
        if not np.array_equal(plain, without, equal_nan=True):
            return {"all": about, "no-sink": f"{about}, no-sink"}
    return {"all": about}


def counted_prompts(runs: Iterable[Run]) -> str:
    """`32 prompts`, or `24 or 32 prompts` where the runs have different numbers."""
    return f"{' or '.join(map(str, sorted({run.record.resolved.n_prompts for run in runs})))} prompts"


def paired(one: PromptCurves, other: PromptCurves) -> tuple[PromptCurves, PromptCurves]:
    """The prompts that both have, in one order.

    Raises:
        UserError: no prompt is in both.
    """
    theirs = set(other.ids)
    common = [prompt for prompt in one.ids if prompt in theirs]
    if not common:
        raise UserError("the two runs have no prompt in common: they cannot be compared in pairs")
    return one.of(common), other.of(common)
