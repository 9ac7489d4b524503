import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.metrics import reference
from tests.metrics.inputs import massive, normal, orthonormal, ragged, with_spectrum

from layerscope.metrics.entropy import prompt_entropy
from layerscope.metrics.metric import Setting
from layerscope.metrics.sources import TokenStates
from layerscope.metrics.spectrum import degenerate_reason, renyi, shares

VARIANTS = ("paper", "centered", "unit", "centered-unit", "released")
ALPHAS = (0.5, 1.0, 1.5, 2.0, 5.0, math.inf)


def entropies(states, variant="paper", precision="float32", alphas=ALPHAS):
    source = TokenStates(states, precision=precision)
    return [prompt_entropy(source, Setting(variant, alpha)).item() for alpha in alphas]


def eigenvalues(states, variant="paper", precision="float32"):
    return TokenStates(states).spectra(variant, precision)[0]


# Closed forms


@pytest.mark.parametrize("alpha", [0.3, *ALPHAS, 1000.0])
@pytest.mark.parametrize(("rows", "dim"), [(7, 20), (20, 20), (1, 5)])
def test_orthonormal_rows_have_the_log_of_their_number(alpha, rows, dim):
    states = orthonormal(rows, dim)
    assert entropies(states, alphas=[alpha])[0] == pytest.approx(math.log(rows), abs=1e-5)
    assert entropies(states, precision="float64", alphas=[alpha])[0] == pytest.approx(math.log(rows), abs=1e-10)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_identical_rows_have_entropy_zero_and_none_when_centered(alpha):
    states = normal(1, 33, seed=3, dtype=torch.float32).repeat(11, 1) * 1234.5
    assert entropies(states, alphas=[alpha])[0] == pytest.approx(0, abs=1e-5)
    for variant in ("centered", "centered-unit", "released"):
        for precision in ("float32", "float64"):
            assert math.isnan(entropies(states, variant, precision, [alpha])[0])
            assert "identical rows" in degenerate_reason(states, Setting(variant))
    assert degenerate_reason(states) == ""


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("repeats", [2, 9])
def test_repeated_directions_count_once(alpha, repeats):
    states = orthonormal(5, 24).repeat(repeats, 1)
    assert entropies(states, alphas=[alpha])[0] == pytest.approx(math.log(5), abs=2e-5)
    assert entropies(states, precision="float64", alphas=[alpha])[0] == pytest.approx(math.log(5), abs=1e-10)


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize(("rows", "dim"), [(30, 50), (50, 30)])
def test_power_law_spectra_have_the_entropy_of_the_spectrum(beta, rows, dim):
    values = np.arange(1, 31) ** -beta
    states = with_spectrum(values, rows, dim)
    for alpha, found, exact in zip(ALPHAS, entropies(states), entropies(states, precision="float64"), strict=True):
        expected = reference.entropy(values / values.sum(), alpha)
        assert found == pytest.approx(expected, abs=2e-5)
        assert exact == pytest.approx(expected, abs=1e-10)


# Theorems


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(2, 12), st.sampled_from(ALPHAS), st.integers(-30, 30))
def test_rotation_permutation_and_scale_change_nothing(seed, tokens, dim, alpha, exponent):
    states = normal(tokens, dim, seed=seed)
    order = torch.randperm(tokens, generator=torch.Generator().manual_seed(seed))
    moved = (states @ orthonormal(dim, dim, seed + 1))[order] * -(10.0 ** (exponent / 2))
    for precision, tolerance in (("float32", 1e-4), ("float64", 1e-9)):
        here, there = (entropies(z, precision=precision, alphas=[alpha])[0] for z in (states, moved))
        assert there == pytest.approx(here, abs=tolerance)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20).filter(lambda p: sum(p) > 1e-3))
def test_entropy_is_bounded_and_falls_with_alpha(values):
    p = shares(torch.tensor(values, dtype=torch.float64))
    found = [
        renyi(p, alpha).item() for alpha in (1e-3, 0.5, 0.95, 1 - 1e-9, 1.0, 1 + 1e-9, 1.05, 2.0, 50.0, 1e6, math.inf)
    ]
    assert all(0 <= s <= math.log(len(values)) + 1e-9 for s in found)
    assert all(left >= right - 1e-9 for left, right in itertools.pairwise(found))


@pytest.mark.parametrize("distance", [1e-15, 1e-12, 1e-9, 1e-6, 1e-4])
def test_entropy_near_alpha_one_keeps_its_digits(distance):
    p = shares(torch.arange(1, 400, dtype=torch.float64) ** -1.3)
    slope = 5.0  # of S_alpha at 1: half the variance of log p, below 5 here
    for alpha in (1 - distance, 1 + distance):
        assert renyi(p, alpha).item() == pytest.approx(renyi(p, 1.0).item(), abs=slope * distance + 1e-12)


def test_the_two_formulas_meet_where_one_takes_over():
    p = shares(torch.arange(1, 400, dtype=torch.float64) ** -1.3)
    for alpha in (0.9, 1.1):
        inner, outer = (renyi(p, alpha + sign * 1e-12).item() for sign in (-1, 1))
        assert inner == pytest.approx(outer, abs=1e-10)
        assert inner == pytest.approx(reference.entropy(p.numpy(), alpha), abs=1e-10)


def test_entropy_of_an_empty_share_and_of_a_huge_order():
    p = torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64)
    for alpha in (1e-6, 0.5, 0.99, 1.0, 1.01, 3.0, 1e300, math.inf):
        assert renyi(p, alpha).item() == pytest.approx(math.log(2), abs=1e-9)


@pytest.mark.parametrize("alpha", [0.0, -1.0, math.nan])
def test_an_order_that_is_not_positive_is_refused(alpha):
    with pytest.raises(ValueError, match=r"expected an order alpha in \(0, inf\], got"):
        renyi(torch.ones(1, dtype=torch.float64), alpha)


# Agreement with an independent computation: 1e-4 nats in float32 on anything, 1e-10 in float64


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("tokens", "dim"), [(12, 40), (40, 12), (31, 31), (2, 9)])
def test_every_variant_agrees_with_the_reference(variant, tokens, dim):
    states = normal(tokens, dim, seed=tokens) * torch.linspace(0.1, 3, dim).double() + 2 * normal(dim, seed=5)
    p = reference.distribution(states, variant)
    expected = [reference.entropy(p, alpha) for alpha in ALPHAS]
    assert entropies(states.float(), variant) == pytest.approx(expected, abs=2e-5)
    assert entropies(states, variant, "float64") == pytest.approx(expected, abs=1e-10)


def adversarial():
    yield "first token 168x", massive(109, 256)
    yield "first token 5000x", massive(109, 256, 5000.0)
    yield "first token 168x, tokens > dim", massive(300, 96)
    for p_max in (0.9, 0.99, 0.999, 0.9999, 0.99999):
        for tokens, dim in ((80, 256), (160, 64)):
            side = min(tokens, dim)
            values = np.concatenate(([p_max], np.full(side - 1, (1 - p_max) / (side - 1))))
            yield f"p_max {p_max}, {tokens} x {dim}", with_spectrum(values, tokens, dim).float() * 27000
    yield "a mean a thousand times the spread", (normal(80, 200) + 1000 * normal(200, seed=9)).float()
    yield "repeated tokens", normal(40, 128, dtype=torch.float32)[torch.arange(100) % 40]


@pytest.mark.parametrize(("name", "states"), list(adversarial()))
@pytest.mark.parametrize("variant", VARIANTS[:4])
def test_precision_holds_on_massive_activations(name, states, variant):
    p = reference.distribution(states, variant)
    expected = [reference.entropy(p, alpha) for alpha in ALPHAS]
    assert entropies(states, variant) == pytest.approx(expected, abs=1e-4)
    assert entropies(states, variant, "float64") == pytest.approx(expected, abs=1e-10)


def test_low_precision_states_are_converted_before_the_product():
    states = massive(60, 128).to(torch.bfloat16)
    expected = reference.prompt_entropy(states.double())
    assert entropies(states, alphas=[1.0])[0] == pytest.approx(expected, abs=2e-5)
    huge = (massive(60, 128) * 100).clamp(-6e4, 6e4).half()
    assert entropies(huge, alphas=[1.0])[0] == pytest.approx(reference.prompt_entropy(huge.double()), abs=1e-4)


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e-12, 1e12, 1e19, 1e30])
@pytest.mark.parametrize("variant", VARIANTS[:4])
def test_squares_that_leave_float32_change_nothing(scale, variant):
    states = normal(9, 20, dtype=torch.float32)
    plain, scaled = (eigenvalues(z, variant) for z in (states, states * scale))
    assert entropies(states * scale, variant) == pytest.approx(entropies(states, variant), abs=1e-5)
    power = 0 if variant.endswith("unit") else 2
    torch.testing.assert_close(scaled, plain * scale**power, rtol=1e-4, atol=1e-5 * scale**power)


def test_a_row_too_small_for_float32_squares_keeps_its_direction():
    states = torch.eye(3, 8)
    states[2] *= 1e-30
    assert entropies(states, "unit", alphas=[1.0])[0] == pytest.approx(math.log(3), abs=1e-5)


@pytest.mark.parametrize("variant", VARIANTS[:4])
@pytest.mark.parametrize(("tokens", "dim"), [(12, 40), (40, 12)])
def test_collision_entropy_is_s_2(variant, tokens, dim):
    states = massive(tokens, dim, 20.0)
    for precision, tolerance in (("float32", 1e-5), ("float64", 1e-10)):
        expected = renyi(shares(eigenvalues(states, variant, precision)), 2.0).item()
        assert entropies(states, variant, precision, [2.0]) == pytest.approx([expected], abs=tolerance)


# Batches


@pytest.mark.arithmetic
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("garbage", [math.nan, 1e30, 7.0])
def test_a_prompt_of_a_batch_has_the_bits_it_has_alone(variant, garbage):
    batch, lengths, alone = ragged([30, 12, 1, 17, 13], 16, garbage=garbage)  # both sides of T = D
    for precision in ("float32", "float64"):
        for found, states in zip(TokenStates(batch, lengths).spectra(variant, precision), alone, strict=True):
            assert found.shape == (min(states.shape),)
            assert torch.equal(found, eigenvalues(states, variant, precision))


def test_one_bad_prompt_does_not_hurt_the_others():
    batch, lengths, alone = ragged([6, 5, 4, 4], 8)
    batch[1, 2, 3] = math.inf
    batch[2, :4] = 0
    lengths[3] = 0
    source = TokenStates(batch, lengths)
    found = source.spectra("paper", "float32")
    assert torch.equal(found[0], eigenvalues(alone[0]))
    assert [own.shape[0] for own in found] == [6, 0, 4, 0]
    assert not found[2].any()
    assert prompt_entropy(source).isnan().tolist() == [False, True, True, True]
    assert [degenerate_reason(z) for z in (batch[1, :5], batch[2, :4], batch[3, :0])] == [
        "non-finite states",
        "all-zero states",
        "no tokens",
    ]


def test_prompts_may_have_several_dimensions_and_come_one_after_the_other():
    states = normal(2, 3, 4, 5)
    found = TokenStates(states, torch.tensor([[4, 4, 2], [3, 1, 4]])).spectra("paper", "float32")
    assert [own.shape[0] for own in found] == [4, 4, 2, 3, 1, 4]
    assert torch.equal(found[3], eigenvalues(states[1, 0, :3]))


def test_eigenvalues_descend_and_are_not_negative():
    found = eigenvalues(massive(50, 70, 3000.0))
    assert (found.diff() <= 0).all()
    assert (found >= 0).all()


@pytest.mark.parametrize("variant", ["centered", "centered-unit"])
def test_one_token_has_nothing_left_after_centring(variant):
    states = normal(1, 6)
    assert entropies(states)[1] == 0
    assert math.isnan(entropies(states, variant)[1])
    assert degenerate_reason(states, Setting(variant)) == "one token: nothing is left after centring"


def test_a_length_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="expected prompt lengths between 0 and the 4 rows of the states, got 5"):
        TokenStates(normal(2, 4, 3), torch.tensor([4, 5]))
