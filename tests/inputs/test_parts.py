"""The one rule, on every family it fits and on those it must refuse."""

from __future__ import annotations

import pytest
import torch
from tests.families import DEPTH, DIM, FAMILIES, REFUSED, VOCAB
from torch import nn

from layerscope.config import ModelSpec
from layerscope.errors import UnsupportedModelError
from layerscope.inputs.models import load_model
from layerscope.inputs.parts import find_parts, probe_ids


@pytest.mark.parametrize("name", FAMILIES)
def test_blocks_and_final_norm(name, family_model):
    model = family_model(name)
    expected = FAMILIES[name].final_norm
    assert model.n_layers == DEPTH
    assert model.dim == DIM
    assert model.parts.final_norm is (None if expected is None else model.model.get_submodule(expected))
    assert len({id(block) for block in model.parts.blocks}) == DEPTH
    assert {type(block).__name__ for block in model.parts.blocks} == {type(model.parts.blocks[0]).__name__}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("albert", r"expected one list of 3 blocks, found lists of lengths \[1\]"),
        ("deberta-v2-conv", "the output of block 1 is not the input of block 2"),
        ("opt-projected", r"its last_hidden_state \(1, 6, 8\) is neither"),
        ("xlnet", r"the input of block 1 is \(6, 1, 16\) where \(1, 6, dim\) was expected"),
    ],
)
def test_families_that_do_not_fit_are_refused(name, reason, family_folder):
    assert name in REFUSED
    with pytest.raises(UnsupportedModelError, match=reason):
        load_model(ModelSpec(name=str(family_folder(name))))


class _Result:
    def __init__(self, last_hidden_state):
        self.last_hidden_state = last_hidden_state


class _Chain(nn.Module):
    """Three blocks called one after another, with something wrong in `between`."""

    def __init__(self, between):
        super().__init__()
        self.embed = nn.Embedding(VOCAB, DIM)
        self.blocks = nn.ModuleList(nn.Linear(DIM, DIM) for _ in range(DEPTH))
        self.between = between

    def forward(self, input_ids, attention_mask):
        return _Result(self.between(self, self.embed(input_ids)))


def _in_order(model, states):
    for block in model.blocks:
        states = block(states)
    return states


def _reversed(model, states):
    for block in reversed(model.blocks):
        states = block(states)
    return states


def _twice(model, states):
    return _in_order(model, _in_order(model, states))


def _skipping_one(model, states):
    return model.blocks[2](model.blocks[0](states))


def _scaled_between(model, states):
    for block in model.blocks:
        states = 2 * block(states)
    return states


def _two_functions_after(model, states):
    return torch.tanh(_in_order(model, states)) + 1


def test_a_plain_chain_is_found():
    model = _Chain(_in_order)
    parts = find_parts(model, DEPTH, probe_ids(VOCAB, 0, torch.device("cpu")))
    assert parts.blocks == tuple(model.blocks)
    assert parts.final_norm is None


@pytest.mark.parametrize(
    ("between", "reason"),
    [
        (_reversed, "not called once each, in order"),
        (_twice, "not called once each, in order"),
        (_skipping_one, "not called once each, in order"),
        (_scaled_between, "the output of block 1 is not the input of block 2"),
        (_two_functions_after, "neither the last block's output"),
    ],
)
def test_a_broken_chain_is_refused(between, reason):
    with pytest.raises(UnsupportedModelError, match=reason):
        find_parts(_Chain(between), DEPTH, probe_ids(VOCAB, 0, torch.device("cpu")))


def test_two_lists_that_both_look_like_blocks_are_refused():
    model = _Chain(_in_order)
    model.more = nn.ModuleList(nn.Linear(DIM, DIM) for _ in range(DEPTH))

    def both(model, states):
        states = _in_order(model, states)
        for block in model.more:
            states = block(states)
        return states

    model.between = both
    with pytest.raises(UnsupportedModelError, match="neither the last block's output"):
        find_parts(model, DEPTH, probe_ids(VOCAB, 0, torch.device("cpu")))


def test_hooks_of_the_search_are_gone():
    model = _Chain(_in_order)
    parts = find_parts(model, DEPTH, probe_ids(VOCAB, 0, torch.device("cpu")))
    assert len(parts.blocks) == DEPTH
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("vocab", [1, 2, 7, 50_000])
def test_probe_ids_are_in_the_vocabulary_and_not_padding(vocab):
    for pad_id in (None, 0, 1):
        ids = probe_ids(vocab, pad_id, torch.device("cpu"))
        assert ids.shape == (1, 6)
        assert int(ids.min()) >= 0
        assert int(ids.max()) < vocab
        assert vocab == 1 or pad_id not in ids.unique().tolist()


def test_probe_ids_of_any_number_and_others():
    one, other = (probe_ids(VOCAB, 0, torch.device("cpu"), 200, first) for first in (0, 1))
    assert one.shape == (1, 200)
    assert not bool((one == other).any())
