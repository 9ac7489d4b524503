"""METRICS: what is known about each metric, as data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from layerscope.metrics import readings
from layerscope.metrics.readings import Setting

Shape = Literal["tokens dim", "prompts dim", "prompts views dim"]

K_STEP = "k-step"
_SPECTRAL = ("paper", "centered", "unit", "centered-unit")
_WITH_RELEASED = (*_SPECTRAL, "released")


@dataclass(frozen=True)
class Metric:
    """One metric: how it is read from a source, and what its number means.

    `values(source, setting)` gives one number a prompt for "tokens dim" (source: TokenStates), one number a subset of
    the prompts for the other shapes (PooledVectors, ViewVectors). `reason(data, setting)` says why a number is NaN;
    data is one prompt's states without padding, the pooled vectors, or the views.
    """

    name: str
    family: str
    shape: Shape
    values: Callable[[Any, Setting], Tensor]
    reason: Callable[[Any, Setting], str]
    summary: str
    unit: str
    range: str
    direction: str
    reads: str
    paper: str
    low: float | None = None
    high: float | None = None
    variants: tuple[str, ...] = ("paper",)
    has_alpha: bool = False
    has_normalization: bool = False
    in_all: bool = True


METRICS: dict[str, Metric] = {
    "prompt_entropy": Metric(
        name="prompt_entropy",
        family="entropy",
        shape="tokens dim",
        values=readings.prompt_entropy,
        reason=readings.spectral_reason,
        summary="how many directions the tokens of a prompt spread over, as an entropy",
        unit="nats",
        range="[0, log min(T, D)]; [0, 1] normalised",
        low=0.0,
        direction="higher: tokens more spread out; lower: more compressed",
        variants=_WITH_RELEASED,
        has_alpha=True,
        has_normalization=True,
        reads="eigenvalues in the run's precision; the Gram matrix at alpha 2",
        paper="arXiv 2412.09563, eq. 1, appendix B",
    ),
    "logdet_entropy": Metric(
        name="logdet_entropy",
        family="logdet",
        shape="tokens dim",
        values=readings.logdet_entropy,
        reason=readings.spectral_reason,
        summary="log-volume that the tokens of a prompt span",
        unit="nats",
        range="any real number; depends on scale and length",
        direction="higher: larger volume",
        variants=("paper", "unit"),
        reads="float64 eigenvalues",
        paper="arXiv 2412.09563, appendix D",
    ),
    "effective_rank": Metric(
        name="effective_rank",
        family="rank",
        shape="tokens dim",
        values=readings.effective_rank,
        reason=readings.spectral_reason,
        summary="number of directions that the tokens of a prompt really use",
        unit="directions",
        range="[1, min(T, D)]",
        low=1.0,
        direction="higher: more directions",
        variants=_SPECTRAL,
        reads="float64 eigenvalues",
        paper="Roy & Vetterli 2007, definition 1",
    ),
    "curvature": Metric(
        name="curvature",
        family="curvature",
        shape="tokens dim",
        values=readings.curvature,
        reason=readings.path_reason,
        summary="mean turning angle of the path through a prompt's token states",
        unit="radians",
        range="[0, pi]",
        low=0.0,
        high=3.141592653589793,
        direction="lower: straighter path; pi: back and forth",
        variants=("paper", K_STEP),
        reads="states",
        paper="arXiv 2412.09563, eq. 2",
    ),
    "curvature_skipped_steps": Metric(
        name="curvature_skipped_steps",
        family="curvature",
        shape="tokens dim",
        values=readings.skipped_steps,
        reason=readings.path_reason,
        summary="steps of length zero, which have no angle and are left out of curvature",
        unit="steps",
        range="[0, T - 1]",
        low=0.0,
        direction="0: no step was left out",
        variants=("paper", K_STEP),
        reads="states",
        paper="none; the count beside arXiv 2412.09563, eq. 2",
    ),
    "norm_ratio": Metric(
        name="norm_ratio",
        family="sink",
        shape="tokens dim",
        values=readings.norm_ratio,
        reason=readings.norm_reason,
        summary="largest token norm over the median token norm of a prompt",
        unit="ratio",
        range="[1, inf)",
        low=1.0,
        direction="higher: one token carries a massive activation",
        reads="states",
        paper="arXiv 2402.17762",
    ),
    "first_token_norm": Metric(
        name="first_token_norm",
        family="sink",
        shape="tokens dim",
        values=readings.first_token_norm,
        reason=readings.norm_reason,
        summary="norm of a prompt's first token",
        unit="state units",
        range="[0, inf)",
        low=0.0,
        direction="higher: larger first token",
        reads="states",
        paper="arXiv 2402.17762",
    ),
    "top_share": Metric(
        name="top_share",
        family="sink",
        shape="tokens dim",
        values=readings.top_share,
        reason=readings.spectral_reason,
        summary="share p_1 of the largest eigenvalue of a prompt's Gram matrix",
        unit="share",
        range="[1 / min(T, D), 1]",
        low=0.0,
        high=1.0,
        direction="higher: one direction drowns the others",
        variants=_SPECTRAL,
        reads="eigenvalues in the run's precision",
        paper="arXiv 2510.06477",
    ),
    "sink_rate": Metric(
        name="sink_rate",
        family="sink",
        shape="tokens dim",
        values=readings.attention_to_first,
        reason=readings.attention_reason,
        summary="mean share of the attention that goes to the first token",
        unit="share",
        range="[0, 1]",
        low=0.0,
        high=1.0,
        direction="higher: the first token is more of an attention sink",
        reads="attentions",
        paper="arXiv 2410.10781",
        in_all=False,
    ),
    "dataset_entropy": Metric(
        name="dataset_entropy",
        family="entropy",
        shape="prompts dim",
        values=readings.dataset_entropy,
        reason=readings.spectral_reason,
        summary="how many directions the prompts spread over, as an entropy",
        unit="nats",
        range="[0, log min(N, D)]; [0, 1] normalised",
        low=0.0,
        direction="higher: prompts more spread out",
        variants=_WITH_RELEASED,
        has_alpha=True,
        has_normalization=True,
        reads="float64 eigenvalues",
        paper="arXiv 2412.09563, eq. 1, appendix B",
    ),
    "dataset_effective_rank": Metric(
        name="dataset_effective_rank",
        family="rank",
        shape="prompts dim",
        values=readings.dataset_effective_rank,
        reason=readings.spectral_reason,
        summary="number of directions that the pooled prompt vectors really use",
        unit="directions",
        range="[1, min(N, D)]",
        low=1.0,
        direction="higher: more directions",
        variants=_SPECTRAL,
        reads="float64 eigenvalues",
        paper="Roy & Vetterli 2007, definition 1",
    ),
    "rankme": Metric(
        name="rankme",
        family="rank",
        shape="prompts dim",
        values=readings.rankme,
        reason=readings.spectral_reason,
        summary="effective rank of the pooled prompt vectors with RankMe's epsilon",
        unit="directions",
        range="[1, min(N, D)]",
        low=1.0,
        direction="higher: more directions",
        variants=_SPECTRAL,
        reads="float64 eigenvalues",
        paper="Garrido et al. 2023, eq. 1 and 2",
    ),
    "alpha_req": Metric(
        name="alpha_req",
        family="alpha_req",
        shape="prompts dim",
        values=readings.alpha_req,
        reason=readings.decay_reason,
        summary="decay exponent of the eigenvalues of the pooled covariance, fitted over ranks 11 to 100",
        unit="exponent",
        range="any real number, usually [0, 3]",
        direction="higher: eigenvalues fall faster, fewer directions; near 1 went with good features in the paper",
        reads="float64 eigenvalues",
        paper="Agrawal et al. 2022",
    ),
    "anisotropy": Metric(
        name="anisotropy",
        family="anisotropy",
        shape="prompts dim",
        values=readings.anisotropy,
        reason=readings.cosine_reason,
        summary="mean cosine between the pooled vectors of distinct prompts",
        unit="cosine",
        range="[-1 / (N - 1), 1]",
        low=-1.0,
        high=1.0,
        direction="higher: all vectors point the same way",
        variants=("paper", "centered"),
        reads="vectors",
        paper="Ethayarajh 2019, section 3",
    ),
    "infonce": Metric(
        name="infonce",
        family="infonce",
        shape="prompts views dim",
        values=readings.infonce,
        reason=readings.comparison_reason,
        summary="loss of telling a prompt's other view among all views",
        unit="nats",
        range="(0, inf); chance level infonce_chance",
        low=0.0,
        direction="lower: more invariant to the augmentation",
        variants=_SPECTRAL,
        reads="inner products of two views",
        paper="van den Oord et al. 2018; arXiv 2412.09563, appendix F",
    ),
    "infonce_bound": Metric(
        name="infonce_bound",
        family="infonce",
        shape="prompts views dim",
        values=readings.infonce_bound,
        reason=readings.comparison_reason,
        summary="log(2N - 1) minus the InfoNCE loss: what a view at least tells about the other",
        unit="nats",
        range="(-inf, log(2N - 1)]; 0 at chance",
        direction="higher: more invariant to the augmentation",
        variants=_SPECTRAL,
        reads="inner products of two views",
        paper="van den Oord et al. 2018, appendix A.1",
    ),
    "infonce_chance": Metric(
        name="infonce_chance",
        family="infonce",
        shape="prompts views dim",
        values=readings.infonce_chance_level,
        reason=readings.comparison_reason,
        summary="log(2N - 1): the InfoNCE loss where all views look alike",
        unit="nats",
        range="[log 3, inf)",
        low=1.0986122886681098,
        direction="depends on the number of prompts only",
        reads="the number of prompts",
        paper="Chen et al. 2020, eq. 1",
    ),
    "dime": Metric(
        name="dime",
        family="dime",
        shape="prompts views dim",
        values=readings.dime,
        reason=readings.comparison_reason,
        summary="joint entropy of randomly paired views minus that of the true pairs",
        unit="nats",
        range="[-log N, log N]; about 0 for unrelated views",
        direction="higher: more invariant to the augmentation",
        variants=_SPECTRAL,
        has_alpha=True,
        reads="inner products of two views",
        paper="Skean et al. 2023 (arXiv 2301.08164)",
    ),
    "dime_standard_error": Metric(
        name="dime_standard_error",
        family="dime",
        shape="prompts views dim",
        values=readings.dime_standard_error,
        reason=readings.comparison_reason,
        summary="standard error of dime over its random permutations",
        unit="nats",
        range="[0, inf)",
        low=0.0,
        direction="lower: dime is known more exactly",
        variants=_SPECTRAL,
        has_alpha=True,
        reads="inner products of two views",
        paper="Skean et al. 2023 (arXiv 2301.08164)",
    ),
    "lidar": Metric(
        name="lidar",
        family="lidar",
        shape="prompts views dim",
        values=readings.lidar,
        reason=readings.discriminant_reason,
        summary="entropy of the directions that tell prompts apart, relative to how views of one prompt vary",
        unit="nats",
        range="[0, log min(N - 1, D)]",
        low=0.0,
        direction="higher: more directions tell prompts apart",
        variants=_SPECTRAL,
        reads="vectors of all views",
        paper="Thilak et al. 2023 (arXiv 2312.04000), eq. 1 to 4",
    ),
    "lidar_rank": Metric(
        name="lidar_rank",
        family="lidar",
        shape="prompts views dim",
        values=readings.lidar_rank,
        reason=readings.discriminant_reason,
        summary="exp of lidar: the number of directions that tell prompts apart",
        unit="directions",
        range="[1, min(N - 1, D)]",
        low=1.0,
        direction="higher: more directions tell prompts apart",
        variants=_SPECTRAL,
        reads="vectors of all views",
        paper="Thilak et al. 2023 (arXiv 2312.04000), eq. 4",
    ),
}


def unit_of(metric: Metric, setting: Setting) -> str:
    """The unit of one row: the metric's, or "share" where the row is normalised."""
    return metric.unit if setting.normalization in (None, "none") else "share"
