import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.metrics import reference
from tests.metrics.inputs import leave_out, normal, orthonormal

from layerscope.metrics.infonce import infonce, infonce_bound, infonce_chance
from layerscope.metrics.metric import Setting
from layerscope.metrics.sources import ViewOptions, ViewVectors, view_reason

VARIANTS = ("paper", "centered", "unit", "centered-unit")


def paired(prompts, dim, noise, views=2, seed=0):
    base = normal(prompts, 1, dim, seed=seed) + normal(dim, seed=seed + 1)
    return (base + noise * normal(prompts, views, dim, seed=seed + 2)).float()


@pytest.mark.parametrize("prompts", [2, 5, 16])
@pytest.mark.parametrize("temperature", [0.05, 0.1, 1.0])
def test_identical_orthonormal_views_have_the_closed_form(prompts, temperature):
    views = orthonormal(prompts, 24)[:, None].repeat(1, 2, 1)
    expected = math.log(1 + (2 * prompts - 2) * math.exp(-1 / temperature))
    source = ViewVectors(views, options=ViewOptions(temperature))
    assert infonce(source).item() == pytest.approx(expected, abs=1e-10)
    assert infonce_bound(source).item() == pytest.approx(math.log(2 * prompts - 1) - expected, abs=1e-10)


def test_vectors_that_are_all_the_same_are_at_chance():
    views = normal(1, 1, 9).repeat(6, 2, 1)
    source = ViewVectors(views, [torch.arange(6), torch.tensor([2])])
    for read, level in ((infonce, math.log(11)), (infonce_chance, math.log(11)), (infonce_bound, 0)):
        assert read(source).tolist() == pytest.approx([level, math.nan], abs=1e-9, nan_ok=True)
    assert infonce(source, Setting("centered")).isnan().all()
    assert "no direction is left after centring" in view_reason(views, Setting("centered"))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 9), st.integers(2, 9), st.sampled_from(VARIANTS))
def test_it_is_bounded_and_rotation_scale_and_order_leave_it(seed, prompts, dim, variant):
    views = normal(prompts, 2, dim, seed=seed)
    here = infonce(ViewVectors(views), Setting(variant)).item()
    assert 0 < here <= math.log(2 * prompts - 1) + 20
    order = torch.randperm(prompts, generator=torch.Generator().manual_seed(seed))
    moved = (-3 * views @ orthonormal(dim, dim, seed + 1))[order].flip(1)
    assert infonce(ViewVectors(moved), Setting(variant)).item() == pytest.approx(here, abs=1e-8)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("prompts", "dim"), [(12, 30), (30, 12), (150, 12)])
def test_it_agrees_with_the_reference_and_its_subsets(variant, prompts, dim):
    views = paired(prompts, dim, 0.5, views=3)
    subsets = [torch.arange(prompts), *leave_out(prompts, 4)]
    source = ViewVectors(views, subsets)
    found = infonce(source, Setting(variant))
    expected = [reference.infonce(views[kept], variant=variant) for kept in subsets]
    assert found.tolist() == pytest.approx(expected, abs=1e-9)
    assert torch.equal(infonce(ViewVectors(views), Setting(variant)), found[:1])
    bounds = infonce_bound(source, Setting(variant))
    assert (bounds + found).tolist() == pytest.approx([math.log(2 * len(kept) - 1) for kept in subsets])


def test_noisier_views_have_a_higher_loss():
    losses = [infonce(ViewVectors(paired(40, 20, noise))).item() for noise in (0.1, 0.5, 2.0)]
    assert losses == sorted(losses)


def test_nan_with_a_reason():
    views = paired(6, 5, 0.1)
    zero, infinite = views.clone(), views.clone()
    zero[3, 1], infinite[3, 1, 2] = 0, math.inf
    reasons = {
        "1 prompts: views are compared between 2 or more": views[:1],
        "a zero vector has no direction": zero,
        "non-finite vectors": infinite,
    }
    for reason, bad in reasons.items():
        assert infonce(ViewVectors(bad)).isnan()
        assert view_reason(bad) == reason
    without = torch.tensor([0, 1, 2, 4, 5])
    found = infonce(ViewVectors(infinite, [without]))
    assert found.item() == pytest.approx(reference.infonce(views[without]), abs=1e-9)
    assert view_reason(views, Setting("centered")) == ""


def test_impossible_requests_are_refused():
    with pytest.raises(ValueError, match=r"expected a temperature above 0, got 0\.0"):
        infonce(ViewVectors(paired(3, 4, 0.1), options=ViewOptions(0.0)))
    with pytest.raises(ValueError, match="expected 2 or more views a prompt, got 1"):
        infonce(ViewVectors(paired(3, 4, 0.1, views=1)))
    for read in (infonce, infonce_bound):
        with pytest.raises(ValueError, match=r"expected one of the variants paper, .*, got 'released'"):
            read(ViewVectors(paired(3, 4, 0.1)), Setting("released"))
