"""Numbers in a model's files that would take all memory or time are refused before anything is made of them."""

from __future__ import annotations

import json
import time

import pytest
from tests.families import FAMILIES
from transformers import AutoConfig

from layerscope.errors import DamagedError, UserError
from layerscope.inputs.sizes import check_normaliser, check_numbers, check_room


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"n_layer": 10**9}, r"says n_layer = 1,000,000,000, and at most 1,024 is read \(the model's files hold 30"),
        ({"text_config": {"num_hidden_layers": 1e9}}, "num_hidden_layers = 1,000,000,000"),
        ({"depths": [2, 2], "x": [{"depth": 10**6}]}, "depth = 1,000,000"),
        ({"num_labels": 10**7}, "num_labels = 10,000,000, and at most 131,072"),
        ({"num_attention_heads": 10**7}, "at most 131,072"),
        ({"num_local_experts": 10**7}, "at most 131,072"),
        ({"vocab_size": 10**12}, "at most 16,777,216"),
        ({"n_positions": 10**9}, "at most 16,777,216"),
        ({"llama.block_count": 10**9}, "at most 1,024"),
        ({"llama.attention.head_count": 10**9}, "at most 131,072"),
        ({"llama.embedding_length": 10**9}, "at most 16,777,216"),
        ({"d_model": 10**4000}, r"d_model = 10,[0,]{200,300}, and at most"),
    ],
)
def test_a_number_that_no_model_has_is_refused_by_name(stated, message):
    with pytest.raises(UserError, match=message):
        check_numbers(stated, 30, "config.json")


@pytest.mark.parametrize(
    "stated",
    [
        {"num_hidden_layers": 1024, "vocab_size": 262_145, "max_position_embeddings": 10_485_760},
        {"rope_theta": 10**12, "sliding_window": 2**63 - 1, "seed": 10**18, "layer_norm_eps": 1e-5},
        {"time_step_limit": [0.0, float("inf")], "hidden_size": float("nan"), "use_layers": True},
        {"id2label": {"0": "x"}, "label2id": {"x": 10**9}, "layer_types": ["full_attention"]},
    ],
)
def test_numbers_that_models_have_pass(stated):
    check_numbers(stated, 30, "config.json")


def test_a_model_may_have_as_many_layers_as_its_files_have_tensors():
    check_numbers({"num_layers": 5000}, 5000, "config.json")
    with pytest.raises(UserError, match=r"at most 1,024 is read: download"):
        check_numbers({"num_layers": 5000}, None, "config.json")


def test_a_config_of_many_times_the_weights_is_refused_and_nothing_is_allocated():
    config = AutoConfig.for_model("llama", **FAMILIES["llama"].options)
    check_room(config, 40_000, "a model")
    config.hidden_size = config.intermediate_size = 10**6
    before = time.perf_counter()
    with pytest.raises(UserError, match=r"describes a model of [\d,]+ weights, and its files have 40,000 bytes"):
        check_room(config, 40_000, "a model")
    assert time.perf_counter() - before < 5


def replacing(pattern, content):
    return {"type": "Replace", "pattern": {"String": pattern}, "content": content}


def doubling(n):
    return {"type": "Sequence", "normalizers": [replacing("a", "aa")] * n}


@pytest.mark.parametrize(
    "normaliser",
    [
        doubling(24),
        {"type": "Sequence", "normalizers": [doubling(50), doubling(50)]},
        {"type": "Sequence", "normalizers": [replacing("é", "éé")] * 60},
        {"type": "Sequence", "normalizers": [replacing("é", "漢")] + [replacing("漢", "漢字漢")] * 60},
        {"type": "Replace", "pattern": {"Regex": "."}, "content": "x" * 100},
        {"type": "Replace", "pattern": {"Regex": "."}, "content": "x" * 10**7},
    ],
)
def test_a_normaliser_that_makes_texts_explode_is_refused_before_it_does(tmp_path, normaliser):
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps({"normalizer": normaliser}))
    with pytest.raises(UserError, match="makes texts more than 64 times as long before it splits them"):
        check_normaliser(file, "a model")


@pytest.mark.parametrize(
    "normaliser",
    [
        None,
        {"type": "NFKD"},
        {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, replacing(" ", "▁")]},
        {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": True,
        },
        {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"},
    ],
)
def test_normalisers_of_models_pass(tmp_path, normaliser):
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps({"normalizer": normaliser}))
    check_normaliser(file, "a model")


@pytest.mark.parametrize(
    ("content", "error"),
    [("[]", DamagedError), ("[" * 100_000, DamagedError), ('{"normalizer": {"type": 3}}', UserError)],
)
def test_a_tokenizer_file_that_is_none_is_refused(tmp_path, content, error):
    file = tmp_path / "tokenizer.json"
    file.write_text(content)
    with pytest.raises(error):
        check_normaliser(file, "a model")


def test_a_factor_is_no_number_of_things():
    check_numbers({"layer_rope_theta": 500_000, "head_scale": 10**6, "block_token_id": 150_000}, 56, "config.json")
