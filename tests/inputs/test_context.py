"""The longest input of a model is the longest that it reads."""

from __future__ import annotations

import pytest
import torch
from tests.families import FAMILIES, TABLES
from torch import nn

from layerscope.inputs.context import longest_input
from layerscope.states.batches import make_batches
from layerscope.states.capture import capture

LIMITED = [name for name, family in FAMILIES.items() if family.context and name in {"gpt2", "opt", "bert", "roberta"}]


@pytest.mark.parametrize("name", [*TABLES, *LIMITED])
def test_that_many_tokens_are_read_and_one_more_is_not(name, family_model):
    model = family_model(name)
    assert model.context == (TABLES | FAMILIES)[name].context
    for batch in make_batches([[40] * model.context, [40] * 3], 999, model.pad_id):
        capture(model, batch, lambda *_: None)
    (longer,) = make_batches([[40] * (model.context + 1)], 999, model.pad_id)
    with pytest.raises((IndexError, RuntimeError, ValueError)):
        capture(model, longer, lambda *_: None)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda module: module.register_buffer("sinusoidal_positions", torch.zeros(40, 8)), 40),
        (lambda module: module.register_buffer("position_table", torch.zeros(1, 30, 8)), 30),
        (lambda module: module.register_parameter("position_embeddings", nn.Parameter(torch.zeros(20, 8))), 20),
        (lambda module: module.register_buffer("position_ids", torch.arange(10)[None]), 64),
        (lambda module: module.add_module("relative_position_bias", nn.Embedding(32, 4)), 64),
        (lambda module: module.add_module("token_type_embeddings", nn.Embedding(2, 8)), 64),
    ],
)
def test_tables_are_found_whatever_they_are(change, expected, family_folder):
    from layerscope.config import ModelSpec
    from layerscope.inputs.models import load_model

    model = load_model(ModelSpec(name=str(family_folder("llama"))))
    change(model.model)
    assert longest_input(model.model, model.parts, torch.tensor([[5, 6, 7]])) == expected
