"""Which prompts may share a batch, as configs say it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.families import BY_LENGTH, FAMILIES
from transformers import AutoConfig

from layerscope.inputs.lengths import ANY_LENGTHS, Lengths, known_lengths, named_windows


def config(name, **options):
    family = (FAMILIES | BY_LENGTH)[name]
    return AutoConfig.for_model(family.model_type, **(family.options | options))


@given(st.integers(1, 100))
def test_a_range_of_lengths_ends_where_it_says(length):
    assert ANY_LENGTHS.longest(length) is None
    assert Lengths((10, 30)).longest(length) == (10 if length <= 10 else 30 if length <= 30 else None)
    assert ANY_LENGTHS.equal_above(20).longest(length) == max(length, 20)
    blocks = Lengths(above=14, step=4).longest(length)
    assert blocks == 14 or (blocks >= length and blocks % 4 == 0 and blocks - length < 4)


@given(st.integers(1, 100), st.integers(1, 100))
def test_what_a_length_may_be_padded_to_is_in_its_own_range(length, other):
    lengths = Lengths((7, 19), above=40, step=8)
    longest = lengths.longest(length)
    assert lengths.longest(longest) == longest
    if length <= other <= longest:
        assert lengths.longest(other) == longest


def test_ends_add_up():
    assert ANY_LENGTHS.cut_at(20).cut_at(10).cut_at(20) == Lengths((10, 20))
    assert ANY_LENGTHS.equal_above(20).equal_above(30) == Lengths(above=20)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("llama", ANY_LENGTHS),
        ("mistral", ANY_LENGTHS),
        ("phi3", Lengths((16,))),
        ("llama-dynamic", Lengths(above=24)),
        ("bigbird", Lengths(above=14, step=2)),
    ],
)
def test_what_configs_say(name, expected):
    assert known_lengths(config(name)) == expected


def test_rotary_settings_for_each_kind_of_block():
    kinds = {
        "full_attention": {"rope_type": "longrope", "original_max_position_embeddings": 32},
        "sliding_attention": {"rope_type": "default"},
    }
    given_kinds = config("gemma3")
    given_kinds.rope_parameters = kinds
    assert known_lengths(given_kinds) == Lengths((32,))


def test_windows_that_configs_name():
    assert named_windows(config("llama")) == ()
    assert named_windows(config("mistral")) == (4,)
    assert named_windows(config("phi3"))[:1] == (16,)
    assert 8 in named_windows(config("modernbert"))
    assert named_windows(AutoConfig.for_model("longformer", attention_window=[8, 16])) == (8, 16)
