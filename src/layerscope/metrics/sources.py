"""What metrics are read from: vectors of one layer, with each shared product computed once, when first asked for."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from layerscope.config import Precision
from layerscope.metrics.metric import Subset
from layerscope.metrics.spectrum import Prepared, Spectrum, Variant, prepare_prompts, prompt_spectra, subset_spectra
from layerscope.metrics.tall import are_tall, tall_spectra
from layerscope.metrics.workers import aligned, gram_of_many

Kept = TypeVar("Kept")
Gram = Float64[Tensor, "two prompts two prompts"]


class _Once:
    """Keeps what was computed under a key, for as long as the source itself lives."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, Any] = {}

    def once(self, key: Hashable, compute: Callable[[], Kept]) -> Kept:
        """What `compute` gives, computed when the key is first asked for."""
        if key not in self._kept:
            self._kept[key] = compute()
        return cast("Kept", self._kept[key])


class TokenStates(_Once):
    """Token states of prompts at one layer; metrics of it have one value a prompt.

    Args:
        states: `*prompts tokens dim`, one prompt or a right-padded batch; what the padding holds does not matter.
        lengths: `*prompts`, real tokens of each prompt; all rows where it is None.
        precision: of the eigenvalues that entropies are read from; ranks and LogDet always use float64.
        attentions: `*prompts heads tokens tokens`, only for `sink_rate`.

    Raises ValueError: a length is negative or larger than the number of rows.
    """

    def __init__(
        self,
        states: Float[Tensor, "*prompts tokens dim"],
        lengths: Int[Tensor, "*prompts"] | None = None,
        *,
        precision: Precision = "float32",
        attentions: Float[Tensor, "*prompts heads tokens tokens"] | None = None,
    ) -> None:
        super().__init__()
        self.states = states[None].flatten(0, -3)
        self.lengths = torch.full(self.states.shape[:1], states.shape[-2]) if lengths is None else lengths.reshape(-1)
        self.precision: Precision = precision
        self.attentions = None if attentions is None else attentions[None].flatten(0, -4)
        self._counts: list[int] = self.lengths.tolist()
        rows = states.shape[-2]
        for count in self._counts:
            if not 0 <= count <= rows:
                raise ValueError(f"expected prompt lengths between 0 and the {rows} rows of the states, got {count}")

    def split(self, rows: Float[Tensor, "prompts tokens width"]) -> list[Float[Tensor, "_ width"]]:
        """The rows of each prompt as views without padding, so that what the padding holds cannot matter."""
        return [own[:count] for own, count in zip(rows, self._counts, strict=True)]

    def spectra(self, variant: Variant, precision: Precision = "float64") -> list[Spectrum]:
        """Eigenvalues of each prompt's Gram matrix, the spectrum that every entropy and rank here is read from.

        K = Z Z^T or Z^T Z, whichever is smaller (same non-zero spectrum), with Z the states in the given variant.

        Args:
            variant: paper (Z as it is), centered (token mean removed), unit (rows of norm 1; zero rows stay zero),
                centered-unit (both, in that order), released (centered-unit, then negative ENTRIES of K set to zero).
            precision: of the product and the eigenvalues. float64 also repairs what squaring loses in small values.

        Returns:
            For each prompt min(T, D) numbers, float64, on the CPU, descending, negative values clamped to 0: none for a
            prompt without tokens or with a non-finite state; zeros where nothing is left (all zero, or identical rows
            after centring).

        Paper: arXiv 2412.09563, eq. 1. The authors' code feeds centered-unit and clamps entries; that is `released`.
        """
        key = ("spectra", variant, precision)
        return self.once(key, lambda: prompt_spectra(self.prepared(variant, precision), variant))

    def prepared(self, variant: Variant, precision: Precision) -> list[Prepared | None]:
        """The Gram matrix of each prompt; None where there are no tokens or a state is not finite."""
        key = ("prepared", variant, precision)
        return self.once(key, lambda: prepare_prompts(self.split(self.states), variant, precision))


class _Subsets(_Once):
    """Data with one row a prompt, of which each evaluation keeps a subset."""

    def __init__(self, data: Tensor, axes: str, subsets: Sequence[Subset] | None) -> None:
        super().__init__()
        if data.ndim != len(axes.split()):  # another number of them would go through, as other numbers
            raise ValueError(f"expected the axes {axes}, got the shape {tuple(data.shape)}")
        self.subsets = [torch.arange(data.shape[0])] if subsets is None else subsets
        self.sizes = torch.tensor([kept.shape[0] for kept in self.subsets], dtype=torch.int64)


class PooledVectors(_Subsets):
    """One vector a prompt at one layer; metrics of it have one value a subset of the prompts.

    Args:
        pooled: `prompts dim`.
        subsets: the prompts that each evaluation keeps, as indices; by default one evaluation with all of them.
    """

    def __init__(self, pooled: Float[Tensor, "prompts dim"], subsets: Sequence[Subset] | None = None) -> None:
        super().__init__(pooled, "prompts dim", subsets)
        self.pooled = pooled

    def spectra(self, variant: Variant) -> list[Spectrum]:
        """`subset_spectra` of the subsets, as `tall_spectra` where there are so many vectors that this is better."""
        compute = tall_spectra if are_tall(self.pooled, self.subsets) else subset_spectra
        return self.once(("spectra", variant), lambda: compute(self.pooled, self.subsets, variant))


@dataclass(frozen=True)
class ViewOptions:
    """Settings of the invariance metrics that are the same for every row of a run.

    temperature: of InfoNCE. permutations, seed: the random pairings of DiME, 10 or more. delta: the ridge of LiDAR,
    absolute, in the squared units of the states.
    """

    temperature: float = 0.1
    permutations: int = 10
    seed: int = 0
    delta: float = 1e-4


class ViewVectors(_Subsets):
    """One vector for each augmented view of a prompt at one layer; metrics have one value a subset of the prompts.

    Args:
        views: `prompts views dim`.
        subsets: the prompts that each evaluation keeps, as indices; by default one evaluation with all of them.
        options: temperature of InfoNCE, permutations and seed of DiME, delta of LiDAR.
    """

    def __init__(
        self,
        views: Float[Tensor, "prompts views dim"],
        subsets: Sequence[Subset] | None = None,
        options: ViewOptions | None = None,
    ) -> None:
        super().__init__(views, "prompts views dim", subsets)
        self.views = views
        self.options = options or ViewOptions()

    def gram(self) -> Gram:
        """Inner products between all first two views. Raises ValueError where there are fewer a prompt."""
        if self.views.shape[1] < 2:
            raise ValueError(f"expected 2 or more views a prompt, got {self.views.shape[1]}")
        return self.once("gram", self._gram)

    def _gram(self) -> Gram:
        count = self.views.shape[0]
        rows = aligned(self.views[:, :2].transpose(0, 1).reshape(2 * count, -1).cpu(), torch.float64)
        return gram_of_many(rows).reshape(2, count, 2, count)
