"""METRICS: every metric by name, one literal dict, in the order of the tables; and what a request for some of them means."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from layerscope.config import Normalization
from layerscope.errors import UserError, unknown
from layerscope.metrics import (
    alpha_req,
    anisotropy,
    curvature,
    dime,
    effective_rank,
    entropy,
    infonce,
    lidar,
    sink,
)
from layerscope.metrics.metric import K_STEP, Metric, Setting, steps_of

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        entropy.PROMPT_ENTROPY,
        entropy.LOGDET_ENTROPY,
        effective_rank.EFFECTIVE_RANK,
        curvature.CURVATURE,
        curvature.SKIPPED_STEPS,
        sink.NORM_RATIO,
        sink.FIRST_TOKEN_NORM,
        sink.TOP_SHARE,
        sink.SINK_RATE,
        entropy.DATASET_ENTROPY,
        effective_rank.DATASET_EFFECTIVE_RANK,
        effective_rank.RANKME,
        alpha_req.METRIC,
        anisotropy.METRIC,
        infonce.INFONCE,
        infonce.BOUND,
        infonce.CHANCE,
        dime.DIME,
        dime.STANDARD_ERROR,
        lidar.LIDAR,
        lidar.RANK,
    )
}


def resolve_metrics(names: Iterable[str]) -> tuple[Metric, ...]:
    """The metrics that are asked for by name, by family, or by "all", each once, in the catalogue's order.

    "all" and the families leave out what needs more than states (sink_rate, which needs attentions). A name that is
    both a metric and a family ("curvature", "infonce", "dime", "lidar") means the family: the number with what it is
    read beside.

    Raises UserError for an unknown name.
    """
    families = {metric.family for metric in METRICS.values()}
    asked = set(names)
    for name in sorted(asked - families - set(METRICS) - {"all"}):
        raise unknown("metric", name, {*METRICS, *families, "all"})
    return tuple(
        metric
        for metric in METRICS.values()
        if (metric.in_all and not asked.isdisjoint({"all", metric.family})) or metric.name in asked
    )


def has_variant(metric: Metric, name: str) -> bool:
    """Whether a metric has the variant; "2-step", "3-step", ... are variants of a metric that lists "k-step"."""
    return name != K_STEP and (name in metric.variants or (K_STEP in metric.variants and steps_of(name) is not None))


def resolve_variants(metric: Metric, names: Sequence[str]) -> tuple[str, ...]:
    """The variants of a metric that are measured when `names` are asked for of all metrics.

    "default" is its first, "all" every one ("k-step" as "2-step"). Names that it does not have are passed over; where
    none is left it is measured in its default, since a choice of another metric's input does not concern it.
    """
    chosen: list[str] = []
    for name in names:
        if name == "default":
            chosen.append(metric.variants[0])
        elif name == "all":
            chosen.extend("2-step" if variant == K_STEP else variant for variant in metric.variants)
        elif has_variant(metric, name):
            chosen.append(name)
    return tuple(dict.fromkeys(chosen or metric.variants[:1]))


def check_variants(metrics: Sequence[Metric], names: Iterable[str]) -> None:
    """Raises UserError for a variant name that none of the metrics has."""
    for name in names:
        if name == K_STEP:
            raise UserError(f"expected the k of {K_STEP!r} as a number of 2 or more, got {name!r}: ask for '2-step'")
        if name not in ("default", "all") and not any(has_variant(metric, name) for metric in metrics):
            raise unknown("variant", name, {"default", "all", *(v for metric in metrics for v in metric.variants)})


def settings(
    metric: Metric, variants: Sequence[str], alphas: Sequence[float], normalizations: Sequence[Normalization]
) -> tuple[Setting, ...]:
    """Every row of a metric: its variants x alphas x normalizations, as far as it has them."""
    return tuple(
        Setting(variant, alpha, normalization)
        for variant in resolve_variants(metric, variants)
        for alpha in (alphas if metric.has_alpha else (None,))
        for normalization in (normalizations if metric.has_normalization else (None,))
    )
