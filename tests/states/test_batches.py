"""Batches hold every prompt once, within the budget, with nothing but padding added."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from layerscope.inputs.lengths import Lengths
from layerscope.states.batches import make_batches

prompts_of_any_length = st.lists(st.lists(st.integers(1, 90), min_size=1, max_size=12), max_size=20)


@given(prompts_of_any_length, st.integers(1, 40))
def test_every_prompt_comes_once_and_whole(prompts, batch_tokens):
    batches = make_batches(prompts, batch_tokens, 0)
    assert sorted(row for batch in batches for row in batch.rows) == list(range(len(prompts)))
    for batch in batches:
        for index, row in enumerate(batch.rows):
            length = int(batch.lengths[index])
            assert batch.input_ids[index, :length].tolist() == prompts[row]
            assert not batch.input_ids[index, length:].any()
            assert batch.attention_mask[index].tolist() == [1] * length + [0] * (batch.input_ids.shape[1] - length)


@given(prompts_of_any_length, st.integers(1, 40))
def test_padded_tokens_stay_within_the_budget(prompts, batch_tokens):
    for batch in make_batches(prompts, batch_tokens, 0):
        assert batch.input_ids.numel() <= batch_tokens or len(batch.rows) == 1
        assert batch.input_ids.shape[1] == int(batch.lengths.max())


@given(prompts_of_any_length, st.integers(1, 40))
def test_longest_first_and_ties_by_position(prompts, batch_tokens):
    rows = [row for batch in make_batches(prompts, batch_tokens, 0) for row in batch.rows]
    assert rows == sorted(rows, key=lambda row: (-len(prompts[row]), row))


def test_a_small_example():
    batches = make_batches([[1, 2], [3, 4, 5], [6], [7, 8]], 6, 9)
    assert [batch.rows for batch in batches] == [(1, 0), (3, 2)]
    assert batches[0].input_ids.tolist() == [[3, 4, 5], [1, 2, 9]]
    assert batches[0].lengths.tolist() == [3, 2]
    assert batches[0].input_ids.dtype == torch.int64
    assert make_batches([], 6, 0) == []


def test_errors():
    with pytest.raises(ValueError, match="none at position 1"):
        make_batches([[1], []], 6, 0)
    with pytest.raises(ValueError, match="batch_tokens of at least 1, got 0"):
        make_batches([[1]], 0, 0)


@given(prompts_of_any_length, st.integers(1, 40), st.integers(1, 5))
def test_a_multiple_of_batches_within_the_budget(prompts, batch_tokens, multiple):
    plain = make_batches(prompts, batch_tokens, 0)
    even = make_batches(prompts, batch_tokens, 0, multiple=multiple)
    assert len(even) <= -(-len(plain) // multiple) * multiple
    assert [row for batch in even for row in batch.rows] == [row for batch in plain for row in batch.rows]
    assert max((b.input_ids.numel() for b in even), default=0) <= max((b.input_ids.numel() for b in plain), default=0)


def test_prompts_of_one_length_are_cut_evenly():
    even = make_batches([[1] * 10] * 16, 100, 0, multiple=4)
    assert [len(batch.rows) for batch in even] == [4, 4, 4, 4]


@given(prompts_of_any_length, st.integers(1, 40), st.integers(1, 5))
def test_no_batch_holds_lengths_of_two_ranges(prompts, batch_tokens, multiple):
    lengths = Lengths((3, 5), above=8, step=2)
    batches = make_batches(prompts, batch_tokens, 0, multiple=multiple, lengths=lengths)
    assert sorted(row for batch in batches for row in batch.rows) == list(range(len(prompts)))
    for batch in batches:
        assert len({lengths.longest(length) for length in batch.lengths.tolist()}) == 1
        assert batch.input_ids.numel() <= batch_tokens or len(batch.rows) == 1
