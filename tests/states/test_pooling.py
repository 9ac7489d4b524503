"""Pooling sees a prompt's own tokens and nothing else, whatever stands in the padding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from layerscope.states.readout import pool

POOLINGS = ["mean", "last", "first"]


def example(seed, lengths, filler, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(len(lengths), max([*lengths, 1]) + 1, 5, generator=generator).to(dtype)
    for index, length in enumerate(lengths):
        states[index, length:] = filler
    return states, torch.tensor(lengths)


@pytest.mark.arithmetic
@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("length", "dim"), [(7, 5), (60, 577), (130, 96)])
def test_a_prompt_has_the_bits_it_has_alone_whatever_the_padding_and_its_place(length, dim, dtype, pooling):
    states = torch.randn(length, dim, generator=torch.Generator().manual_seed(0)).to(dtype)
    alone = pool(states[None], torch.tensor([length]), pooling)
    for padding in (0, 1, 33, 700):
        batch = torch.full((3, length + padding, dim), torch.nan, dtype=dtype)
        batch[:, :length] = states
        found = pool(batch, torch.tensor([length] * 3), pooling)
        assert all(torch.equal(row, alone[0]) for row in found)


def reference(states, lengths, pooling):
    rows = []
    for state, length in zip(states.double().numpy(), lengths.tolist(), strict=True):
        real = state[:length]
        if length == 0:
            rows.append(np.full(state.shape[1], np.nan))
        else:
            rows.append({"mean": real.mean(0), "last": real[-1], "first": real[0]}[pooling])
    return np.stack(rows)


@given(
    st.integers(0, 1000),
    st.lists(st.integers(0, 9), min_size=1, max_size=5),
    st.sampled_from(POOLINGS),
    st.sampled_from([0.0, 1e30, float("nan"), float("inf"), -float("inf")]),
)
def test_agrees_with_numpy_whatever_the_padding_holds(seed, lengths, pooling, filler):
    states, counts = example(seed, lengths, filler)
    pooled = pool(states, counts, pooling)
    assert pooled.dtype == torch.float32
    np.testing.assert_allclose(pooled.numpy(), reference(states, counts, pooling), atol=2e-6)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_half_precision_is_summed_in_float32(pooling, dtype):
    states, counts = example(0, [9, 4], float("nan"), dtype)
    np.testing.assert_allclose(pool(states, counts, pooling).numpy(), reference(states, counts, pooling), atol=1e-6)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_real_nan_stays_a_nan_of_its_own_prompt(pooling):
    states, counts = example(0, [3, 3], 0.0)
    states[0, :3] = torch.nan
    pooled = pool(states, counts, pooling)
    assert bool(pooled[0].isnan().all())
    assert bool(pooled[1].isfinite().all())


@pytest.mark.parametrize("pooling", POOLINGS)
def test_no_tokens_at_all_give_nan(pooling):
    assert bool(pool(torch.zeros(2, 0, 5), torch.tensor([0, 0]), pooling).isnan().all())


def test_the_states_are_not_changed():
    states, counts = example(0, [4, 2], float("nan"))
    before = states.clone()
    pool(states, counts, "mean")
    assert torch.equal(states.nan_to_num(7), before.nan_to_num(7))
