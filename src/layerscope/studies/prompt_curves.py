"""Curves of single prompts over the layers, and the parts of a model that claims speak of: early, middle, late."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Bool, Float

from layerscope.errors import UserError
from layerscope.results.run import Run

BANDS = ("early", "middle", "late")
"""Thirds of a model by depth: [0, 1/3], (1/3, 2/3], (2/3, 1]. Fixed beforehand, so that no layer is chosen by its value."""

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

    def contrast(self, weights: Float[np.ndarray, " layers"]) -> Float[np.ndarray, " prompts"]:
        """Each prompt's Σ w·value over layers."""
        return np.asarray(self.values @ weights)

    @property
    def spread(self) -> Float[np.ndarray, " prompts"]:
        """Each prompt's standard deviation over layers 1 to L: how much the value changes on the way through."""
        return np.asarray(self.values[:, [layer > 0 for layer in self.layers]].std(axis=1))


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
    wanted = dict(conditions)
    rows = run.prompts.filter(pl.col("metric") == metric)
    for name, value in {**FIXED, **wanted}.items():
        # A metric without variants, orders or normalisations has null there.
        rows = rows.filter((pl.col(name) == value) | (pl.col(name).is_null() if name not in wanted else False))
    if rows.is_empty():
        raise UserError(f"{run.path} has no {metric} with {wanted or 'the usual conditions'}")
    if rows.select("prompt_id", "layer").is_duplicated().any():
        raise UserError(f"{run.path} has several kinds of {metric} with {wanted}: name more conditions")
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
        unit="share" if wanted.get("normalization", "none") != "none" else str(info["unit"]),
    )


def has_massive_tokens(run: Run) -> bool:
    """Whether leaving out massive tokens changes any entropy; where it does not, the same test twice says nothing."""
    plain, without = (prompt_curves(run, "prompt_entropy", positions=one).values for one in ("all", "no-sink"))
    return not np.array_equal(plain, without, equal_nan=True)


def paired(one: PromptCurves, other: PromptCurves) -> tuple[PromptCurves, PromptCurves]:
    """The prompts that both have, in one order; the layers must agree.

    Raises:
        UserError: no prompt is in both, or the layers differ.
    """
    common = [prompt for prompt in one.ids if prompt in set(other.ids)]
    if not common:
        raise UserError("the two runs have no prompt in common: they cannot be compared in pairs")
    return _take(one, common), _take(other, common)


def same_lengths(one: PromptCurves, other: PromptCurves) -> bool:
    """Whether paired prompts have equally many tokens, so that entropies in nats may be compared."""
    return bool((one.n_tokens == other.n_tokens).all())


def _take(curves: PromptCurves, ids: list[str]) -> PromptCurves:
    place = {prompt: row for row, prompt in enumerate(curves.ids)}
    rows = [place[prompt] for prompt in ids]
    return PromptCurves(
        tuple(ids), curves.n_tokens[rows], curves.layers, curves.depth, curves.values[rows], curves.unit
    )
