"""LiDAR: the rank of what tells prompts apart, measured against what tells the views of one prompt apart."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from layerscope.metrics.prompts import stack_rows
from layerscope.metrics.spectrum import renyi, shares, unit
from layerscope.metrics.subsets import everything
from layerscope.metrics.views import ViewVariant
from layerscope.metrics.workers import parallel_map

DELTA = 1e-4
# Of trace(W) to delta: above it rounding of the squares (1e-16 of the trace) comes near delta itself, and W is
# factored from its rows, without squaring them: 10 times slower.
_CHOLESKY_LIMIT = 1e11


def lidar(
    views: Float[Tensor, "prompts views dim"], *, variant: ViewVariant = "paper", delta: float = DELTA
) -> Float64[Tensor, ""]:
    """Over how many directions prompts differ, each direction weighed by how little its views vary, as an entropy.

    S_1 of the eigenvalues of W^(-1/2) B W^(-1/2), with B the covariance of the prompts' mean vectors and W the mean
    covariance of the views around them plus delta I.

    Args:
        views: `prompts views dim`; all views are used (J = 16 in the paper's comparisons).
        variant: paper, centered (each view's mean over prompts removed), unit (rows of norm 1), centered-unit.
        delta: ridge of W, absolute, in the squared units of the states.

    Returns:
        Scalar float64, nats, in [0, log min(N - 1, D)]; NaN with fewer than 2 prompts or where a vector is not finite
        or all prompts' means are the same.

    Raises:
        ValueError: fewer than 2 views, or a delta that is not above 0.

    Paper: Thilak et al. 2023 (arXiv 2312.04000), eq. 1 to 4, without their epsilon inside the logarithm.
    """
    return lidar_of_subsets(views, everything(views), variant=variant, delta=delta)[0]


def lidar_of_subsets(
    views: Float[Tensor, "prompts views dim"],
    subsets: Sequence[Int64[Tensor, " _"]],
    *,
    variant: ViewVariant = "paper",
    delta: float = DELTA,
) -> Float64[Tensor, " subsets"]:
    """`lidar` of each subset of the prompts; the scatter of the prompts left out is subtracted from the whole."""
    return renyi(shares(lidar_eigenvalues(views, subsets, variant=variant, delta=delta)), 1.0)


def lidar_rank(
    views: Float[Tensor, "prompts views dim"], *, variant: ViewVariant = "paper", delta: float = DELTA
) -> Float64[Tensor, ""]:
    """LiDAR as a number of directions.

    exp(S_1), S_1 as in `lidar`.

    Args:
        views: `prompts views dim`; all views are used.
        variant: as in `lidar`.
        delta: as in `lidar`.

    Returns:
        Scalar float64, a number of directions in [1, min(N - 1, D)]; NaN where `lidar` is.

    Raises:
        ValueError: fewer than 2 views, or a delta that is not above 0.

    Paper: Thilak et al. 2023 (arXiv 2312.04000), eq. 4.
    """
    return lidar(views, variant=variant, delta=delta).exp()


def lidar_rank_of_subsets(
    views: Float[Tensor, "prompts views dim"],
    subsets: Sequence[Int64[Tensor, " _"]],
    *,
    variant: ViewVariant = "paper",
    delta: float = DELTA,
) -> Float64[Tensor, " subsets"]:
    """`lidar_rank` of each subset of the prompts."""
    return lidar_of_subsets(views, subsets, variant=variant, delta=delta).exp()


def lidar_eigenvalues(
    views: Float[Tensor, "prompts views dim"],
    subsets: Sequence[Int64[Tensor, " _"]],
    *,
    variant: ViewVariant = "paper",
    delta: float = DELTA,
) -> Float64[Tensor, "subsets k"]:
    """Non-zero eigenvalues of W^(-1/2) B W^(-1/2) for each subset, k = min(prompts, dim); NaN where undefined."""
    prompts, count, dim = views.shape
    if count < 2:
        raise ValueError(f"expected 2 or more views a prompt, got {count}")
    if not delta > 0:
        raise ValueError(f"expected a delta above 0, got {delta}")
    exact = views.cpu().to(torch.float64)
    usable = exact.isfinite().all(-1).all(-1)
    # Centred rows change with the subset, and their unit vectors with them: nothing can be shared there.
    rows = unit(exact) if variant == "unit" else exact
    shared = None if variant == "centered-unit" else _Scatter(rows.where(usable[:, None, None], 0.0))

    def spectrum(kept: Tensor) -> Tensor:
        if kept.shape[0] < 2 or not bool(usable[kept].all()):
            return torch.empty(0, dtype=torch.float64)
        if shared is not None:
            return _eigenvalues(shared, kept, delta, centered=variant == "centered")
        part = exact[kept]
        return _eigenvalues(_Scatter(unit(part - part.mean(0))), torch.arange(kept.shape[0]), delta, centered=False)

    return stack_rows(parallel_map(spectrum, list(subsets)), max(1, min(prompts, dim)))


class _Scatter:
    """The views' scatter around their prompt's mean, of any subset of the prompts."""

    def __init__(self, rows: Float64[Tensor, "prompts views dim"]) -> None:
        self.means = rows.mean(1)
        self.residuals = rows - self.means.unsqueeze(1)
        self.total = self._sum(self.residuals)

    @staticmethod
    def _sum(residuals: Float64[Tensor, "prompts views dim"]) -> Float64[Tensor, "dim dim"]:
        flat = residuals.flatten(0, 1)
        scatter: Tensor = flat.mT @ flat
        return scatter

    def within(self, kept: Int64[Tensor, " kept"]) -> Float64[Tensor, "dim dim"]:
        """The sum over the kept prompts: the whole minus those left out, where these are fewer."""
        left_out = torch.ones(self.means.shape[0], dtype=torch.bool)
        left_out[kept] = False
        missing = int(left_out.sum())
        if missing == 0:
            return self.total
        if missing < kept.shape[0]:
            return self.total - self._sum(self.residuals[left_out])
        return self._sum(self.residuals[kept])


def _eigenvalues(
    scatter: _Scatter, kept: Int64[Tensor, " kept"], delta: float, *, centered: bool
) -> Float64[Tensor, " k"]:
    means = scatter.means[kept]
    prompts, (views, dim) = kept.shape[0], scatter.residuals.shape[1:]
    if not bool((means != means[0]).any()):
        return torch.zeros(min(prompts, dim), dtype=torch.float64)
    within = scatter.within(kept)
    # Each view's own mean over prompts, as it stands out of the prompts' mean.
    offsets = scatter.residuals[kept].mean(0) if centered else torch.zeros(views, dim, dtype=torch.float64)
    if centered:
        within = within - prompts * offsets.mT @ offsets
    covariance = within / (prompts * views)
    if float(covariance.trace()) < _CHOLESKY_LIMIT * delta:
        ridged = covariance.clone()
        ridged.diagonal().add_(delta)
        factor = torch.linalg.cholesky(ridged)
    else:
        rows = (scatter.residuals[kept] - offsets).flatten(0, 1) / (prompts * views) ** 0.5
        ridge = torch.eye(dim, dtype=torch.float64) * delta**0.5
        factor = torch.linalg.qr(torch.cat((rows, ridge)), mode="r").R.mT
    spread = means - means.mean(0)
    whitened = torch.linalg.solve_triangular(factor, spread.mT, upper=False)
    # Only the smaller side: B has no more than N - 1 non-zero eigenvalues.
    small = whitened.mT @ whitened if prompts <= dim else whitened @ whitened.mT
    values: Tensor = torch.linalg.eigvalsh(small / prompts).flip(0).clamp(min=0)
    return values
