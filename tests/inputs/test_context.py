"""The longest input of a model is the longest that it reads."""

from __future__ import annotations

import pytest
import torch
from tests.families import FAMILIES, TABLES, Family, save_family
from torch import nn

from layerscope.config import ModelSpec
from layerscope.inputs.context import longest_input
from layerscope.inputs.models import load_model
from layerscope.inputs.parts import find_parts
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


def added_to_embeddings(model, name, table):
    """The model with a table of positions that its texts are read with."""
    if isinstance(table, nn.Parameter):
        model.register_parameter(name, table)
    else:
        model.register_buffer(name, table)
    rows = getattr(model, name)
    model.embed_tokens.register_forward_hook(
        lambda _, __, output: output + rows.reshape(-1, rows.shape[-1])[: output.shape[1]]
    )


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda model: added_to_embeddings(model, "sinusoidal_positions", torch.zeros(40, 16)), 40),
        (lambda model: added_to_embeddings(model, "position_table", torch.zeros(1, 30, 16)), 30),
        (lambda model: added_to_embeddings(model, "position_embeddings", nn.Parameter(torch.zeros(20, 16))), 20),
        (lambda model: model.register_buffer("position_ids", torch.arange(10)[None]), 64),
        (lambda model: model.add_module("relative_position_bias", nn.Embedding(32, 4)), 64),
        (lambda model: model.add_module("token_type_embeddings", nn.Embedding(2, 8)), 64),
        # LayoutLMv3 keeps the positions of an image's patches beside those of its texts.
        (lambda model: model.register_parameter("pos_embed", nn.Parameter(torch.zeros(1, 10, 16))), 64),
    ],
)
def test_tables_are_found_whatever_they_are(change, expected, family_folder):
    model = load_model(ModelSpec(name=str(family_folder("llama"))))
    change(model.model)
    ids = torch.tensor([[5, 6, 7]])
    parts = find_parts(model.model, model.n_layers, ids)
    before = {name: tensor.clone() for name, tensor in model.model.state_dict().items()}
    assert longest_input(model.model, parts, ids) == expected
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.model.state_dict().items())


def test_the_image_positions_of_layoutlmv3_do_not_bound_its_texts(tmp_path):
    options = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 32}
    options |= {
        "max_position_embeddings": 64,
        "coordinate_size": 8,
        "shape_size": 8,
        "input_size": 32,
        "patch_size": 16,
    }
    folder = save_family(Family("layoutlmv3", options), tmp_path / "layoutlmv3")
    assert load_model(ModelSpec(name=str(folder), dtype="float32")).context == 63
