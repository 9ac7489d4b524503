"""The head of every family gives what the whole model gives, and what has no head is refused."""

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch
from tests.families import BY_LENGTH, DIM, FAMILIES, VOCAB, Family, build_model, save_tokenizer
from transformers import AutoModelForCausalLM

from layerscope.config import ModelSpec
from layerscope.errors import UnsupportedModelError
from layerscope.inputs.models import load_model
from layerscope.inputs.quiet import quiet_libraries
from layerscope.mmlu.head import load_head

_SMALL = FAMILIES["llama"].options
OTHER_HEADS = {
    "phi3": BY_LENGTH["phi3"],
    "falcon-h1": Family(
        "falcon_h1",
        _SMALL
        | {"mamba_d_ssm": 2 * DIM, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_n_groups": 1, "mamba_d_state": 8}
        | {"mamba_chunk_size": 8, "head_dim": 4, "lm_head_multiplier": 0.5},
    ),
    "modernbert-decoder": Family(
        "modernbert-decoder",
        FAMILIES["bert"].options | {"local_attention": 8, "cls_token_id": 2, "sep_token_id": 2},
    ),
    "llama4": Family(
        "llama4_text",
        _SMALL | {"num_local_experts": 2, "attention_chunk_size": 8, "head_dim": 4, "intermediate_size_mlp": 32},
    ),
}
"""A factor on the model, a division by the depth, and a name that is not the prefix."""

IDS = torch.tensor([[5, 8, 11, 14, 17, 20, 9]])


def save(name, folder, **options):
    with quiet_libraries():
        model = build_model((FAMILIES | OTHER_HEADS)[name], auto_class=AutoModelForCausalLM, **options)
        model.save_pretrained(folder)
    save_tokenizer(folder)
    return model


def compare(folder, whole):
    model = load_model(ModelSpec(name=str(folder)))
    head = load_head(model)
    with torch.no_grad():
        states = model.model(input_ids=IDS).last_hidden_state[0]
        expected = whole(input_ids=IDS).logits[0].log_softmax(-1)
    found = head.log_probabilities(states)
    assert torch.allclose(found, expected, atol=2e-6)
    assert torch.allclose(found.exp().sum(-1), torch.ones(len(states)), atol=1e-5)


@pytest.mark.parametrize(
    "name", ["gpt-neox", "gpt2", "gemma2", "qwen3", "phi", "opt", "mpt", "falcon", "mamba2", *OTHER_HEADS]
)
def test_it_equals_the_whole_model(name, tmp_path):
    compare(tmp_path, save(name, tmp_path))


def test_it_equals_a_model_whose_head_is_its_embeddings(tmp_path):
    compare(tmp_path, save("llama", tmp_path, tie_word_embeddings=True))


def test_it_is_float32_in_a_bfloat16_model(tmp_path):
    save("llama", tmp_path)
    head = load_head(load_model(ModelSpec(name=str(tmp_path), dtype="bfloat16")))
    assert {parameter.dtype for parameter in head.model.parameters()} == {torch.float32}
    assert sum(parameter.numel() for parameter in head.model.parameters()) == VOCAB * 16


def test_a_head_that_reads_other_states_is_refused(tmp_path):
    save("llama", tmp_path)
    head = load_head(load_model(ModelSpec(name=str(tmp_path))))
    other = SimpleNamespace(
        last_hidden_state=torch.zeros(7, 1, DIM), past_key_values=None, hidden_states=None, attentions=None
    )
    head.model.model.forward = lambda **_: other
    with pytest.raises(UnsupportedModelError, match="it does not read the states it is given"):
        head.log_probabilities(torch.ones(7, DIM))


@pytest.mark.parametrize("tied", [True, False])
def test_gguf_files(tied, tmp_path, monkeypatch):
    from tests.inputs.gguf_writing import write_gguf

    monkeypatch.setenv("LAYERSCOPE_CACHE", str(tmp_path / "cache"))
    with quiet_libraries():
        whole = build_model(FAMILIES["llama"], auto_class=AutoModelForCausalLM, tie_word_embeddings=tied)
    compare(write_gguf(tmp_path / "tiny.gguf", whole), whole)


def test_a_checkpoint_without_a_head(family_model):
    with pytest.raises(UnsupportedModelError, match="holds none: give the checkpoint that the model was published as"):
        load_head(family_model("gpt-neox"))


@pytest.mark.parametrize("name", ["bert", "modernbert"])
def test_encoders_have_no_next_token(family_model, name):
    with pytest.raises(UnsupportedModelError, match="the first token sees the last one: give a decoder"):
        load_head(family_model(name))


def test_full_attention_has_no_next_token(family_folder):
    model = load_model(ModelSpec(name=str(family_folder("llama")), bidirectional=True))
    with pytest.raises(UnsupportedModelError, match="bidirectional is none: leave it out"):
        load_head(model)


def test_threads_that_share_a_head_read_their_own_states(one_token):
    model = load_model(ModelSpec(name=str(one_token)))
    head = load_head(model)
    states = [torch.randn(3, model.dim, generator=torch.Generator().manual_seed(seed)) for seed in range(4)]
    alone = [head.log_probabilities(one) for one in states]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(head.log_probabilities, states * 200))
    assert all(torch.equal(one, alone[number % 4]) for number, one in enumerate(found))
