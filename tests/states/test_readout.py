"""The normed readout is the model's own last norm, on any layer."""

from __future__ import annotations

import pytest
import torch
from tests.families import DIM

from layerscope.states.readout import final_normed


@pytest.mark.parametrize("name", ["llama", "mamba"])
def test_rms_norm_in_closed_form(name, family_model, generator):
    model = family_model(name)
    states = torch.randn(2, 5, DIM, generator=generator) * 30
    norm = model.parts.final_norm
    expected = states / (states.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt() * norm.weight
    assert torch.allclose(final_normed(model, states), expected, atol=1e-4)


def test_layer_norm_in_closed_form(family_model, generator):
    model = family_model("gpt2")
    states = torch.randn(2, 5, DIM, generator=generator) * 30 + 2
    norm = model.parts.final_norm
    centered = states - states.mean(-1, keepdim=True)
    expected = centered / (centered.pow(2).mean(-1, keepdim=True) + norm.eps).sqrt() * norm.weight + norm.bias
    assert torch.allclose(final_normed(model, states), expected, atol=1e-4)


def test_a_post_norm_encoder_is_read_as_it_is(family_model, generator):
    states = torch.randn(2, 5, DIM, generator=generator)
    assert final_normed(family_model("bert"), states) is states
