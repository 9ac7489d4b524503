"""What a layer is, on every family: the stream between blocks, bit for bit, padded or alone."""

from __future__ import annotations

import pytest
import torch
from tests.families import DEPTH, DIM, FAMILIES

from layerscope.config import ModelSpec
from layerscope.errors import UserError
from layerscope.inputs.models import load_model
from layerscope.states.batches import Batch, make_batches
from layerscope.states.capture import capture
from layerscope.states.readout import read_out

PROMPTS = [[5, 9, 7, 30, 41, 8, 77, 12, 60], [11, 6, 50, 7], [90, 14, 33, 21, 8, 8]]


def one_batch(prompts=PROMPTS) -> Batch:
    (batch,) = make_batches(prompts, 10_000, 0)
    return batch


def captured(model, batch, **options):
    states = {}
    capture(model, batch, lambda layer, state: states.__setitem__(layer, state.clone()), **options)
    return states


def forward(model, batch, **options):
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    if model.parts.beside_encoder:
        inputs |= {"decoder_input_ids": batch.input_ids, "decoder_attention_mask": batch.attention_mask}
    with torch.no_grad():
        return model.model(**inputs, **options)


def hooks_on(module):
    """How many hooks there are; transformers leaves some of its own on a model that was asked for hidden states."""
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules())


@pytest.mark.parametrize("name", FAMILIES)
def test_states_are_the_next_blocks_input_bit_for_bit(name, family_model):
    model, batch = family_model(name), one_batch()
    inputs = []
    handles = [
        block.register_forward_pre_hook(
            lambda _, args, kwargs: inputs.append((args[0] if args else kwargs["hidden_states"]).clone()),
            with_kwargs=True,
        )
        for block in model.parts.blocks
    ]
    forward(model, batch)
    for handle in handles:
        handle.remove()
    states = captured(model, batch)
    assert list(states) == list(range(DEPTH + 1))
    assert all(state.shape == (3, 9, DIM) for state in states.values())
    assert all(torch.equal(states[layer], inputs[layer]) for layer in range(DEPTH))
    assert not any(torch.equal(states[layer], states[layer + 1]) for layer in range(DEPTH))


@pytest.mark.parametrize("name", FAMILIES)
def test_states_agree_with_hugging_face_where_its_tuple_holds_them(name, family_model):
    model, batch, shift = family_model(name), one_batch(), FAMILIES[name].tuple_shift
    output = forward(model, batch, output_hidden_states=True)
    theirs = output.decoder_hidden_states if model.parts.beside_encoder else output.hidden_states
    ours = captured(model, batch)
    for layer in range(shift, DEPTH):
        assert torch.equal(ours[layer], theirs[layer - shift])


@pytest.mark.parametrize("name", FAMILIES)
def test_normed_top_is_the_last_hidden_state(name, family_model):
    model, batch = family_model(name), one_batch()
    top = captured(model, batch)[DEPTH]
    last = forward(model, batch).last_hidden_state
    assert torch.equal(read_out(model, DEPTH, top, "normed"), last)
    assert torch.equal(top, last) is (FAMILIES[name].final_norm is None)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_padded_batch_equals_each_prompt_alone(name, family_model):
    model, batch = family_model(name), one_batch()
    padded = captured(model, batch)
    for index, row in enumerate(batch.rows):
        alone = captured(model, one_batch([PROMPTS[row]]))
        for layer, state in alone.items():
            both = padded[layer][index, : len(PROMPTS[row])]
            assert float((both - state[0]).abs().max()) < 1e-5 * max(1.0, float(state.abs().max()))


@pytest.mark.parametrize("name", ["gpt-neox", "t5-decoder", "mamba"])
def test_only_wanted_layers_are_computed(name, family_model):
    model, batch = family_model(name), one_batch()
    everything, ran = captured(model, batch), []
    handles = [block.register_forward_hook(lambda *_: ran.append(1)) for block in model.parts.blocks]
    some = captured(model, batch, layers={2, 0})
    assert list(some) == [0, 2]
    assert len(ran) == 2
    assert all(torch.equal(some[layer], everything[layer]) for layer in some)
    ran.clear()
    assert list(captured(model, batch, layers=[0])) == [0]
    assert captured(model, batch, layers=[]) == {}
    assert not ran
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize("layers", [[-1], [0, DEPTH + 1]])
def test_layers_out_of_range(layers, family_model):
    with pytest.raises(UserError, match="expected layers from 0 to 3"):
        captured(family_model("llama"), one_batch(), layers=layers)


def test_a_reader_that_fails_leaves_no_hooks(family_model):
    model = family_model("llama")

    def fail(layer, _):
        if layer == 1:
            raise RuntimeError("reader")

    before = hooks_on(model.model)
    with pytest.raises(RuntimeError, match="reader"):
        capture(model, one_batch(), fail)
    assert hooks_on(model.model) == before
    assert len(captured(model, one_batch())) == DEPTH + 1


@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if family.attentions])
def test_attention_weights_of_every_block(name, family_folder):
    model = load_model(ModelSpec(name=str(family_folder(name)), part=FAMILIES[name].part), attentions=True)
    batch, order, weights = one_batch(), [], {}

    def read_attentions(layer, value):
        order.append(("weights", layer))
        weights[layer] = value.clone()

    capture(model, batch, lambda layer, _: order.append(("states", layer)), read_attentions=read_attentions)
    assert order == [("states", 0)] + [(what, i) for i in range(1, DEPTH + 1) for what in ("weights", "states")]
    for value in weights.values():
        assert value.shape == (3, 4, 9, 9)
        for row, length in zip(value, batch.lengths.tolist(), strict=True):
            real = row[:, :length]
            assert torch.allclose(real[..., :length].sum(-1), torch.ones(4, length), atol=1e-5)
            upper = real[..., :length].triu(1).amax()
            assert bool(upper == 0) is FAMILIES[name].causal


@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if not family.attentions])
def test_families_without_attention_say_so(name, family_folder):
    with pytest.raises(UserError, match="gives no attention weights at block 1 of 3"):
        load_model(ModelSpec(name=str(family_folder(name))), attentions=True)


def test_attentions_need_a_model_loaded_with_them(family_model):
    with pytest.raises(UserError, match="attentions=True"):
        capture(family_model("llama"), one_batch(), lambda *_: None, read_attentions=lambda *_: None)


def test_readers_keep_the_callers_matmul_precision(family_folder):
    model = load_model(ModelSpec(name=str(family_folder("llama")), fast_matmul=True))
    seen, inside = [], []
    handle = model.parts.blocks[1].register_forward_pre_hook(
        lambda *_: inside.append(torch.get_float32_matmul_precision())
    )
    capture(model, one_batch(), lambda *_: seen.append(torch.get_float32_matmul_precision()))
    handle.remove()
    assert set(seen) == {"highest"}
    assert inside == ["medium" if model.fast_matmul else "highest"]
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", ["llama", "bert", "mamba2"])
def test_half_precision(name, dtype, family_folder, family_model):
    model = load_model(ModelSpec(name=str(family_folder(name)), dtype=dtype))
    assert model.dtype == getattr(torch, dtype)
    exact, half = captured(family_model(name), one_batch()), captured(model, one_batch())
    top = read_out(model, DEPTH, half[DEPTH], "normed")
    last = forward(model, one_batch()).last_hidden_state
    assert torch.equal(top, last)
    for layer, state in half.items():
        assert float((state.float() - exact[layer])[0].norm() / exact[layer][0].norm()) < 0.1
