"""The one rule of raw, normed and hf: the normed readout is the model's own last norm, on any layer."""

from __future__ import annotations

import pytest
import torch
from tests.families import DEPTH, DIM

from layerscope.states.readout import read_out, read_states
from layerscope.states.state import State, all_states


@pytest.mark.parametrize("name", ["llama", "mamba"])
def test_rms_norm_in_closed_form(name, family_model, generator):
    model = family_model(name)
    states = torch.randn(2, 5, DIM, generator=generator) * 30
    norm = model.parts.final_norm
    expected = states / (states.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt() * norm.weight
    assert torch.allclose(read_out(model, 1, states, "normed"), expected, atol=1e-4)


def test_layer_norm_in_closed_form(family_model, generator):
    model = family_model("gpt2")
    states = torch.randn(2, 5, DIM, generator=generator) * 30 + 2
    norm = model.parts.final_norm
    centered = states - states.mean(-1, keepdim=True)
    expected = centered / (centered.pow(2).mean(-1, keepdim=True) + norm.eps).sqrt() * norm.weight + norm.bias
    assert torch.allclose(read_out(model, 1, states, "normed"), expected, atol=1e-4)


def test_a_post_norm_encoder_is_read_as_it_is(family_model, generator):
    states = torch.randn(2, 5, DIM, generator=generator)
    for readout in ("raw", "normed", "hf"):
        assert read_out(family_model("bert"), DEPTH, states, readout) is states
    ((same, vectors, _),) = read_states(
        family_model("bert"), DEPTH, states, torch.tensor([5, 3]), all_states(("raw", "normed", "hf"), ("all",))
    )
    assert len(same) == 3
    assert vectors is states


def test_hf_is_raw_below_the_top_and_normed_at_the_top(family_model, generator):
    model = family_model("llama")
    states = torch.randn(2, 5, DIM, generator=generator)
    normed = read_out(model, 1, states, "normed")
    assert not torch.equal(normed, states)
    assert all(read_out(model, layer, states, "hf") is states for layer in range(DEPTH))
    assert torch.equal(read_out(model, DEPTH, states, "hf"), normed)
    assert all(read_out(model, layer, states, "raw") is states for layer in range(DEPTH + 1))


def test_states_that_are_the_same_at_a_layer_are_computed_once(family_model, generator):
    model = family_model("llama")
    states, lengths = torch.randn(2, 5, DIM, generator=generator), torch.tensor([5, 3])
    wanted = all_states(("raw", "normed", "hf"), ("all", "no-first"))
    for layer, partner in ((1, "raw"), (DEPTH, "normed")):
        found = list(read_states(model, layer, states, lengths, wanted))
        assert len(found) == 4
        assert {state for same, _, _ in found for state in same} == set(wanted)
        for same, vectors, left in found:
            shared = same[0].readout if len(same) == 1 else partner
            assert [state.readout for state in same] in ([shared], [shared, "hf"])
            whole = read_out(model, layer, states, shared)
            first = 1 if same[0].positions == "no-first" else 0
            assert torch.equal(vectors, whole[:, first:])
            assert left.tolist() == [5 - first, 3 - first]


def test_a_state_is_named_once_for_all_files():
    assert all_states(["raw", "raw"], iter(["no-sink", "all"])) == (State("raw", "no-sink"), State("raw", "all"))
    assert State("hf", "no-first").slug == "hf_no-first"
