"""DiME: how much of the structure of one view the true pairing with the other view explains."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from layerscope.metrics.metric import PAPER, Metric, Setting, Subset, Values
from layerscope.metrics.sources import ViewVectors, view_reason, within_cosines
from layerscope.metrics.spectrum import SPECTRAL, Variant, renyi, shares, variant_of
from layerscope.metrics.workers import parallel_map

LEAST_PERMUTATIONS = 10


def dime(source: ViewVectors, setting: Setting = PAPER) -> Values:
    """How much more the two views of a prompt share than two views of different prompts do.

    mean over random permutations P of S_alpha(K1 * P K2 P^T) minus S_alpha(K1 * K2), with * the entrywise product and
    K1, K2 the N x N Gram matrices of the unit vectors of view 1 and view 2.

    Of the views the first two are used; the source's options say how many random pairings (10 or more) are drawn with
    which seed. A subset of the prompts has the same pairings as far as it allows: a prompt whose partner is left out
    gets the partner's partner, and so on (the cycle of the permutation is closed over the gap), which is uniform over
    the subset's permutations and leaves all other pairs as they were. The order alpha is in (0, inf]. In the variant
    centered each view's mean over prompts is removed; unit and centered-unit equal paper and centered.

    Returns `subsets` float64, nats, in [-log N, log N]: about 0 for unrelated views, higher is more invariant. NaN with
    fewer than 2 prompts, or where a vector is not finite or has no direction.
    Raises ValueError: fewer than 2 views or 10 permutations, or alpha out of range.
    Paper: Skean et al. 2023 (arXiv 2301.08164), eq. 8. The authors' code switches to D x D covariances where N > D,
    which do not know the pairing; here the matrices are always prompts x prompts.
    """
    return _value_and_error(source, setting)[:, 0]


def dime_standard_error(source: ViewVectors, setting: Setting = PAPER) -> Values:
    """Standard error of `dime` over its random permutations, in nats, [0, inf); NaN where `dime` is, errors as there."""
    return _value_and_error(source, setting)[:, 1]


def _value_and_error(source: ViewVectors, setting: Setting) -> Float64[Tensor, "subsets two"]:
    variant = variant_of(setting)
    spectra = source.once(("dime", variant), lambda: _spectra(source, variant))

    def estimate(own: Tensor) -> Tensor:
        entropy = renyi(shares(own), setting.order)
        random = entropy[1:]
        return torch.stack((random.mean() - entropy[0], random.std() / random.shape[0] ** 0.5))

    return torch.stack(parallel_map(estimate, spectra))


def _spectra(source: ViewVectors, variant: Variant) -> list[Float64[Tensor, "pairings _"]]:
    """Eigenvalues of K1 * P K2 P^T of each subset, of the true pairing first; NaN where its views cannot be compared."""
    options, gram = source.options, source.gram()
    permutations = draw_permutations(source.views.shape[0], options.permutations, options.seed)

    def spectra(kept: Tensor) -> Tensor:
        cosines = within_cosines(gram, kept, variant)
        if cosines is None:
            return torch.full((permutations.shape[0] + 1, 1), torch.nan, dtype=torch.float64)
        first, second = cosines
        orders = torch.cat((torch.arange(kept.shape[0])[None], restrict_permutation(permutations, kept)))
        # One pairing at a time: eleven matrices of the prompts' size are more than all else in memory.
        values = [torch.linalg.eigvalsh(first * second[order[:, None], order]) for order in orders]
        return torch.stack(values).double().clamp(min=0)

    return parallel_map(spectra, list(source.subsets))


def draw_permutations(prompts: int, permutations: int, seed: int) -> Int64[Tensor, "permutations prompts"]:
    """Random pairings from a generator of their own. Raises ValueError for fewer than 10."""
    if permutations < LEAST_PERMUTATIONS:
        raise ValueError(f"expected {LEAST_PERMUTATIONS} or more permutations, got {permutations}")
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randperm(prompts, generator=generator) for _ in range(permutations)])


def restrict_permutation(permutation: Int64[Tensor, "*some prompts"], kept: Subset) -> Int64[Tensor, "*some kept"]:
    """The permutation of the kept prompts that skips those left out; indices are positions in `kept`."""
    position = torch.full((permutation.shape[-1],), -1)
    position[kept] = torch.arange(kept.shape[0])
    partner = permutation[..., kept]
    while bool((position[partner] < 0).any()):
        partner = torch.where(position[partner] < 0, permutation.gather(-1, partner), partner)
    return position[partner]


DIME = Metric(
    name="dime",
    family="dime",
    shape="prompts views dim",
    values=dime,
    reason=view_reason,
    summary="joint entropy of randomly paired views minus that of the true pairs",
    unit="nats",
    range="[-log N, log N]; about 0 for unrelated views",
    direction="higher: more invariant to the augmentation",
    variants=SPECTRAL,
    has_alpha=True,
    paper="Skean et al. 2023 (arXiv 2301.08164)",
)
STANDARD_ERROR = replace(
    DIME,
    name="dime_standard_error",
    values=dime_standard_error,
    summary="standard error of dime over its random permutations",
    range="[0, inf)",
    direction="lower: dime is known more exactly",
    has_interval=False,
)
