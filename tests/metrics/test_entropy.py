import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.metrics import reference
from tests.metrics.inputs import leave_out, massive, normal, orthonormal, ragged

from layerscope.metrics.effective_rank import effective_rank
from layerscope.metrics.entropy import dataset_entropy, logdet_entropy, normalizer, prompt_entropy
from layerscope.metrics.metric import Setting
from layerscope.metrics.sources import PooledVectors, TokenStates

NORMALIZATIONS = ("none", "max", "logN", "logD", "logNlogD")


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 10), st.integers(3, 10), st.sampled_from([0.5, 1.0, 2.0, math.inf]))
def test_normalised_entropies_are_shares(seed, tokens, dim, alpha):
    states = normal(tokens, dim, seed=seed, dtype=torch.float32)
    for normalization in NORMALIZATIONS[1:]:
        for variant in ("paper", "centered", "unit", "released"):
            value = prompt_entropy(TokenStates(states), Setting(variant, alpha, normalization)).item()
            assert 0 <= value <= 1 + 1e-12


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0, math.inf])
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_the_largest_entropy_is_1_and_not_above(alpha, precision):
    source = TokenStates(orthonormal(8, 40), precision=precision)
    value = prompt_entropy(source, Setting("paper", alpha, "max")).item()
    assert value == pytest.approx(1, abs=1e-6)
    assert value <= 1 + 1e-12


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 10), st.integers(2, 10))
def test_exp_of_the_entropy_is_at_most_the_effective_rank(seed, tokens, dim):
    states = normal(tokens, dim, seed=seed) * torch.arange(1, dim + 1).double() ** -1.0
    source = TokenStates(states, precision="float64")
    assert prompt_entropy(source).exp() <= effective_rank(source) + 1e-9


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("alpha", [1.0, 2.0])
def test_normalisations_agree_with_the_reference(normalization, alpha):
    batch, lengths, alone = ragged([12, 7, 3], 9)
    found = prompt_entropy(TokenStates(batch, lengths), Setting("paper", alpha, normalization))
    expected = [reference.prompt_entropy(z, alpha, normalization=normalization) for z in alone]
    assert found.tolist() == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize("normalization", NORMALIZATIONS[1:])
def test_one_token_has_entropy_0_and_no_normalised_form(normalization):
    states = normal(1, 6, dtype=torch.float32)
    for alpha in (1.0, 2.0):
        share = Setting("paper", alpha, normalization)
        assert prompt_entropy(TokenStates(states), Setting("paper", alpha)).item() == 0
        assert prompt_entropy(TokenStates(states), share).isnan()
        assert prompt_entropy(TokenStates(normal(5, 1)), share).isnan()


def test_a_divisor_below_the_largest_entropy_is_none():
    # log 2 * log 2 < log 2: the share would be 1.44
    assert normalizer(torch.tensor([2, 3]), 2, "logNlogD").isnan().tolist() == [True, False]
    assert normalizer(torch.tensor([0, 1]), 2, "none").tolist() == [1, 1]


@pytest.mark.parametrize("shape", [(20, 50), (50, 20)])
@pytest.mark.parametrize("variant", ["paper", "centered", "unit", "centered-unit", "released"])
def test_dataset_entropy_agrees_with_the_reference_and_its_subsets(shape, variant):
    pooled = (normal(*shape) + 3 * normal(shape[1], seed=4)).float()
    subsets = [torch.arange(shape[0]), *leave_out(shape[0], 6)]
    for alpha in (0.5, 1.0, 2.0, math.inf):
        setting = Setting(variant, alpha, "max")
        found = dataset_entropy(PooledVectors(pooled, subsets), setting)
        expected = [reference.prompt_entropy(pooled[kept], alpha, variant, "max") for kept in subsets]
        assert found.tolist() == pytest.approx(expected, abs=1e-10)
        assert torch.equal(dataset_entropy(PooledVectors(pooled), setting), found[:1])


def test_a_bad_vector_spoils_only_the_subsets_that_keep_it():
    pooled = normal(6, 10)
    pooled[2, 0] = math.nan
    without = torch.tensor([0, 1, 3, 4, 5])
    found = dataset_entropy(PooledVectors(pooled, [torch.arange(6), without]))
    assert found[0].isnan()
    assert found[1].item() == pytest.approx(reference.prompt_entropy(pooled[without]), abs=1e-10)


@pytest.mark.parametrize("variant", ["centered", "centered-unit"])
def test_identical_vectors_have_no_entropy_when_centered(variant):
    assert dataset_entropy(PooledVectors(normal(1, 20).repeat(7, 1)), Setting(variant)).isnan()
    assert dataset_entropy(PooledVectors(normal(1, 3).repeat(7, 1)), Setting(variant)).isnan()


@pytest.mark.parametrize("states", [normal(9, 30), normal(30, 9), massive(50, 96)], ids=["wide", "tall", "massive"])
@pytest.mark.parametrize("variant", ["paper", "unit"])
def test_logdet_agrees_with_the_reference(states, variant):
    expected = reference.logdet_entropy(states, variant)
    assert logdet_entropy(TokenStates(states), Setting(variant)).item() == pytest.approx(expected, abs=1e-7)


def test_logdet_of_orthonormal_rows_and_of_a_scale():
    states = orthonormal(6, 20)
    assert logdet_entropy(TokenStates(states)).item() == pytest.approx(-math.log(2), abs=1e-6)
    assert logdet_entropy(TokenStates(states * 5)).item() == pytest.approx(12 * math.log(5) - math.log(2), abs=1e-6)


def test_logdet_of_a_repeated_token_is_set_by_the_ridge():
    states = orthonormal(6, 20)[[0, 1, 2, 3, 4, 5, 5]]
    expected = 5 * math.log(1) + math.log(2) + math.log(1e-8) - math.log(2)  # ridge 1e-8 times the mean eigenvalue 1
    assert logdet_entropy(TokenStates(states)).item() == pytest.approx(expected, abs=1e-6)


def test_logdet_of_a_batch_and_of_nothing():
    batch, lengths, alone = ragged([12, 7, 3], 9)
    assert logdet_entropy(TokenStates(batch, lengths)).tolist() == pytest.approx(
        [reference.logdet_entropy(z) for z in alone], abs=1e-7
    )
    assert logdet_entropy(TokenStates(torch.zeros(3, 4))).isnan()
    assert logdet_entropy(TokenStates(batch, torch.tensor([0, 7, 3])))[0].isnan()


def test_an_order_or_variant_that_no_entropy_has_is_refused():
    with pytest.raises(ValueError, match=r"expected an order alpha in \(0, inf\], got 0\.0"):
        prompt_entropy(TokenStates(normal(3, 4)), Setting("paper", 0.0))
    with pytest.raises(ValueError, match="centered-unit, released, got 'centred'"):
        dataset_entropy(PooledVectors(normal(3, 4)), Setting("centred"))
    with pytest.raises(ValueError, match="variants paper, unit, got 'centered'"):
        logdet_entropy(TokenStates(normal(3, 4)), Setting("centered"))


def test_a_setting_says_by_default_what_the_paper_does():
    source = TokenStates(normal(6, 9, dtype=torch.float32))
    assert torch.equal(prompt_entropy(source), prompt_entropy(source, Setting("paper", 1.0, "none")))
