"""Vectors are those of the text alone, and do not depend on what it is encoded with."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.families import add_padding_token
from transformers import AutoModel

from layerscope.config import ModelSpec
from layerscope.errors import UserError
from layerscope.inputs.lengths import ANY_LENGTHS, Lengths
from layerscope.inputs.models import load_model
from layerscope.inputs.parts import block_output
from layerscope.inputs.quiet import quiet_libraries
from layerscope.states.state import State
from layerscope.tasks.encoding import TextEncoder, fixed_batches, padded_length
from layerscope.tasks.spec import TasksSpec

TEXTS = [("word " * (n % 7 + 1) + chr(97 + n % 26) * (n % 11) + str(n)) for n in range(60)]


@pytest.fixture(scope="module")
def model(tiny):
    return load_model(ModelSpec(name=str(tiny)))


def encoder(model, cache, **options) -> TextEncoder:
    layers = options.pop("layers", tuple(range(4)))
    return TextEncoder(model, TasksSpec(tasks=("x",), cache=cache, **options), layers)


def states_of(model, text):
    """Every layer's states of one text alone, and after the final norm."""
    states: list[torch.Tensor] = []
    blocks = model.parts.blocks
    handles = [blocks[0].register_forward_pre_hook(lambda _, args, __: states.append(args[0]), with_kwargs=True)]
    handles += [block.register_forward_hook(lambda _, __, output: states.append(output)) for block in blocks]
    with torch.no_grad():
        model.model(torch.tensor([model.tokenizer(text)["input_ids"]]))
        for handle in handles:
            handle.remove()
        return states, [model.parts.final_norm(state) for state in states]


def limited(model, context=None, lengths=ANY_LENGTHS):
    return replace(model, context=context, lengths=lengths)


@given(st.integers(1, 5000))
def test_padded_lengths_are_few_and_close(model, length) -> None:
    padded = padded_length(length, limited(model))
    assert length <= padded <= max(length + 1, length * 9 / 8 + 1)
    assert padded_length(padded, limited(model)) == padded


@given(st.integers(1, 100))
def test_padding_ends_at_the_context_and_within_the_range_of_a_length(model, length) -> None:
    for context in (77, 100):
        assert padded_length(length, limited(model, context)) <= max(context, length)
    lengths = Lengths((11, 53), above=70)
    padded = padded_length(length, limited(model, 100, lengths))
    assert padded >= length
    assert lengths.longest(padded) == lengths.longest(length)
    assert length <= 70 or padded == length


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60), st.integers(1, 128))
def test_batches_hold_every_prompt_once_and_have_shapes_that_depend_on_length_alone(
    model, lengths, batch_tokens
) -> None:
    tokens = [[n + 1] * length for n, length in enumerate(lengths)]
    rows = []
    for batch in fixed_batches(tokens, batch_tokens, model):
        rows += batch.rows
        size, width = batch.input_ids.shape
        assert size == max(1, batch_tokens // width)
        for position, row in enumerate(batch.rows):
            assert width == padded_length(lengths[row], model)
            assert batch.input_ids[position].tolist() == [*tokens[row], *[0] * (width - lengths[row])]
            assert batch.attention_mask[position].sum() == batch.lengths[position] == lengths[row]
    assert sorted(rows) == list(range(len(tokens)))


@pytest.mark.parametrize(
    ("positions", "pooling"), [("all", "mean"), ("no-first", "mean"), ("all", "last"), ("all", "first")]
)
def test_vectors_are_those_of_each_text_alone(model, cache, positions, pooling) -> None:
    made = encoder(model, cache, readout="raw,normed,hf", positions=positions, pooling=pooling)
    made.fill(TEXTS)
    for text in TEXTS[:9]:
        states, normed = states_of(model, text)
        for layer in range(4):
            expected = {"raw": states[layer], "normed": normed[layer], "hf": (normed if layer == 3 else states)[layer]}
            for readout, state in expected.items():
                tokens = state[0, 1:] if positions == "no-first" else state[0]
                vector = {"mean": tokens.mean(0), "last": tokens[-1], "first": tokens[0]}[pooling].numpy()
                found = made.caches[State(readout, positions)].read([text], layer)[0]
                assert np.linalg.norm(found - vector) <= 2e-6 * np.linalg.norm(vector)


def test_in_batches_of_the_same_shapes_a_model_cut_at_the_layer_gives_the_same_bits(model, tiny, cache) -> None:
    from transformers import LlamaModel

    made = encoder(model, cache)
    made.fill(TEXTS)
    tokens = [model.tokenizer(text)["input_ids"] for text in TEXTS]
    for layer in range(4):
        cut = LlamaModel.from_pretrained(tiny, num_hidden_layers=layer).eval()
        for batch in fixed_batches(tokens, made.spec.batch_tokens, model):
            with torch.inference_mode():
                states = cut(input_ids=batch.input_ids, attention_mask=batch.attention_mask).last_hidden_state
                means = [own[:length].sum(0) / length for own, length in zip(states, batch.lengths, strict=True)]
            found = made.caches[State("normed", "all")].read([TEXTS[row] for row in batch.rows], layer)
            assert np.array_equal(found, torch.stack(means)[: len(batch.rows)].numpy())


@pytest.mark.parametrize("name", ["clip", "gpt2-100", "ibert", "phi3", "bigbird"])
def test_vectors_up_to_the_context_and_across_changes_of_arithmetic_are_those_of_each_text_alone(
    name, family_folder, family_model, cache
) -> None:
    model = family_model(name)
    lengths = [length for length in range(1, 120, 4) if length <= model.context] + [model.context, 300]
    texts = [" ".join(f"w{40 + (7 * row + place) % 50}" for place in range(n)) for row, n in enumerate(lengths)]
    made = encoder(model, cache, readout="raw", layers=(3,))
    with quiet_libraries():
        made.fill(texts)
    for text in texts:
        ids = model.tokenizer(text, truncation=True, max_length=model.context)["input_ids"]
        with quiet_libraries():
            fresh = AutoModel.from_pretrained(family_folder(name)).eval()
        blocks = next(m for m in fresh.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == 3)
        states: list[torch.Tensor] = []
        blocks[2].register_forward_hook(lambda _, __, out, states=states: states.append(block_output(out)))
        with torch.no_grad(), quiet_libraries():
            fresh(input_ids=torch.tensor([ids]))
        vector = states[0][0, : len(ids)].mean(0).numpy()
        found = made.caches[State("raw", "all")].read([text], 3)[0]
        assert np.linalg.norm(found - vector) <= 5e-6 * np.linalg.norm(vector)


def test_a_padding_token_without_an_embedding_changes_nothing(family_folder, tmp_path) -> None:
    folder = shutil.copytree(family_folder("llama"), tmp_path / "model")
    texts = [" ".join(["w50"] * length) for length in range(1, 30)]
    found = []
    for change in (lambda _: None, add_padding_token):
        change(folder)
        made = encoder(load_model(ModelSpec(name=str(folder))), str(tmp_path / f"cache{len(found)}"))
        made.fill(texts)
        found.append(made.caches[State("normed", "all")].read(texts, 3))
    assert np.array_equal(*found)


def test_vectors_do_not_depend_on_order_or_company_or_an_interruption(model, tmp_path) -> None:
    whole = encoder(model, str(tmp_path / "whole"))
    whole.fill(TEXTS)
    expected = [whole.caches[State("normed", "all")].read(TEXTS, layer) for layer in range(4)]
    parts = encoder(model, str(tmp_path / "parts"))
    for part in (TEXTS[7:8], list(reversed(TEXTS[:30])), TEXTS[::3]):
        parts.fill(part)
    again = encoder(model, str(tmp_path / "parts"))
    again.fill(TEXTS)
    for layer in range(4):
        assert np.array_equal(again.caches[State("normed", "all")].read(TEXTS, layer), expected[layer])


def test_a_kill_loses_at_most_a_chunk(model, cache, monkeypatch) -> None:
    from layerscope.tasks import encoding

    monkeypatch.setattr(encoding, "CHUNK_TEXTS", 10)
    passes = 0
    real = encoding.pooled_states

    def killed(*args):
        nonlocal passes
        passes += 1
        if passes > 8:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(encoding, "pooled_states", killed)
    made = encoder(model, cache)
    with pytest.raises(KeyboardInterrupt):
        made.fill(TEXTS)
    monkeypatch.setattr(encoding, "pooled_states", real)
    left = encoder(model, cache)
    lacking = left.caches[State("normed", "all")].missing(TEXTS, range(4))
    assert 0 < len(lacking) < len(TEXTS)
    assert len(lacking) % 10 == 0
    left.fill(TEXTS)
    assert left.n_encoded == len(lacking)


def test_more_layers_of_known_texts_add_only_those_layers(model, cache) -> None:
    first = encoder(model, cache, layers=(1,))
    first.fill(TEXTS[:5])
    vectors = first.caches[State("normed", "all")].read(TEXTS[:5], 1)
    second = encoder(model, cache)
    second.fill(TEXTS[:5])
    notes = second.caches[State("normed", "all")].folder.glob("shard-*/shard.json")
    shards = sorted(json.loads(note.read_text())["layers"] for note in notes)
    assert shards == [[0, 2, 3], [1]]
    assert np.array_equal(second.caches[State("normed", "all")].read(TEXTS[:5], 1), vectors)


def test_a_context_longer_than_the_model_was_built_for(model, cache) -> None:
    with pytest.raises(UserError, match="a context of 9999 tokens is longer than the 512"):
        encoder(model, cache, context=9999)


def test_another_context_and_another_tokenizer_are_kept_apart(model, cache) -> None:
    one, two = encoder(model, cache), encoder(model, cache, context=8)
    assert one.caches[State("normed", "all")].folder != two.caches[State("normed", "all")].folder
    one.fill(TEXTS[:3])
    assert encoder(model, cache).caches[State("normed", "all")].folder == one.caches[State("normed", "all")].folder


def test_a_text_with_no_token_left_is_zeros(model, cache) -> None:
    made = encoder(model, cache, positions=("no-first",))
    made.fill(["", "a", "ab"])
    found = made.caches[State("normed", "no-first")].read(["", "a", "ab"], 2)
    assert not found[:2].any()
    assert found[2].any()
    assert made.n_empty == 1
