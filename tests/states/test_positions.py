"""Which tokens count: the ones left keep their order, and padding never takes part."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from layerscope.states.readout import SINK_RATIO, select_positions


def example(seed, lengths, sinks=(), filler=0.0):
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(len(lengths), max([*lengths, 9]) + 1, 6, generator=generator)
    for prompt, token in sinks:
        states[prompt, token] *= 1e4
    for index, length in enumerate(lengths):
        states[index, length:] = filler
    return states, torch.tensor(lengths)


def kept_by_numpy(states, length, positions):
    real = states.double().numpy()[:length]
    if positions == "no-first":
        return real[1:]
    if positions == "no-sink" and length:
        norms = np.linalg.norm(real, axis=1)
        return real[norms <= SINK_RATIO * np.median(norms)]
    return real


sinks = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), max_size=6)


@given(
    st.integers(0, 1000),
    st.lists(st.integers(0, 10), min_size=4, max_size=4),
    sinks,
    st.sampled_from(["all", "no-first", "no-sink"]),
    st.sampled_from([0.0, 1e9, float("nan"), float("inf")]),
)
def test_agrees_with_numpy_whatever_the_padding_holds(seed, lengths, sinks, positions, filler):
    states, counts = example(seed, lengths, sinks, filler)
    selected, kept = select_positions(states, counts, positions)
    for index, length in enumerate(lengths):
        expected = kept_by_numpy(states[index], length, positions)
        assert int(kept[index]) == len(expected)
        np.testing.assert_array_equal(selected[index, : len(expected)].double().numpy(), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_massive_tokens_anywhere_are_left_out(dtype):
    states, lengths = example(0, [8, 5], filler=float("nan"))
    states[0, 0] *= 500
    states[0, 3] *= 500
    states[1, 0] *= 500
    selected, kept = select_positions(states.to(dtype), lengths, "no-sink")
    assert kept.tolist() == [6, 4]
    assert torch.equal(selected[0], states.to(dtype)[0, [1, 2, 4, 5, 6, 7]])
    assert torch.equal(selected[1, :4], states.to(dtype)[1, 1:5])
    assert not selected[1, 4:].any()


def test_ten_times_the_median_is_not_yet_a_sink():
    states = torch.zeros(1, 5, 2)
    states[0, :, 0] = torch.tensor([1.0, 1.0, 1.0, 10.0, 10.001])
    assert select_positions(states, torch.tensor([5]), "no-sink")[1].tolist() == [4]


def test_nothing_left_out_copies_nothing():
    states, lengths = example(0, [8, 5])
    for positions in ("all", "no-sink"):
        selected, kept = select_positions(states, lengths, positions)
        assert selected.data_ptr() == states.data_ptr()
        assert kept.tolist() == [8, 5]


def test_one_token_and_none():
    states, lengths = example(0, [1, 0])
    assert select_positions(states, lengths, "no-first")[1].tolist() == [0, 0]
    assert select_positions(states, lengths, "no-sink")[1].tolist() == [1, 0]


def test_the_states_are_not_changed():
    states, lengths = example(0, [8, 5], [(0, 0)])
    before = states.clone()
    select_positions(states, lengths, "no-sink")
    assert torch.equal(states, before)
