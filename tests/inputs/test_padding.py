"""Padding and batch mates reach no prompt, in any precision, and a prompt's states are those it has alone."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from tests.families import BY_LENGTH, DEPTH, DIM, VOCAB, save_tokenizer
from torch import nn
from transformers import AutoModel

from layerscope.config import ModelSpec
from layerscope.errors import UnsupportedModelError
from layerscope.inputs.lengths import ANY_LENGTHS, Lengths
from layerscope.inputs.models import load_model
from layerscope.inputs.padding import LENGTH_ERROR, Probe, check_padding, find_lengths, prove_batches
from layerscope.inputs.parts import find_parts, probe_ids
from layerscope.inputs.processor import in_float32
from layerscope.inputs.quiet import quiet_libraries
from layerscope.states.batches import make_batches
from layerscope.states.capture import capture
from layerscope.states.passes import run_passes

CPU = torch.device("cpu")
HALVES = [torch.float32, torch.bfloat16, torch.float16]


def probe_of(model):
    parts = find_parts(model, len(model.encoder.layer), probe_ids(VOCAB, 0, CPU))
    return Probe(model, parts, VOCAB, 0, CPU, 64)


def leaky(model, change):
    """The model with its forward changed: change(ids, mask) -> what it is called with."""
    plain = model.forward
    model.forward = lambda input_ids, attention_mask: plain(*change(input_ids, attention_mask))
    return model


@pytest.fixture
def bert(family_model):
    return copy.deepcopy(family_model("bert").model)


@pytest.mark.parametrize("dtype", HALVES)
def test_a_model_without_leaks_passes(bert, dtype):
    probe = probe_of(bert.to(dtype))
    check_padding(probe)
    assert find_lengths(probe) == (ANY_LENGTHS, [])


@pytest.mark.parametrize("dtype", HALVES)
def test_padding_that_leaks_is_refused(bert, dtype):
    model = leaky(bert.to(dtype), lambda ids, mask: (ids, torch.ones_like(mask)))
    with pytest.raises(UnsupportedModelError, match="padding on the right changes the states of real tokens"):
        check_padding(probe_of(model))


@pytest.mark.parametrize("dtype", HALVES)
def test_batch_mates_that_leak_are_refused(bert, dtype):
    model = bert.to(dtype)
    layer = model.embeddings
    plain = layer.forward
    layer.forward = lambda **given: plain(**given) + plain(**given)[:1, :1]
    with pytest.raises(UnsupportedModelError, match="the other prompts of a batch change a prompt's states"):
        check_padding(probe_of(model))


@pytest.mark.parametrize("dtype", HALVES)
def test_arithmetic_that_follows_the_length_keeps_lengths_apart(bert, dtype):
    model = bert.to(dtype)
    layer = model.embeddings
    plain = layer.forward
    layer.forward = lambda **given: plain(**given) * given["input_ids"].shape[1]
    probe = probe_of(model)
    check_padding(probe)
    lengths, (note,) = find_lengths(probe)
    assert lengths == Lengths(above=0)
    assert note == "only equally long prompts may share a batch: states depend on how long a batch is"


@pytest.mark.parametrize(("beyond", "expected"), [(True, Lengths(above=20)), (False, Lengths((20,)))])
def test_a_window_is_tried_on_both_sides(bert, beyond, expected):
    bert.config.local_window = 20
    layer = bert.embeddings
    plain = layer.forward

    def scaled(**given):
        width = given["input_ids"].shape[1]
        return plain(**given) * ((width if beyond else 2) if width > 20 else 1)

    layer.forward = scaled
    assert find_lengths(probe_of(bert))[0] == expected


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_code_that_names_its_precision_is_checked_in_that(bert, dtype):
    model = bert.to(dtype)
    layer = model.embeddings
    plain = layer.forward
    layer.forward = lambda **given: plain(**given) @ torch.eye(DIM, dtype=dtype)
    lengths, (note,) = prove_batches(probe_of(model))
    assert lengths == ANY_LENGTHS
    assert note.endswith("alone: the model's code does not compute in float32")
    leaky(model, lambda ids, mask: (ids, torch.ones_like(mask)))
    with pytest.raises(UnsupportedModelError, match="padding on the right changes the states of real tokens"):
        prove_batches(probe_of(model))


def test_a_window_too_dear_to_try_is_kept_apart(bert, monkeypatch):
    bert.config.local_window = 20
    monkeypatch.setattr("layerscope.inputs.padding._OPERATIONS", {"cpu": 1.0})
    lengths, (note,) = find_lengths(probe_of(bert))
    assert lengths == Lengths(above=20)
    assert "beyond 20 tokens" in note


def deep_llama(folder, std=0.05):
    from transformers import LlamaConfig, LlamaModel

    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=512, num_hidden_layers=32, num_attention_heads=8, intermediate_size=512,
        max_position_embeddings=512, pad_token_id=0,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    with quiet_libraries():
        model = LlamaModel(config)
        with torch.no_grad():
            for tensor in model.parameters():
                if tensor.ndim == 2:
                    tensor.normal_(0, std, generator=generator)
        model.to(torch.bfloat16).save_pretrained(folder)
    save_tokenizer(folder)
    return folder


def another_kernel_for_another_shape(monkeypatch):
    """Sum products in another order when there are more rows, as the kernels of accelerators do."""

    def forward(self, x):
        if x.shape[:-1].numel() <= 4:
            return nn.functional.linear(x, self.weight, self.bias)
        half = x.shape[-1] // 2
        low = nn.functional.linear(x[..., :half], self.weight[:, :half])
        return low + nn.functional.linear(x[..., half:], self.weight[:, half:], self.bias)

    monkeypatch.setattr(nn.Linear, "forward", forward)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_deep_model_in_half_precision_is_not_refused_for_its_rounding(tmp_path, monkeypatch, dtype):
    folder = deep_llama(tmp_path)
    another_kernel_for_another_shape(monkeypatch)
    model = load_model(ModelSpec(name=str(folder), dtype=dtype))
    assert model.lengths == ANY_LENGTHS
    assert model.warnings == ()
    seen = []
    for batch in make_batches([[5, 9, 7, 30]], 9, 0) + make_batches([[5, 9, 7, 30], [8, 6, 5, 9, 7, 30]], 99, 0):
        rows = slice(len(batch.rows) - 1, None)
        capture(model, batch, lambda _, states, rows=rows: seen.append(states[rows, :4].float()), layers=[32])
    alone, padded = seen
    # What two shapes differ by here would have refused the model.
    assert float((alone - padded).norm() / alone.norm()) > LENGTH_ERROR


def test_float32_for_a_moment_is_exact_and_leaves_every_weight_as_it_was(family_model):
    exact = family_model("llama")
    with torch.no_grad():
        half = copy.deepcopy(exact.model).to(torch.bfloat16)
        wide = copy.deepcopy(half).float()
    before = {name: (tensor, tensor.data_ptr()) for name, tensor in half.named_parameters()}
    ids = probe_ids(VOCAB, 0, CPU)
    with torch.no_grad():
        with in_float32(half, tuple(half.layers)):
            found = half(input_ids=ids).last_hidden_state
        assert found.dtype == torch.float32
        assert torch.equal(found, wide(input_ids=ids).last_hidden_state)
    for name, tensor in half.named_parameters():
        assert tensor is before[name][0]
        assert tensor.data_ptr() == before[name][1]
        assert tensor.dtype == torch.bfloat16
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in half.modules())


def test_float32_is_taken_back_when_a_pass_fails(family_model):
    half = copy.deepcopy(family_model("llama").model).to(torch.bfloat16)
    half.layers[1].mlp.forward = lambda _: 1 / 0
    with pytest.raises(ZeroDivisionError), in_float32(half, tuple(half.layers)), torch.no_grad():
        half(input_ids=probe_ids(VOCAB, 0, CPU))
    assert {tensor.dtype for tensor in half.parameters()} == {torch.bfloat16}


def tokens_of(context):
    generator = torch.Generator().manual_seed(0)
    sizes = [3, 40, 17, 16, 15, 33, 30, 8, 9, 24, 23, 18, 31, 5, 50, 62, 45, 19, 20]
    return [torch.randint(5, 90, (n,), generator=generator).tolist() for n in sizes if n <= context]


def alone(folder, ids):
    """Every block's output for one prompt, by plain transformers, from a freshly loaded model."""
    with quiet_libraries():
        model = AutoModel.from_pretrained(folder).eval()
    blocks = next(list(m) for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) == DEPTH)
    states = []
    for block in blocks:
        block.register_forward_hook(
            lambda _, __, output: states.append(output[0] if isinstance(output, tuple) else output)
        )
    with torch.no_grad(), quiet_libraries():
        model(input_ids=torch.tensor([ids]))
    return [state[0, : len(ids)] for state in states]


def read_states(batch, found, mine):
    def read(layer, states):
        for place, row in enumerate(batch.rows):
            found[row, layer] = states[place, : int(batch.lengths[place])].clone()

    capture(mine, batch, read)


@pytest.mark.parametrize("name", BY_LENGTH)
@pytest.mark.parametrize("cores", [1, 2])
def test_states_do_not_depend_on_batch_mates_or_on_what_came_before(name, cores, family_folder, family_model):
    model = family_model(name)
    # Dynamic scaling starts at the context: more tokens than layerscope lets through.
    tokens = tokens_of(64)
    batches = make_batches(tokens, 256, model.pad_id, multiple=4, lengths=model.lengths)
    found, before = {}, torch.get_num_threads()
    try:
        torch.set_num_threads(cores)
        with quiet_libraries():
            list(run_passes(model, [partial(read_states, batch, found) for batch in batches]))
    finally:
        torch.set_num_threads(before)
    for row, ids in enumerate(tokens):
        for layer, expected in enumerate(alone(family_folder(name), ids), start=1):
            assert float((found[row, layer] - expected).norm() / expected.norm()) < 5e-6


def test_a_family_that_names_nothing_and_switches_itself_keeps_lengths_apart(bert):
    layer = bert.embeddings
    layer.mode = "long"
    plain = layer.forward

    def switching(**given):
        layer.mode = "short" if given["input_ids"].shape[1] < 9 else layer.mode
        return plain(**given) * (2 if layer.mode == "short" else 1)

    layer.forward = switching
    probe = probe_of(bert)
    lengths, (note,) = find_lengths(probe)
    assert lengths == Lengths(above=0)
    assert "a pass changes its mode" in note
    assert layer.mode == "long"
