"""What metrics are read from: states of one layer, with each shared product computed once, when first asked for."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Float64, Int, Int64
from torch import Tensor

from layerscope.config import Precision
from layerscope.metrics.curvature import Bands, curvature_and_skipped, gram_bands, path_bands, paths_of_bands
from layerscope.metrics.dime import Dime, dime_of_spectra, dime_spectra, draw_permutations
from layerscope.metrics.infonce import infonce_of_gram
from layerscope.metrics.lidar import lidar_of_subsets
from layerscope.metrics.prompts import split_prompts
from layerscope.metrics.sink import norm_ratio_and_first
from layerscope.metrics.spectrum import Prepared, Variant, prepare_prompts, prepared_collisions, prompt_spectra
from layerscope.metrics.subsets import everything, subset_sizes, subset_spectra
from layerscope.metrics.views import ViewVariant, pair_gram
from layerscope.metrics.workers import parallel_map

Value = TypeVar("Value")


class _Once:
    """Keeps what was computed under a key, for as long as the source itself lives."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, Any] = {}

    def once(self, key: Hashable, compute: Callable[[], Value]) -> Value:
        if key not in self._kept:
            self._kept[key] = compute()
        value: Value = self._kept[key]
        return value


class TokenStates(_Once):
    """Token states of a batch at one layer; metrics of it have one value a prompt.

    Args:
        states: `prompts tokens dim`, right-padded; what the padding holds does not matter.
        lengths: `prompts`, real tokens of each prompt; all rows where it is None.
        precision: of the eigenvalues that entropies are read from; ranks and LogDet always use float64.
        attentions: `prompts heads tokens tokens`, only for `sink_rate`.
    """

    def __init__(
        self,
        states: Float[Tensor, "prompts tokens dim"],
        lengths: Int[Tensor, " prompts"] | None = None,
        *,
        precision: Precision = "float32",
        attentions: Float[Tensor, "prompts heads tokens tokens"] | None = None,
    ) -> None:
        super().__init__()
        self.states = states
        self.lengths = torch.full(states.shape[:1], states.shape[1]) if lengths is None else lengths
        self.precision: Precision = precision
        self.attentions = attentions

    def spectra(self, variant: Variant, precision: Precision) -> list[Float64[Tensor, " _"]]:
        """Eigenvalues of each prompt's Gram matrix, as `spectrum.prompt_spectra`."""
        return self.once(
            ("spectra", variant, precision), lambda: prompt_spectra(self._prepared(variant, precision), variant)
        )

    def collision_entropy(self, variant: Variant) -> Float64[Tensor, " prompts"]:
        """S_2 without eigenvalues, as `spectrum.collision_entropy`."""
        values = self.once(
            ("collision entropy", variant), lambda: prepared_collisions(self._prepared(variant, self.precision))
        )
        return torch.tensor(values, dtype=torch.float64)

    def curvature_and_skipped(self, steps: int) -> Float64[Tensor, "prompts two"]:
        """Curvature and the number of zero-length steps; single steps from the Gram matrices that the entropies use."""
        if steps > 1:
            return self.once(
                ("curvature", steps), lambda: curvature_and_skipped(self.states, self.lengths, steps=steps)
            )
        return self.once(("curvature", 1), self._single_steps)

    def _single_steps(self) -> Float64[Tensor, "prompts two"]:
        prompts = split_prompts(self.states, self.lengths)
        bands = parallel_map(_bands, list(zip(prompts, self._prepared("paper", self.precision), strict=True)))
        return paths_of_bands(prompts, bands)

    def _prepared(self, variant: Variant, precision: Precision) -> list[Prepared | None]:
        return self.once(
            ("prepared", variant, precision),
            lambda: prepare_prompts(split_prompts(self.states, self.lengths), variant, precision),
        )

    def norm_ratio_and_first(self) -> Float64[Tensor, "prompts two"]:
        """Ratio of the largest to the median token norm, and the norm of the first token."""
        return self.once("norms", lambda: norm_ratio_and_first(self.states, self.lengths))


def _bands(prompt: tuple[Float[Tensor, "tokens dim"], Prepared | None]) -> Bands:
    z, found = prompt
    return gram_bands(found.gram) if found and found.scale == 1 and z.shape[0] <= z.shape[1] else path_bands(z)


class PooledVectors(_Once):
    """One vector a prompt at one layer; metrics of it have one value a subset of the prompts.

    Args:
        pooled: `prompts dim`.
        subsets: the prompts that each evaluation keeps, as indices; by default one evaluation with all of them.
    """

    def __init__(
        self, pooled: Float[Tensor, "prompts dim"], subsets: Sequence[Int64[Tensor, " _"]] | None = None
    ) -> None:
        super().__init__()
        self.pooled = pooled
        self.subsets = everything(pooled) if subsets is None else subsets
        self.sizes = subset_sizes(self.subsets)

    def spectra(self, variant: Variant) -> list[Float64[Tensor, " _"]]:
        """Eigenvalues of each subset's Gram matrix, as `subsets.subset_spectra`."""
        return self.once(("spectra", variant), lambda: subset_spectra(self.pooled, self.subsets, variant=variant))


@dataclass(frozen=True)
class ViewOptions:
    """Settings of the invariance metrics that are the same for every row of a run."""

    temperature: float = 0.1
    permutations: int = 10
    seed: int = 0


class ViewVectors(_Once):
    """One vector for each augmented view of a prompt at one layer; metrics have one value a subset of the prompts.

    Args:
        views: `prompts views dim`.
        subsets: the prompts that each evaluation keeps, as indices; by default one evaluation with all of them.
        options: temperature of InfoNCE, permutations and seed of DiME.
    """

    def __init__(
        self,
        views: Float[Tensor, "prompts views dim"],
        subsets: Sequence[Int64[Tensor, " _"]] | None = None,
        options: ViewOptions | None = None,
    ) -> None:
        super().__init__()
        self.views = views
        self.subsets = everything(views) if subsets is None else subsets
        self.sizes = subset_sizes(self.subsets)
        self.options = options or ViewOptions()

    def infonce(self, variant: ViewVariant) -> Float64[Tensor, " subsets"]:
        """InfoNCE loss of each subset."""
        return self.once(
            ("infonce", variant),
            lambda: infonce_of_gram(self._gram(), self.subsets, self.options.temperature, variant),
        )

    def dime(self, variant: ViewVariant, alpha: float) -> Dime:
        """DiME of each subset and its standard error; the eigenvalues are shared by all orders."""

        def spectra() -> list[Tensor]:
            drawn = draw_permutations(self.views.shape[0], self.options.permutations, self.options.seed)
            return dime_spectra(self._gram(), self.subsets, drawn, variant)

        return dime_of_spectra(self.once(("dime", variant), spectra), alpha)

    def lidar(self, variant: ViewVariant) -> Float64[Tensor, " subsets"]:
        """LiDAR of each subset."""
        return self.once(("lidar", variant), lambda: lidar_of_subsets(self.views, self.subsets, variant=variant))

    def _gram(self) -> Float64[Tensor, "two prompts two prompts"]:
        return self.once("gram", lambda: pair_gram(self.views))
