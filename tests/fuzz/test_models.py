"""Damaged model folders: refused in one line, or read as what they are, under another revision than the whole one's."""

from __future__ import annotations

import json
import shutil
import struct

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.families import FAMILIES, build_model
from tests.fuzz.mutations import altered, attempt, damaged, full_and_slice, fuzzed
from tests.inputs.gguf_writing import write_gguf
from transformers import AutoModelForCausalLM

from layerscope.config import ModelSpec
from layerscope.errors import LayerscopeError
from layerscope.inputs.adapters import adapter_revision
from layerscope.inputs.identity import tokenizer_hash
from layerscope.inputs.models import LoadedModel, load_model
from layerscope.inputs.parts import probe_states
from layerscope.inputs.prompts import tokenize
from layerscope.inputs.weights import check_safetensors, weight_files

pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")

TEXTS = ["a text of some words", "w1 7 x9"]


@pytest.fixture
def folder(family_folder, tmp_path):
    """A folder of a tiny model, to be damaged."""
    return shutil.copytree(family_folder("llama"), tmp_path / "model")


def states_of(model: LoadedModel) -> list[torch.Tensor]:
    """The states of all layers for some ids."""
    ids = torch.tensor([[5, 9, 7, 30, 41]])
    return probe_states(model.model, model.parts, ids, torch.ones_like(ids))


def same(one, other) -> bool:
    """Whether two models have the same states."""
    pairs = zip(states_of(one), states_of(other), strict=False)
    return all(a.shape == b.shape and torch.equal(a, b) for a, b in pairs)


def whole_or_another(folder, name, cases, contents, check):
    """Put each content in the place of a file and load the model; what loads is checked against the whole one."""
    spec = ModelSpec(name=str(folder))
    whole = load_model(spec)

    @fuzzed(cases)
    @given(contents((folder / name).read_bytes()))
    def each(content):
        # Another file in its place: the whole model is read through the first one.
        (folder / "new").write_bytes(content)
        (folder / "new").replace(folder / name)
        model = attempt(lambda: load_model(spec))
        if model is not None:
            check(whole, model)

    each()


def json_or_bytes(whole):
    """A JSON file damaged in its bytes or in its values."""
    return st.one_of(altered(whole), altered(whole), damaged(whole))


def same_or_another_revision(whole, model):
    """What is called the same is the same."""
    assert model.revision != whole.revision or same(whole, model)


@full_and_slice(1200, 12)
def test_config(folder, cases):
    whole_or_another(folder, "config.json", cases, json_or_bytes, same_or_another_revision)


@full_and_slice(600, 8)
def test_weights(folder, cases):
    whole_or_another(folder, "model.safetensors", cases, damaged, same_or_another_revision)


@full_and_slice(800, 12)
@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_tokenizer(folder, cases, name):
    def check(whole, model):
        tokens = attempt(lambda: tokenize(TEXTS, model.tokenizer, 16))
        if tokens is not None and tokenizer_hash(model.tokenizer) == tokenizer_hash(whole.tokenizer):
            assert tokens == tokenize(TEXTS, whole.tokenizer, 16)

    whole_or_another(folder, name, cases, json_or_bytes, check)


@full_and_slice(1000, 30)
def test_safetensors_headers(tmp_path, cases):
    header = json.dumps(
        {"a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, "__metadata__": {"format": "pt"}}
    )

    @fuzzed(cases)
    @given(json_or_bytes(header.encode()), st.booleans())
    def each(found, honest):
        size = len(found) if honest else len(header)
        (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", size) + found + bytes(24))
        names = attempt(lambda: check_safetensors(tmp_path / "a.safetensors"))
        assert names is None or set(names) <= set(json.loads(found[:size])) - {"__metadata__"}

    each()


@full_and_slice(500, 20)
def test_index_of_shards(folder, cases):
    names = dict.fromkeys(check_safetensors(folder / "model.safetensors"), "model-1.safetensors")
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    index = json.dumps({"metadata": {"total_size": 7}, "weight_map": names})

    @fuzzed(cases)
    @given(json_or_bytes(index.encode()))
    def each(content):
        (folder / "model.safetensors.index.json").write_bytes(content)
        files = attempt(lambda: weight_files(folder, allow_pickle=False))
        assert files is None or files == (folder / "model-1.safetensors",)

    each()


@full_and_slice(400, 20)
def test_adapter_folders(tmp_path, family_folder, cases):
    shutil.copy(family_folder("llama") / "model.safetensors", tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "r": 2, "target_modules": ["q_proj"]})
    )
    spec = ModelSpec(name=str(family_folder("llama")), adapter=str(tmp_path))
    adapter_revision(str(tmp_path), allow_pickle=False)

    @fuzzed(cases)
    @given(json_or_bytes((tmp_path / "adapter_config.json").read_bytes()))
    def each(content):
        (tmp_path / "adapter_config.json").write_bytes(content)
        # Weights of another kind: no config makes an adapter of them.
        with pytest.raises(LayerscopeError):
            load_model(spec)

    each()


@full_and_slice(800, 8)
def test_gguf(tmp_path, monkeypatch, cases):
    monkeypatch.setenv("LAYERSCOPE_CACHE", str(tmp_path / "cache"))
    file = write_gguf(tmp_path / "a.gguf", build_model(FAMILIES["llama"], auto_class=AutoModelForCausalLM))
    spec = ModelSpec(name=str(file))
    whole, content = load_model(spec), file.read_bytes()
    # The head of the file is where its keys are.
    head = content[:6000]

    @fuzzed(cases)
    @given(damaged(head))
    def each(found):
        file.write_bytes(found + content[len(head) :])
        model = attempt(lambda: load_model(spec))
        assert model is None or model.revision != whole.revision or same(whole, model)
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)

    each()
