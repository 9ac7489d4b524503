"""METRICS: every metric by name, one literal dict, in the order of the tables."""

from __future__ import annotations

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
from layerscope.metrics.metric import Metric

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
