import math

import numpy as np
import pytest
import torch
from tests.metrics import reference
from tests.metrics.inputs import leave_out, massive, normal, orthonormal, ragged, with_spectrum

from layerscope.metrics.effective_rank import effective_rank, rankme
from layerscope.metrics.metric import Setting
from layerscope.metrics.sources import PooledVectors, TokenStates


@pytest.mark.parametrize(("rows", "dim"), [(7, 20), (20, 20), (1, 4)])
def test_orthonormal_rows_have_the_rank_of_their_number(rows, dim):
    assert effective_rank(TokenStates(orthonormal(rows, dim))).item() == pytest.approx(rows, rel=1e-9)
    assert effective_rank(PooledVectors(orthonormal(rows, dim))).item() == pytest.approx(rows, rel=1e-9)
    assert rankme(PooledVectors(orthonormal(rows, dim))).item() == pytest.approx(rows, rel=1e-4)


def test_identical_rows_have_rank_one():
    states = normal(1, 50, dtype=torch.float32).repeat(30, 1)
    assert effective_rank(TokenStates(states)).item() == pytest.approx(1, abs=1e-9)
    assert effective_rank(TokenStates(states), Setting("centered")).isnan()


CASES = {
    "massive": massive(70, 160),
    "more massive": massive(70, 160, 20000.0),
    "massive and tall": massive(120, 48),
    "repeated tokens": normal(40, 128, dtype=torch.float32)[torch.arange(100) % 40],
    "repeated tokens and tall": normal(20, 64, dtype=torch.float32)[torch.arange(100) % 20],
    "exponential decay": with_spectrum(np.exp(-1.3 * np.arange(40)), 60, 100),
    "a wide plateau of tiny values": with_spectrum([1.0, *[1e-13] * 59], 60, 100),
}


@pytest.mark.parametrize("states", CASES.values(), ids=CASES)
@pytest.mark.parametrize("variant", ["paper", "centered", "unit", "centered-unit"])
def test_ranks_are_as_exact_as_a_float64_decomposition(states, variant):
    expected = reference.effective_rank(states, variant)
    tokens, pooled, setting = TokenStates(states), PooledVectors(states), Setting(variant)
    assert effective_rank(tokens, setting).item() == pytest.approx(expected, rel=1e-6)
    assert effective_rank(pooled, setting).item() == pytest.approx(expected, rel=1e-6)
    assert rankme(pooled, setting).item() == pytest.approx(reference.rankme(states, variant), rel=1e-6)


def test_a_batch_is_its_prompts():
    batch, lengths, alone = ragged([12, 7, 3], 9)
    assert effective_rank(TokenStates(batch, lengths)).tolist() == pytest.approx(
        [reference.effective_rank(z) for z in alone], rel=1e-9
    )


@pytest.mark.parametrize("shape", [(24, 50), (50, 24)])
@pytest.mark.parametrize("variant", ["paper", "centered", "unit", "centered-unit"])
def test_subsets_are_what_they_keep(shape, variant):
    pooled = normal(*shape, dtype=torch.float32) + 2
    subsets = [torch.arange(shape[0]), *leave_out(shape[0], 5)]
    for rank, expected in ((effective_rank, reference.effective_rank), (rankme, reference.rankme)):
        found = rank(PooledVectors(pooled, subsets), Setting(variant))
        assert found.tolist() == pytest.approx([expected(pooled[kept], variant) for kept in subsets], rel=1e-9)
        assert torch.equal(rank(PooledVectors(pooled), Setting(variant)), found[:1])


def test_zero_vectors_have_no_rank():
    assert effective_rank(TokenStates(torch.zeros(3, 4))).isnan()
    assert math.isnan(rankme(PooledVectors(torch.zeros(3, 4))).item())


@pytest.mark.parametrize("variant", ["released", "centred"])
def test_a_variant_without_singular_values_is_refused(variant):
    for read, source in ((effective_rank, TokenStates(normal(3, 4))), (rankme, PooledVectors(normal(3, 4)))):
        with pytest.raises(ValueError, match=f"variants paper, centered, unit, centered-unit, got '{variant}'"):
            read(source, Setting(variant))
