import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.metrics import reference
from tests.metrics.inputs import leave_out, normal, orthonormal

from layerscope.metrics import lidar as door
from layerscope.metrics.lidar import lidar_rank
from layerscope.metrics.metric import Setting
from layerscope.metrics.sources import ViewOptions, ViewVectors

VARIANTS = ("paper", "centered", "unit", "centered-unit")


def lidar(views, subsets=None, variant="paper", **options):
    return door.lidar(ViewVectors(views, subsets, ViewOptions(**options)), Setting(variant))


def viewed(prompts, views, dim, noise=0.5, seed=0):
    base = normal(prompts, 1, dim, seed=seed) * torch.arange(1, dim + 1) ** -0.5 + normal(dim, seed=seed + 1)
    return base + noise * normal(prompts, views, dim, seed=seed + 2)


@pytest.mark.parametrize("prompts", [2, 5, 9])
def test_prompts_at_the_corners_of_a_simplex_have_the_log_of_one_less(prompts):
    # Orthonormal means and views that do not vary: N - 1 equal eigenvalues.
    views = orthonormal(prompts, 12)[:, None].repeat(1, 4, 1)
    assert lidar(views).item() == pytest.approx(math.log(prompts - 1), abs=1e-9)
    assert lidar_rank(ViewVectors(views)).item() == pytest.approx(prompts - 1, abs=1e-8)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 8), st.integers(2, 5), st.integers(1, 8))
def test_it_is_bounded_and_rotation_and_order_leave_it(seed, prompts, count, dim):
    views = viewed(prompts, count, dim, seed=seed)
    here = lidar(views).item()
    assert -1e-12 <= here <= math.log(min(prompts - 1, dim)) + 1e-9
    order = torch.randperm(prompts, generator=torch.Generator().manual_seed(seed))
    moved = (views @ orthonormal(dim, dim, seed + 1) + normal(dim, seed=seed + 3))[order].flip(1)
    assert lidar(moved).item() == pytest.approx(here, abs=1e-7)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("prompts", "count", "dim"), [(12, 4, 40), (40, 4, 12), (12, 16, 20)])
def test_it_agrees_with_the_reference_and_its_subsets(variant, prompts, count, dim):
    views = viewed(prompts, count, dim).float()
    subsets = [torch.arange(prompts), *leave_out(prompts, 4), torch.arange(4)]
    found = lidar(views, subsets, variant)
    expected = [reference.lidar(views[kept], variant) for kept in subsets]
    assert found.tolist() == pytest.approx(expected, abs=1e-7)
    assert torch.equal(lidar_rank(ViewVectors(views, subsets), Setting(variant)), found.exp())
    assert torch.equal(lidar(views, variant=variant), found[:1])


def test_delta_is_absolute():
    views = viewed(10, 4, 6)
    assert lidar(views, delta=0.3).item() == pytest.approx(reference.lidar(views, delta=0.3), abs=1e-9)


@pytest.mark.parametrize("variant", ["paper", "centered"])
def test_a_huge_singular_scatter_keeps_its_digits(variant):
    # N J < D and a delta of 1e-20 of the scatter: only what lies outside of the views' own directions counts.
    views = viewed(6, 3, 40)
    moved = views - views.mean(0) if variant == "centered" else views
    within = (moved - moved.mean(1, keepdim=True)).flatten(0, 1)
    singular = torch.linalg.svd(within, full_matrices=True)
    outside = singular.Vh[int((singular.S > 1e-9).sum()) :]
    means = moved.mean(1)
    spectrum = torch.linalg.svdvals((means - means.mean(0)) @ outside.mT).square()
    expected = reference.entropy((spectrum / spectrum.sum()).numpy(), 1)
    assert lidar(views * 1e8, variant=variant).item() == pytest.approx(expected, abs=1e-4)


def test_both_factorisations_agree_where_they_meet():
    views = viewed(12, 4, 20)
    trace = float((views - views.mean(1, keepdim=True)).square().sum() / 48)
    below, above = (lidar(views, delta=trace / 1e11 * factor).item() for factor in (1.001, 0.999))
    assert below == pytest.approx(above, abs=1e-6)


def test_nan_without_a_spread_between_prompts():
    views = viewed(6, 3, 5)
    bad = views.clone()
    bad[1, 2, 3] = math.inf
    assert lidar(views[:1]).isnan()
    assert lidar(views[:1].repeat(4, 1, 1)).isnan()
    found = lidar(bad, [torch.arange(6), torch.tensor([0, 2, 3, 4])])
    assert found[0].isnan()
    assert found[1].item() == pytest.approx(reference.lidar(views[[0, 2, 3, 4]]), abs=1e-8)


def test_impossible_requests_are_refused():
    with pytest.raises(ValueError, match="expected 2 or more views a prompt, got 1"):
        lidar(viewed(4, 1, 3))
    with pytest.raises(ValueError, match=r"expected a delta above 0, got 0\.0"):
        lidar(viewed(4, 2, 3), delta=0.0)
