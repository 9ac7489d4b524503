"""Full attention for decoders: it takes effect in every block or it is refused."""

from __future__ import annotations

import json

import pytest
import torch
from tests.families import DEPTH, FAMILIES

from layerscope.config import ModelSpec
from layerscope.errors import UnsupportedModelError
from layerscope.inputs.attention import attention_weights
from layerscope.inputs.models import load_model
from layerscope.states.batches import make_batches
from layerscope.states.capture import capture

SWITCHED = [
    name
    for name, family in FAMILIES.items()
    if family.causal and family.attentions and family.switch and not family.part
]
LONG = [5, 9, 7, 30, 41, 8, 77, 12, 60, 33, 21, 19]


def first_token(model, ids):
    states = []
    (batch,) = make_batches([ids], 100, model.pad_id)
    capture(model, batch, lambda _, state: states.append(state[0, 0].clone()))
    return states


@pytest.mark.parametrize("name", SWITCHED)
def test_every_block_attends_to_the_last_token(name, family_folder):
    model = load_model(ModelSpec(name=str(family_folder(name)), bidirectional=True), attentions=True)
    batch, seen = make_batches([LONG, LONG[:5]], 100, model.pad_id)[0], []
    capture(model, batch, lambda *_: None, read_attentions=lambda _, weights: seen.append(weights.clone()))
    assert len(seen) == DEPTH
    for weights in seen:
        assert float(weights[0, :, 0, -1].min()) > 0
        assert float(weights[1, :, :5, 5:].max()) == 0


@pytest.mark.parametrize("name", SWITCHED)
def test_the_last_token_changes_the_first_ones_states(name, family_folder, family_model):
    changed = [*LONG[:-1], 44]
    model = load_model(ModelSpec(name=str(family_folder(name)), bidirectional=True))
    moved = [not torch.equal(a, b) for a, b in zip(first_token(model, LONG), first_token(model, changed), strict=True)]
    assert moved == [False] + [True] * DEPTH
    causal = family_model(name)
    assert all(torch.equal(a, b) for a, b in zip(first_token(causal, LONG), first_token(causal, changed), strict=True))


@pytest.mark.parametrize("name", SWITCHED)
def test_eager_and_sdpa_agree_and_padding_is_respected(name, family_folder):
    spec = ModelSpec(name=str(family_folder(name)), bidirectional=True)
    batch = make_batches([LONG, LONG[:5]], 100, 0)[0]
    tops = []
    for attentions in (False, True):
        capture(
            load_model(spec, attentions=attentions), batch, lambda _, state: tops.append(state.clone()), layers=[DEPTH]
        )
    (alone,) = make_batches([LONG[:5]], 100, 0)
    capture(load_model(spec), alone, lambda _, state: tops.append(state.clone()), layers=[DEPTH])
    sdpa, eager, short = tops
    scale = max(1.0, float(sdpa.abs().max()))
    assert torch.allclose(sdpa[0], eager[0], atol=1e-5 * scale, rtol=0)
    assert torch.allclose(sdpa[1, :5], short[0], atol=1e-5 * scale, rtol=0)


@pytest.mark.parametrize("name", ["bert", "modernbert", "t5-encoder"])
def test_encoders_are_left_as_they_are_with_a_note(name, family_folder, family_model):
    model = load_model(ModelSpec(name=str(family_folder(name)), part=FAMILIES[name].part, bidirectional=True))
    assert "bidirectional changed nothing: this model attends to all tokens anyway" in model.warnings
    pairs = zip(first_token(model, LONG), first_token(family_model(name), LONG), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("mamba", "no switch to full attention: it has blocks of kind linear_attention"),
        ("mamba2", "no switch to full attention"),
        ("falcon-mamba", "no switch to full attention"),
        ("mpt", "does not run on 6 token ids and a mask alone"),
        ("t5-decoder", "bidirectional is for decoder-only models"),
    ],
)
def test_families_without_the_switch_are_refused(name, reason, family_folder):
    with pytest.raises(UnsupportedModelError, match=reason):
        load_model(ModelSpec(name=str(family_folder(name)), part=FAMILIES[name].part, bidirectional=True))


@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if not family.switch])
def test_a_family_said_to_have_no_switch_has_none(name, family_folder):
    with pytest.raises(UnsupportedModelError):
        load_model(ModelSpec(name=str(family_folder(name)), bidirectional=True))


def test_a_switch_without_effect_is_refused(family_folder, monkeypatch):
    monkeypatch.setattr("layerscope.inputs.attention.lift_causal_mask", lambda model: None)
    with pytest.raises(UnsupportedModelError, match="changing the last token left the first token's states"):
        load_model(ModelSpec(name=str(family_folder("llama")), bidirectional=True))


def test_the_window_is_lifted_and_the_folder_is_not_touched(family_folder):
    folder = family_folder("mistral")
    before = (folder / "config.json").read_text()
    model = load_model(ModelSpec(name=str(folder), bidirectional=True))
    assert model.model.config.sliding_window is None
    assert json.loads(before)["sliding_window"] == 4
    assert (folder / "config.json").read_text() == before


def test_attention_weights_are_told_from_a_position_bias():
    weights = torch.softmax(torch.arange(32.0).reshape(1, 2, 4, 4) / 7, dim=-1)
    bias = torch.arange(32.0).reshape(1, 2, 4, 4) / 7 - 1
    assert attention_weights((torch.zeros(1, 4, 8), bias, weights)) is weights
    assert attention_weights((torch.zeros(1, 4, 8), bias)) is None
    assert attention_weights(weights) is None
    assert attention_weights((weights[..., :3],)) is None
