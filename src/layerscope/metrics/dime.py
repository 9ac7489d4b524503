"""DiME: how much of the structure of one view the true pairing with the other view explains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from layerscope.metrics.spectrum import renyi, shares
from layerscope.metrics.subsets import everything
from layerscope.metrics.views import ViewVariant, pair_gram, within_cosines
from layerscope.metrics.workers import parallel_map

PERMUTATIONS = 10


@dataclass(frozen=True)
class Dime:
    """DiME and its standard error over the random pairings: `""`, or `subsets`."""

    value: Tensor
    standard_error: Tensor


def dime(
    views: Float[Tensor, "prompts views dim"],
    *,
    alpha: float = 1.0,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
    variant: ViewVariant = "paper",
) -> Dime:
    """How much more the two views of a prompt share than two views of different prompts do.

    mean over random permutations P of S_alpha(K1 * P K2 P^T) minus S_alpha(K1 * K2), with * the entrywise product and
    K1, K2 the N x N Gram matrices of the unit vectors of view 1 and view 2.

    Args:
        views: `prompts views dim`; the first two views are used.
        alpha: order of the entropy, in (0, inf].
        permutations: random pairings, 10 or more.
        seed: of the pairings, drawn from a generator of their own.
        variant: paper, or centered (each view's mean over prompts removed); unit and centered-unit equal these two.

    Returns:
        The value, scalar float64, nats, in [-log N, log N]: about 0 for unrelated views, higher is more invariant;
        and its standard error over the permutations. NaN with fewer than 2 prompts, or where a vector is not finite
        or has no direction.

    Raises:
        ValueError: fewer than 2 views or 10 permutations, or alpha out of range.

    Paper: Skean et al. 2023 (arXiv 2301.08164), eq. 8. The authors' code switches to D x D covariances where N > D,
    which do not know the pairing; here the matrices are always prompts x prompts.
    """
    estimate = dime_of_subsets(
        views, everything(views), alpha=alpha, permutations=permutations, seed=seed, variant=variant
    )
    return Dime(estimate.value[0], estimate.standard_error[0])


def dime_of_subsets(
    views: Float[Tensor, "prompts views dim"],
    subsets: Sequence[Int64[Tensor, " _"]],
    *,
    alpha: float = 1.0,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
    variant: ViewVariant = "paper",
) -> Dime:
    """`dime` of each subset of the prompts, under the same pairings as far as the subset allows.

    A prompt whose partner is left out gets the partner's partner, and so on (the cycle of the permutation is closed
    over the gap): uniform over the subset's permutations, and it leaves all other pairs as they were.
    """
    drawn = draw_permutations(views.shape[0], permutations, seed)
    return dime_of_spectra(dime_spectra(pair_gram(views), subsets, drawn, variant), alpha)


def draw_permutations(prompts: int, permutations: int, seed: int) -> Int64[Tensor, "permutations prompts"]:
    """Random pairings from a generator of their own. Raises ValueError for fewer than 10."""
    if permutations < PERMUTATIONS:
        raise ValueError(f"expected {PERMUTATIONS} or more permutations, got {permutations}")
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randperm(prompts, generator=generator) for _ in range(permutations)])


def restrict_permutation(
    permutation: Int64[Tensor, "*some prompts"], kept: Int64[Tensor, " kept"]
) -> Int64[Tensor, "*some kept"]:
    """The permutation of the kept prompts that skips those left out; indices are positions in `kept`."""
    position = torch.full((permutation.shape[-1],), -1)
    position[kept] = torch.arange(kept.shape[0])
    partner = permutation[..., kept]
    while bool((position[partner] < 0).any()):
        partner = torch.where(position[partner] < 0, permutation.gather(-1, partner), partner)
    return position[partner]


def dime_spectra(
    gram: Float64[Tensor, "two prompts two prompts"],
    subsets: Sequence[Int64[Tensor, " _"]],
    permutations: Int64[Tensor, "permutations prompts"],
    variant: ViewVariant,
) -> list[Float64[Tensor, "pairings _"]]:
    """Eigenvalues of K1 * P K2 P^T of each subset, first for the true pairing, then for each permutation.

    NaN where a subset's views cannot be compared.
    """

    def spectra(kept: Tensor) -> Tensor:
        cosines = within_cosines(gram, kept, variant)
        if cosines is None:
            return torch.full((permutations.shape[0] + 1, 1), torch.nan, dtype=torch.float64)
        first, second = cosines
        orders = torch.cat((torch.arange(kept.shape[0])[None], restrict_permutation(permutations, kept)))
        # One pairing at a time: eleven matrices of the prompts' size are more than all else in memory.
        values = [torch.linalg.eigvalsh(first * second[order[:, None], order]) for order in orders]
        return torch.stack(values).double().clamp(min=0)

    return parallel_map(spectra, list(subsets))


def dime_of_spectra(spectra: Sequence[Float64[Tensor, "pairings _"]], alpha: float) -> Dime:
    """DiME of each subset from the eigenvalues of the true pairing (first) and of the random ones."""

    def estimate(own: Tensor) -> tuple[Tensor, Tensor]:
        entropy = renyi(shares(own), alpha)
        random = entropy[1:]
        return random.mean() - entropy[0], random.std() / random.shape[0] ** 0.5

    values, errors = zip(*parallel_map(estimate, spectra), strict=True)
    return Dime(torch.stack(values), torch.stack(errors))
