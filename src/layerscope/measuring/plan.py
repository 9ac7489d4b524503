"""What a spec asks for, as lists of the numbers to compute."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import get_args

from layerscope.config import RunSpec
from layerscope.errors import UserError
from layerscope.metrics.catalogue import check_variants, resolve_metrics, settings
from layerscope.metrics.metric import Metric, Setting, Shape
from layerscope.states.state import State, all_states


@dataclass(frozen=True)
class Key:
    """One number per layer and state: a metric with its variant, order and normalisation."""

    metric: Metric
    setting: Setting


@dataclass(frozen=True)
class Plan:
    """Everything that will be computed. `layers` and `depth` are filled in once the model is known."""

    spec: RunSpec
    states: tuple[State, ...]
    token_keys: tuple[Key, ...]
    pooled_keys: tuple[Key, ...]
    view_keys: tuple[Key, ...]
    layers: tuple[int, ...] = ()
    depth: int = 0

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Names of the metrics, each once, in the catalogue's order."""
        return tuple(dict.fromkeys(key.metric.name for key in (*self.token_keys, *self.pooled_keys, *self.view_keys)))

    @property
    def n_views(self) -> int:
        """Augmented views needed of each prompt: all for LiDAR, two for InfoNCE and DiME, none for the rest."""
        if any(key.metric.needs == "all views" for key in self.view_keys):
            return self.spec.views.views
        return 2 if self.view_keys else 0

    @property
    def attentions(self) -> bool:
        """Whether a metric needs the attention weights."""
        return any(key.metric.needs == "attentions" for key in self.token_keys)

    @property
    def pools(self) -> bool:
        """Whether pooled vectors of the prompts are needed."""
        return bool(self.pooled_keys) or self.spec.keep_pooled

    def for_model(self, depth: int, n_prompts: int) -> Plan:
        """The plan with its layers, for a model of `depth` blocks.

        A UserError where it does not have a layer, or there are too few prompts for what was asked by name.
        """
        layers = self.spec.layers if self.spec.layers is not None else tuple(range(depth + 1))
        beyond = [layer for layer in layers if layer > depth]
        if beyond:
            raise UserError(f"layer {beyond[0]} does not exist: the model has layers 0 to {depth}")
        for key in self.view_keys:
            if n_prompts < 2 and {key.metric.name, key.metric.family} & set(self.spec.metrics):
                raise UserError(
                    f"{key.metric.name} compares prompts and needs at least 2, got {n_prompts}: use more texts"
                )
        return replace(self, layers=tuple(sorted(set(layers))), depth=depth)


def make_plan(spec: RunSpec) -> Plan:
    """Turn names into keys.

    Raises:
        UserError: an unknown metric or variant (with the nearest ones), or a combination that cannot be.
    """
    metrics = resolve_metrics(spec.metrics)
    if not metrics:
        raise UserError("no metric was asked for: name at least one of `layerscope metrics`, or all")
    check_variants(metrics, spec.variants)
    normalizations = tuple(dict.fromkeys(spec.normalizations))
    keys = tuple(
        Key(metric, setting)
        for metric in metrics
        for setting in settings(metric, spec.variants, tuple(dict.fromkeys(spec.alphas)), normalizations)
    )
    of_shape = {shape: tuple(key for key in keys if key.metric.shape == shape) for shape in get_args(Shape)}
    view_keys = of_shape["prompts views dim"]
    if view_keys and spec.texts.perturbation:
        if "all" not in spec.metrics:
            raise UserError(
                f"{view_keys[0].metric.name} needs views of the text, which a perturbation of its tokens does not have: "
                "leave the metric or the perturbation out"
            )
        view_keys = ()
    return Plan(
        spec=spec,
        states=all_states(spec.readouts, spec.positions),
        token_keys=of_shape["tokens dim"],
        pooled_keys=of_shape["prompts dim"],
        view_keys=view_keys,
    )
