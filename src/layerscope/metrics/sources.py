"""What metrics are read from: vectors of one layer, with each shared product computed once, when first asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
from jaxtyping import Float, Float32, Float64, Int
from torch import Tensor

from layerscope.config import Precision
from layerscope.metrics import spectrum
from layerscope.metrics.metric import PAPER, Setting, Subset
from layerscope.metrics.spectrum import Prepared, Spectrum, Variant, variant_of
from layerscope.metrics.subsets import subset_spectra
from layerscope.metrics.workers import aligned, gram_of_many

Kept = TypeVar("Kept")
Gram = Float64[Tensor, "two prompts two prompts"]
# Centring a float64 Gram matrix leaves at most this share of a row's energy as rounding.
_ROUNDING = 1e-13
_ROWS = 256


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

        Returns for each prompt min(T, D) numbers, float64, on the CPU, descending, negative values clamped to 0: none
        for a prompt without tokens or with a non-finite state; zeros where nothing is left (all zero, or identical rows
        after centring).
        Paper: arXiv 2412.09563, eq. 1. The authors' code feeds centered-unit and clamps entries; that is `released`.
        """
        key = ("spectra", variant, precision)
        return self.once(key, lambda: spectrum.prompt_spectra(self.prepared(variant, precision), variant))

    def prepared(self, variant: Variant, precision: Precision) -> list[Prepared | None]:
        """The Gram matrix of each prompt; None where there are no tokens or a state is not finite."""
        key = ("prepared", variant, precision)
        return self.once(key, lambda: spectrum.prepare_prompts(self.split(self.states), variant, precision))


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
        """`subset_spectra` of the subsets."""
        return self.once(("spectra", variant), lambda: subset_spectra(self.pooled, self.subsets, variant))


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
        rows, count = self.views[:, :2].transpose(0, 1).flatten(0, 1), self.views.shape[0]
        gram = self.once("gram", lambda: gram_of_many(aligned(rows.cpu(), torch.float64)))
        return gram.reshape(2, count, 2, count)


def subset_cosines(gram: Gram, kept: Subset, variant: Variant) -> Float64[Tensor, "two kept two kept"] | None:
    """Cosines between the views of the kept prompts; each view's mean over them removed first where centred.

    None with fewer than 2 prompts, or where a view is not finite or has no direction (zero, or equal to the mean).
    """
    prompts, count = gram.shape[1], kept.shape[0]
    both = torch.cat((kept, prompts + kept))
    inner = _cut(gram.reshape(2 * prompts, 2 * prompts), both).reshape(2, count, 2, count)
    return inner if _become_cosines(inner, variant) else None


def within_cosines(gram: Gram, kept: Subset, variant: Variant) -> Float32[Tensor, "two kept kept"] | None:
    """The two blocks of `subset_cosines` inside view 1 and inside view 2, in float32, and None where it is."""
    blocks = torch.empty(2, kept.shape[0], kept.shape[0])
    for view in (0, 1):
        inner = _cut(gram[view, :, view], kept)
        if not _become_cosines(inner[None, :, None], variant):
            return None
        blocks[view] = inner
    return blocks


def _cut(matrix: Float64[Tensor, "rows rows"], kept: Subset) -> Float64[Tensor, "kept kept"]:
    """The rows and columns kept: one copy, made a few rows at a time, of what is largest in memory."""
    parts = torch.empty(kept.shape[0], kept.shape[0], dtype=matrix.dtype)
    for rows, part in zip(torch.split(kept, _ROWS), torch.split(parts, _ROWS), strict=True):
        part.copy_(matrix[rows][:, kept])
    return parts


def _become_cosines(inner: Float64[Tensor, "views kept views kept"], variant: Variant) -> bool:
    """Turn inner products into cosines, in place; False with fewer than 2 prompts, or where one has no direction."""
    energy = inner.diagonal(dim1=0, dim2=2).diagonal().clone()
    if variant.startswith("centered"):
        for axis in (1, 3):
            inner -= inner.mean(axis, keepdim=True)
    left = inner.diagonal(dim1=0, dim2=2).diagonal()
    has_direction = bool((left > _ROUNDING * energy).all())  # False for NaN too
    if left.shape[-1] < 2 or not has_direction or not math.isfinite(float(inner.sum())):
        return False
    norms = left.sqrt()
    inner /= norms[:, :, None, None]
    inner /= norms
    return True


def view_reason(views: Float[Tensor, "prompts views dim"], setting: Setting = PAPER) -> str:
    """Why InfoNCE and DiME of these views are NaN, in words; "" where they are not."""
    if views.shape[0] < 2:
        return f"{views.shape[0]} prompts: views are compared between 2 or more"
    if not bool(views[:, :2].isfinite().all()):
        return "non-finite vectors"
    if not bool(views[:, :2].any(-1).all()):
        return "a zero vector has no direction"
    if subset_cosines(ViewVectors(views).gram(), torch.arange(views.shape[0]), variant_of(setting)) is None:
        return "a vector equals the mean: no direction is left after centring"
    return ""
