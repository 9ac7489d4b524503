"""LiDAR: the rank of what tells prompts apart, measured against what tells the views of one prompt apart."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from layerscope.metrics.metric import PAPER, Metric, Setting, Subset, Values
from layerscope.metrics.sources import ViewVectors
from layerscope.metrics.spectrum import SPECTRAL, Spectrum, Variant, entropies, unit, variant_of
from layerscope.metrics.workers import parallel_map

Views = Float[Tensor, "prompts views dim"]
# Of trace(W) to delta: above it rounding of the squares (1e-16 of the trace) comes near delta itself, and W is
# factored from its rows, without squaring them: 10 times slower.
_CHOLESKY_LIMIT = 1e11
# Prompts whose views are held in float64 at once.
_TOGETHER = 16
# Columns of the scatter that one worker sums, the same however many workers there are.
_COLUMNS = 512


def lidar(source: ViewVectors, setting: Setting = PAPER) -> Values:
    """Over how many directions prompts differ, each direction weighed by how little its views vary, as an entropy.

    S_1 of the eigenvalues of W^(-1/2) B W^(-1/2), with B the covariance of the prompts' mean vectors and W the mean
    covariance of the views around them plus delta I.

    All views are used (J = 16 in the paper's comparisons), and delta of the source's options. The scatter of the
    prompts that a subset leaves out is subtracted from the whole. In the variants centered and centered-unit each
    view's mean over prompts is removed.

    Returns `subsets` float64, nats, in [0, log min(N - 1, D)]; NaN with fewer than 2 prompts or where a vector is not
    finite or all prompts' means are the same.
    Raises ValueError: fewer than 2 views, or a delta that is not above 0.
    Paper: Thilak et al. 2023 (arXiv 2312.04000), eq. 1 to 4, without their epsilon inside the logarithm.
    """
    variant = variant_of(setting)
    return source.once(("lidar", variant), lambda: entropies(_spectra(source, variant), 1.0))


def lidar_rank(source: ViewVectors, setting: Setting = PAPER) -> Values:
    """LiDAR as a number of directions, exp(S_1): `subsets` float64, in [1, min(N - 1, D)].

    Arguments, NaN and errors as in `lidar`. Paper: Thilak et al. 2023 (arXiv 2312.04000), eq. 4.
    """
    return lidar(source, setting).exp()


def lidar_reason(views: Views, _: Setting = PAPER) -> str:
    """Why a LiDAR is NaN."""
    if views.shape[0] < 2:
        return f"{views.shape[0]} prompts: a covariance between prompts needs 2"
    return "non-finite vectors" if not bool(views.isfinite().all()) else "the mean vectors of all prompts are the same"


def _spectra(source: ViewVectors, variant: Variant) -> list[Spectrum]:
    """Non-zero eigenvalues of W^(-1/2) B W^(-1/2) for each subset, min(n, dim) each; empty where undefined."""
    views, delta = source.views.cpu(), source.options.delta
    if views.shape[1] < 2:
        raise ValueError(f"expected 2 or more views a prompt, got {views.shape[1]}")
    if not delta > 0:
        raise ValueError(f"expected a delta above 0, got {delta}")
    usable = views.amax((1, 2)).isfinite() & views.amin((1, 2)).isfinite()
    # Centred rows change with the subset, and their unit vectors with them: nothing can be shared there.
    shared = None if variant == "centered-unit" else _Scatter(views, usable, scaled=variant == "unit")

    def spectrum(kept: Tensor) -> Tensor:
        if kept.shape[0] < 2 or not bool(usable[kept].all()):
            return torch.empty(0, dtype=torch.float64)
        if shared is not None:
            return _eigenvalues(shared, kept, delta, centered=variant == "centered")
        part = views[kept].to(torch.float64)
        own = _Scatter(unit(part - part.mean(0)), usable[kept], scaled=False)
        return _eigenvalues(own, torch.arange(kept.shape[0]), delta, centered=False)

    return parallel_map(spectrum, list(source.subsets))


class _Scatter:
    """The views' scatter around their prompt's mean, of any subset of the prompts.

    float64 is made of a few prompts at a time: the views themselves are the largest thing in memory here.
    """

    def __init__(self, views: Views, usable: Bool[Tensor, " prompts"], *, scaled: bool) -> None:
        self.views = views
        self.scaled = scaled
        self.usable = usable
        pieces = torch.split(torch.arange(views.shape[0]), _TOGETHER)
        self.means = torch.cat(parallel_map(lambda some: self._rows(some).mean(1), pieces))
        self.total = self._sum(torch.arange(views.shape[0]))

    def residuals(self, which: Subset) -> Float64[Tensor, "some views dim"]:
        """The views of some prompts around their mean; zero for prompts that are not usable."""
        return self._rows(which) - self.means[which].unsqueeze(1)

    def offsets(self, which: Subset) -> Float64[Tensor, "views dim"]:
        """Mean residual of each view over some prompts."""
        total = sum((self.residuals(some).sum(0) for some in torch.split(which, _TOGETHER)), torch.tensor(0.0))
        return total / which.shape[0]

    def within(self, kept: Subset) -> Float64[Tensor, "dim dim"]:
        """The sum over the kept prompts: the whole minus those left out, where these are fewer."""
        missing = torch.ones(self.means.shape[0]).index_fill(0, kept, 0).nonzero().flatten()
        if missing.shape[0] >= kept.shape[0]:
            return self._sum(kept)
        return self.total - self._sum(missing) if missing.shape[0] else self.total

    def _rows(self, which: Subset) -> Float64[Tensor, "some views dim"]:
        rows = self.views[which].to(torch.float64).where(self.usable[which][:, None, None], 0.0)
        return unit(rows) if self.scaled else rows

    def _sum(self, which: Subset) -> Float64[Tensor, "dim dim"]:
        dim = self.views.shape[-1]

        def part(start: int) -> Tensor:
            scatter = torch.zeros(min(_COLUMNS, dim - start), dim, dtype=torch.float64)
            for some in torch.split(which, _TOGETHER):
                flat = self.residuals(some).flatten(0, 1)
                scatter.addmm_(flat[:, start : start + _COLUMNS].mT, flat)
            return scatter

        return torch.cat(parallel_map(part, range(0, dim, _COLUMNS)))


def _eigenvalues(scatter: _Scatter, kept: Subset, delta: float, *, centered: bool) -> Spectrum:
    means = scatter.means[kept]
    prompts, (views, dim) = kept.shape[0], scatter.views.shape[1:]
    if not bool((means != means[0]).any()):
        return torch.zeros(min(prompts, dim), dtype=torch.float64)
    within = scatter.within(kept)
    # Each view's own mean over prompts, as it stands out of the prompts' mean.
    offsets = scatter.offsets(kept) if centered else torch.zeros(views, dim, dtype=torch.float64)
    if centered:
        within = within - prompts * offsets.mT @ offsets
    covariance = within / (prompts * views)
    if float(covariance.trace()) < _CHOLESKY_LIMIT * delta:
        covariance.diagonal().add_(delta)
        factor = torch.linalg.cholesky(covariance)
    else:
        rows = (scatter.residuals(kept) - offsets).flatten(0, 1) / (prompts * views) ** 0.5
        ridge = torch.eye(dim, dtype=torch.float64) * delta**0.5
        factor = torch.linalg.qr(torch.cat((rows, ridge)), mode="r").R.mT
    spread = means - means.mean(0)
    whitened = torch.linalg.solve_triangular(factor, spread.mT, upper=False)
    # Only the smaller side: B has no more than N - 1 non-zero eigenvalues.
    small = whitened.mT @ whitened if prompts <= dim else whitened @ whitened.mT
    values: Tensor = torch.linalg.eigvalsh(small / prompts).flip(0).clamp(min=0)
    return values


LIDAR = Metric(
    name="lidar",
    family="lidar",
    shape="prompts views dim",
    values=lidar,
    reason=lidar_reason,
    summary="entropy of the directions that tell prompts apart, relative to how views of one prompt vary",
    unit="nats",
    range="[0, log min(N - 1, D)]",
    direction="higher: more directions tell prompts apart",
    variants=SPECTRAL,
    needs="all views",
    paper="Thilak et al. 2023 (arXiv 2312.04000), eq. 1 to 4",
)
RANK = replace(
    LIDAR,
    name="lidar_rank",
    values=lidar_rank,
    summary="exp of lidar: the number of directions that tell prompts apart",
    unit="directions",
    range="[1, min(N - 1, D)]",
    paper="Thilak et al. 2023 (arXiv 2312.04000), eq. 4",
)
