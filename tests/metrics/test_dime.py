import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.metrics import reference
from tests.metrics.inputs import leave_out, normal, orthonormal

from layerscope.metrics import dime as door
from layerscope.metrics.dime import draw_permutations, restrict_permutation
from layerscope.metrics.metric import Setting
from layerscope.metrics.sources import ViewOptions, ViewVectors


def dime(views, subsets=None, alpha=1.0, variant="paper", **options):
    """The values and their standard errors."""
    source, setting = ViewVectors(views, subsets, ViewOptions(**options)), Setting(variant, alpha)
    return door.dime(source, setting), door.dime_standard_error(source, setting)


def paired(prompts, dim, noise, seed=0):
    base = normal(prompts, 1, dim, seed=seed) + normal(dim, seed=seed + 1)
    return (base + noise * normal(prompts, 2, dim, seed=seed + 2)).float()


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0, math.inf])
def test_the_pairing_is_seen_and_a_shuffled_one_is_not(alpha):
    views = paired(60, 12, 0.3)
    shuffled = views.clone()
    shuffled[:, 1] = views[torch.randperm(60, generator=torch.Generator().manual_seed(5)), 1]
    for variant in ("paper", "centered"):
        true, random = (dime(v, alpha=alpha, permutations=40, variant=variant) for v in (views, shuffled))
        assert true[0] > 10 * true[1] > 0
        # Three standard errors of a draw of its own: the shuffled pairing is one more random permutation.
        assert abs(random[0]) <= 3 * random[1] * math.sqrt(40)
        assert abs(random[0]) < true[0] / 5


def test_unrelated_views_are_within_three_standard_errors_of_zero():
    means = [dime(normal(40, 2, 16, seed=seed), permutations=10)[0].item() for seed in range(0, 300, 10)]
    assert abs(np.mean(means)) <= 3 * np.std(means, ddof=1) / math.sqrt(len(means))


def test_wide_dim_and_more_prompts_than_dim_both_see_the_pairing():
    for prompts, dim in ((20, 64), (64, 20)):
        value, error = dime(paired(prompts, dim, 0.2))
        assert value > 5 * error


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 12), st.integers(2, 9))
def test_it_is_bounded_and_rotation_and_scale_leave_it(seed, prompts, dim):
    views = normal(prompts, 2, dim, seed=seed)
    here = dime(views, seed=seed)[0].item()
    assert abs(here) <= math.log(prompts) + 1e-6
    assert dime(-2.5 * views @ orthonormal(dim, dim, seed), seed=seed)[0].item() == pytest.approx(here, abs=1e-4)


@pytest.mark.parametrize("variant", ["paper", "centered", "unit", "centered-unit"])
@pytest.mark.parametrize("alpha", [1.0, 2.0, math.inf])
@pytest.mark.parametrize(("prompts", "dim"), [(24, 50), (50, 24)])
def test_it_agrees_with_the_reference(variant, alpha, prompts, dim):
    views = paired(prompts, dim, 0.5)
    found = dime(views, alpha=alpha, seed=3, variant=variant)
    drawn = draw_permutations(prompts, 10, 3).numpy()
    value, error = reference.dime(views, drawn, alpha, variant)
    assert [one.item() for one in found] == pytest.approx([value, error], abs=1e-4)


def test_more_prompts_than_are_cut_at_once_agree_with_the_reference():
    views = paired(300, 24, 0.5)
    value, error = reference.dime(views, draw_permutations(300, 10, 0).numpy())
    found = dime(views)
    assert [one.item() for one in found] == pytest.approx([value, error], abs=1e-4)


def test_subsets_use_the_restricted_permutations():
    views = paired(24, 30, 0.5)
    subsets = [torch.arange(24), *leave_out(24, 4)]
    found = dime(views, subsets, seed=1)
    drawn = draw_permutations(24, 10, 1)
    for index, kept in enumerate(subsets):
        orders = restrict_permutation(drawn, kept).numpy()
        value, error = reference.dime(views[kept], orders)
        assert [one[index].item() for one in found] == pytest.approx([value, error], abs=1e-4)
    assert all(torch.equal(whole, own[:1]) for whole, own in zip(dime(views, seed=1), found, strict=True))


@given(st.integers(0, 10**6), st.integers(1, 20), st.data())
@settings(deadline=None)
def test_a_restricted_permutation_is_one_and_keeps_all_other_pairs(seed, prompts, data):
    drawn = draw_permutations(prompts, 10, seed)
    kept = torch.tensor(sorted(data.draw(st.sets(st.integers(0, prompts - 1), min_size=1))))
    restricted = restrict_permutation(drawn, kept)
    assert torch.equal(restricted.sort(-1).values, torch.arange(len(kept)).expand(10, -1))
    partner = kept[restricted]
    stays = torch.isin(drawn[:, kept], kept)
    assert torch.equal(partner[stays], drawn[:, kept][stays])


def test_draws_are_seeded_and_leave_the_global_generator_alone():
    state = torch.get_rng_state()
    views = paired(12, 8, 0.5)
    one, two, other = (dime(views, seed=seed)[0].item() for seed in (7, 7, 8))
    assert one == two != other
    assert torch.equal(torch.get_rng_state(), state)


def test_nan_for_a_bad_vector_and_for_one_prompt():
    views = paired(6, 5, 0.1)
    views[2, 0, 0] = math.nan
    values, errors = dime(views, [torch.arange(6), torch.tensor([0, 1, 3]), torch.tensor([4])])
    assert values.isnan().tolist() == errors.isnan().tolist() == [True, False, True]


def test_too_few_permutations_are_refused():
    with pytest.raises(ValueError, match="expected 10 or more permutations, got 9"):
        dime(paired(4, 4, 0.1), permutations=9)
