"""How each metric of the catalogue reads its values from a source, and says why one is NaN."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from layerscope.config import Normalization
from layerscope.metrics.alpha_req import decays
from layerscope.metrics.anisotropy import anisotropy_of_subsets
from layerscope.metrics.curvature import curvature_reason
from layerscope.metrics.effective_rank import effective_ranks, rankmes
from layerscope.metrics.entropy import entropies, logdets, normalizer, precision_for
from layerscope.metrics.infonce import infonce_chance
from layerscope.metrics.sink import sink_rate, top_shares
from layerscope.metrics.sources import PooledVectors, TokenStates, ViewVectors
from layerscope.metrics.spectrum import Variant, degenerate_reason
from layerscope.metrics.views import ViewVariant, view_reason

# One value a prompt (TokenStates) or a subset of the prompts (PooledVectors, ViewVectors).
Values = Float64[Tensor, " values"]


@dataclass(frozen=True)
class Setting:
    """What tells the rows of one metric apart. None where the metric has no such choice."""

    variant: str = "paper"
    alpha: float | None = None
    normalization: Normalization | None = None


def steps_of(variant: str) -> int:
    """The k of the variant `k-step` as it is asked for ("2-step", "3-step", ...); 1 for any other variant."""
    match = re.fullmatch(r"([1-9]\d*)-step", variant)
    return int(match[1]) if match else 1


# The request has been checked against the catalogue's variants; the maths knows them as Literals.
def _spectral(setting: Setting) -> Variant:
    return cast(Variant, setting.variant)


def _of_views(setting: Setting) -> ViewVariant:
    return cast(ViewVariant, setting.variant)


def prompt_entropy(source: TokenStates, setting: Setting) -> Values:
    """S_alpha of each prompt."""
    alpha, variant = cast(float, setting.alpha), _spectral(setting)
    if alpha == 2 and variant != "released":
        entropy = source.collision_entropy(variant)
    else:
        entropy = entropies(source.spectra(variant, precision_for(alpha, source.precision)), alpha)
    return entropy / normalizer(source.lengths, source.states.shape[-1], cast(Normalization, setting.normalization))


def logdet_entropy(source: TokenStates, setting: Setting) -> Values:
    """LogDet entropy of each prompt."""
    return logdets(source.spectra(_spectral(setting), "float64"))


def effective_rank(source: TokenStates, setting: Setting) -> Values:
    """Effective rank of each prompt."""
    return effective_ranks(source.spectra(_spectral(setting), "float64"))


def top_share(source: TokenStates, setting: Setting) -> Values:
    """Largest eigenvalue share of each prompt."""
    return top_shares(source.spectra(_spectral(setting), source.precision))


def curvature(source: TokenStates, setting: Setting) -> Values:
    """Curvature of each prompt."""
    return source.curvature_and_skipped(steps_of(setting.variant))[:, 0]


def skipped_steps(source: TokenStates, setting: Setting) -> Values:
    """Zero-length steps of each prompt."""
    return source.curvature_and_skipped(steps_of(setting.variant))[:, 1]


def norm_ratio(source: TokenStates, setting: Setting) -> Values:  # noqa: ARG001
    """Largest to median token norm of each prompt."""
    return source.norm_ratio_and_first()[:, 0]


def first_token_norm(source: TokenStates, setting: Setting) -> Values:  # noqa: ARG001
    """Norm of each prompt's first token."""
    return source.norm_ratio_and_first()[:, 1]


def attention_to_first(source: TokenStates, setting: Setting) -> Values:  # noqa: ARG001
    """Sink rate of each prompt. Raises ValueError where the source holds no attentions."""
    if source.attentions is None:
        raise ValueError("expected attentions for sink_rate, got states only: capture the attentions too")
    return sink_rate(source.attentions, source.lengths)


def dataset_entropy(source: PooledVectors, setting: Setting) -> Values:
    """S_alpha of each subset."""
    entropy = entropies(source.spectra(_spectral(setting)), cast(float, setting.alpha))
    return entropy / normalizer(source.sizes, source.pooled.shape[-1], cast(Normalization, setting.normalization))


def dataset_effective_rank(source: PooledVectors, setting: Setting) -> Values:
    """Effective rank of each subset."""
    return effective_ranks(source.spectra(_spectral(setting)))


def rankme(source: PooledVectors, setting: Setting) -> Values:
    """RankMe of each subset."""
    return rankmes(source.spectra(_spectral(setting)))


def alpha_req(source: PooledVectors, setting: Setting) -> Values:  # noqa: ARG001
    """Decay exponent of each subset."""
    ranks = (source.sizes - 1).clamp(max=source.pooled.shape[-1])
    return decays(source.spectra("centered"), ranks)


def anisotropy(source: PooledVectors, setting: Setting) -> Values:
    """Mean cosine of each subset."""
    return anisotropy_of_subsets(source.pooled, source.subsets, variant=_spectral(setting))


def infonce(source: ViewVectors, setting: Setting) -> Values:
    """InfoNCE loss of each subset."""
    return source.infonce(_of_views(setting))


def infonce_bound(source: ViewVectors, setting: Setting) -> Values:
    """InfoNCE bound of each subset."""
    return infonce_chance(source.sizes) - source.infonce(_of_views(setting))


def infonce_chance_level(source: ViewVectors, setting: Setting) -> Values:  # noqa: ARG001
    """Chance level of each subset."""
    return infonce_chance(source.sizes)


def dime(source: ViewVectors, setting: Setting) -> Values:
    """DiME of each subset."""
    return source.dime(_of_views(setting), cast(float, setting.alpha)).value


def dime_standard_error(source: ViewVectors, setting: Setting) -> Values:
    """Standard error of DiME over the permutations, for each subset."""
    return source.dime(_of_views(setting), cast(float, setting.alpha)).standard_error


def lidar(source: ViewVectors, setting: Setting) -> Values:
    """LiDAR of each subset."""
    return source.lidar(_of_views(setting))


def lidar_rank(source: ViewVectors, setting: Setting) -> Values:
    """exp of LiDAR, for each subset."""
    return source.lidar(_of_views(setting)).exp()


def spectral_reason(states: Float[Tensor, "rows dim"], setting: Setting) -> str:
    """Why a value read from eigenvalues is NaN: of one prompt's states, or of pooled vectors."""
    reason = degenerate_reason(states, variant=_spectral(setting))
    if reason or setting.normalization in (None, "none"):
        return reason
    rows, dim = states.shape
    if min(rows, dim) < 2:
        return f"one {'token' if rows < 2 else 'dimension'}: entropy is 0 and has no normalised form"
    divisor = normalizer(torch.tensor(rows), dim, setting.normalization)
    return f"{setting.normalization} is no bound of the entropy at {rows} x {dim}" if bool(divisor.isnan()) else ""


def path_reason(states: Float[Tensor, "tokens dim"], setting: Setting) -> str:
    """Why a curvature is NaN."""
    return curvature_reason(states, steps=steps_of(setting.variant))


def norm_reason(states: Float[Tensor, "tokens dim"], setting: Setting) -> str:  # noqa: ARG001
    """Why a norm ratio is NaN."""
    reason = degenerate_reason(states)
    return reason or ("" if bool(states.norm(dim=-1).quantile(0.5) > 0) else "the median token norm is 0")


def attention_reason(states: Float[Tensor, "tokens dim"], setting: Setting) -> str:  # noqa: ARG001
    """Why a sink rate is NaN."""
    return "no tokens" if not states.shape[0] else "non-finite attentions"


def decay_reason(pooled: Float[Tensor, "prompts dim"], setting: Setting) -> str:  # noqa: ARG001
    """Why alpha-ReQ is NaN."""
    return degenerate_reason(pooled, variant="centered") or "fewer than 5 positive eigenvalues in the fit range"


def cosine_reason(pooled: Float[Tensor, "prompts dim"], setting: Setting) -> str:
    """Why anisotropy is NaN."""
    if pooled.shape[0] < 2:
        return f"{pooled.shape[0]} prompts: a cosine needs 2"
    return degenerate_reason(pooled, variant=_spectral(setting)) or "a zero vector has no direction"


def comparison_reason(views: Float[Tensor, "prompts views dim"], setting: Setting) -> str:
    """Why InfoNCE or DiME is NaN."""
    return view_reason(views, _of_views(setting))


def discriminant_reason(views: Float[Tensor, "prompts views dim"], setting: Setting) -> str:  # noqa: ARG001
    """Why LiDAR is NaN."""
    if views.shape[0] < 2:
        return f"{views.shape[0]} prompts: a covariance between prompts needs 2"
    return "non-finite vectors" if not bool(views.isfinite().all()) else "the mean vectors of all prompts are the same"
