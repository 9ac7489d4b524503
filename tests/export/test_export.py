"""Exports of every family give the states that hooks read, loaded with nothing but sentence-transformers."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from tests.export.conftest import save_byte_tokenizer
from tests.families import DEPTH, FAMILIES, add_padding_token, build_model, save_tokenizer
from tests.inputs.test_adapters import save_adapter

import layerscope
from layerscope.errors import UnsupportedModelError, UserError
from layerscope.export import checking, export
from layerscope.export.checking import encode, open_export
from layerscope.export.cutting import Cut, cut_model
from layerscope.export.export import export_layer
from layerscope.inputs.models import load_model
from layerscope.inputs.quiet import quiet_libraries

CPU = torch.device("cpu")


def words_for(model):
    """Texts of several lengths that this model's tokenizer makes tokens of (Qwen2's reads w7 its own way)."""
    texts = [
        model.tokenizer.decode([5 + (3 * row + 7 * column) % 80 for column in range(1 + 2 * row)]) for row in range(5)
    ]
    return [text for text in texts if model.tokenizer(text)["input_ids"]]


WORDS = ["w7 w30 w9", "w11", "w40 w41 w42 w43 w44 w45 w46 w47 w48", "w12 w13", "w90 w80 w70 w60 w50 w8 w9"]
TEXTS = ["Rain.", "The tide comes in twice a day.", "x", "Schöne Grüße aus Köln", "  two\nlines  "]
NORMED = [
    name for name, family in FAMILIES.items() if family.part != "decoder" and family.kept("normed", 2) is not None
]
RAW = [
    name
    for name, family in FAMILIES.items()
    if family.final_norm and family.part != "decoder" and family.kept("raw", 1) is not None
]


def assert_equal(found, expected):
    error = np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)
    assert float(error.max()) < 1e-5


def expected_of(model, texts, vectors_one_by_one, **options):
    return vectors_one_by_one(load_model(model), texts, **options)


@pytest.mark.parametrize("name", NORMED)
def test_a_normed_layer_of_every_family(name, family_folder, family_model, spec_of, vectors_one_by_one, tmp_path):
    made = export_layer(spec_of(family_folder(name), part=FAMILIES[name].part), 2, out=tmp_path / "out")
    assert made.blocks == FAMILIES[name].kept("normed", 2)
    assert made.error < 1e-5
    words = words_for(family_model(name))
    assert len(words) >= 3
    found = encode(open_export(tmp_path / "out", CPU), words, batch_size=3)
    assert_equal(found, vectors_one_by_one(family_model(name), words, 2))


@pytest.mark.parametrize("name", RAW)
def test_a_raw_layer_of_every_family_with_a_norm(
    name, family_folder, family_model, spec_of, vectors_one_by_one, tmp_path
):
    spec = spec_of(family_folder(name), part=FAMILIES[name].part)
    made = export_layer(spec, 1, out=tmp_path / "out", readout="raw")
    assert made.blocks == FAMILIES[name].kept("raw", 1)
    words = words_for(family_model(name))
    found = encode(open_export(tmp_path / "out", CPU), words, batch_size=3)
    assert_equal(found, vectors_one_by_one(family_model(name), words, 1, "raw"))


@pytest.mark.parametrize(
    "case", [("llama", "normed", 0), ("gpt2", "raw", 0), ("bert", "raw", 0), ("llama", "raw", DEPTH)]
)
def test_the_embeddings_and_the_last_layer(case, family_folder, family_model, vectors_one_by_one, tmp_path):
    name, readout, layer = case
    made = export_layer(str(family_folder(name)), layer, out=tmp_path / "out", readout=readout)
    assert (made.size < made.whole_size) == (layer < DEPTH)
    found = encode(open_export(tmp_path / "out", CPU), WORDS)
    assert_equal(found, vectors_one_by_one(family_model(name), WORDS, layer, readout))


def test_a_family_that_cannot_be_built_without_blocks(family_folder, spec_of, tmp_path):
    with pytest.raises(UnsupportedModelError, match=r"does not read a config of 0 blocks .* Export another"):
        export_layer(spec_of(family_folder("modernbert")), 0, out=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_later_blocks_are_gone_and_no_code_of_ours_is_needed(reader, spec_of, vectors_one_by_one, tmp_path):
    made = export_layer(spec_of(reader), 1, out=tmp_path / "out")
    on_disk = (made.path / "model.safetensors").stat().st_size
    assert made.size <= on_disk < made.size + 8000 < made.whole_size
    code = (
        "import json, sys\n"
        "from sentence_transformers import SentenceTransformer\n"
        "model = SentenceTransformer(sys.argv[1], device='cpu', local_files_only=True)\n"
        "assert not any(name.startswith('layerscope') for name in sys.modules)\n"
        "assert len(model[0].model.layers) == 1\n"
        "print(json.dumps(model.encode(json.loads(sys.argv[2]), batch_size=2).tolist()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(made.path), json.dumps(TEXTS)], capture_output=True, text=True, check=True
    )
    assert_equal(np.array(json.loads(done.stdout)), expected_of(spec_of(reader), TEXTS, vectors_one_by_one, layer=1))


def test_a_chat_template_does_not_wrap_texts(reader, tmp_path):
    assert (reader / "chat_template.jinja").exists()
    made = export_layer(str(reader), 1, out=tmp_path / "out")
    opened = open_export(made.path, CPU)
    assert opened.preprocess(["ab"])["input_ids"].shape == (1, 2)
    settings = json.loads((made.path / "sentence_bert_config.json").read_text())
    assert list(settings["modality_config"]) == ["text"]


@pytest.mark.parametrize("pooling", ["last", "first"])
def test_last_and_first_token(pooling, reader, spec_of, vectors_one_by_one, tmp_path):
    made = export_layer(spec_of(reader), 2, out=tmp_path / "out", pooling=pooling)
    keep = slice(-1, None) if pooling == "last" else slice(0, 1)
    expected = expected_of(spec_of(reader), TEXTS, vectors_one_by_one, layer=2, keep=keep)
    assert_equal(encode(open_export(made.path, CPU), TEXTS), expected)


def test_without_the_first_special_token(framed, spec_of, vectors_one_by_one, tmp_path):
    made = export_layer(spec_of(framed), 2, out=tmp_path / "out", positions="no-first")
    expected = expected_of(spec_of(framed), TEXTS, vectors_one_by_one, layer=2, keep=slice(1, None))
    assert_equal(encode(open_export(made.path, CPU), TEXTS), expected)
    assert "weight 0 of &lt;s>," in (made.path / "README.md").read_text()


def test_full_attention_is_kept(reader, spec_of, vectors_one_by_one, tmp_path):
    spec = spec_of(reader, bidirectional=True)
    made = export_layer(spec, 2, out=tmp_path / "out", pooling="first")
    assert json.loads((made.path / "config.json").read_text())["is_causal"] is False
    found = encode(open_export(made.path, CPU), ["same start, one end", "same start, other end"])
    assert float(np.abs(found[0] - found[1]).max()) > 1e-3
    causal = export_layer(spec_of(reader), 2, out=tmp_path / "causal", pooling="first")
    found = encode(open_export(causal.path, CPU), ["same start, one end", "same start, other end"])
    assert found[0] == pytest.approx(found[1], abs=1e-6)


def test_an_adapter_is_merged(family_folder, family_model, spec_of, vectors_one_by_one, tmp_path):
    save_adapter(family_folder("llama"), tmp_path / "adapter", head=True)
    spec = spec_of(family_folder("llama"), adapter=str(tmp_path / "adapter"))
    made = export_layer(spec, 2, out=tmp_path / "out")
    found = encode(open_export(made.path, CPU), WORDS)
    assert_equal(found, expected_of(spec, WORDS, vectors_one_by_one, layer=2))
    plain = vectors_one_by_one(family_model("llama"), WORDS, 2)
    assert float(np.linalg.norm(found - plain) / np.linalg.norm(plain)) > 0.01
    assert not (made.path / "adapter_config.json").exists()
    assert "adapter, merged" in (made.path / "README.md").read_text()


def test_unit_length_prompts_and_context(reader, spec_of, tmp_path):
    prompts = {"query": "query: ", "passage": "passage: "}
    made = export_layer(
        spec_of(reader), 2, out=tmp_path / "out", normalize=True, prompts=prompts, default_prompt="query", context=40
    )
    opened = open_export(made.path, CPU)
    found = encode(opened, TEXTS)
    assert np.linalg.norm(found, axis=1) == pytest.approx(1, abs=1e-6)
    assert opened.max_seq_length == 40
    bare = opened.encode([f"query: {text}" for text in TEXTS], prompt="")
    assert found == pytest.approx(bare, abs=1e-6)
    passage = opened.encode(TEXTS, prompt_name="passage")
    assert passage == pytest.approx(opened.encode([f"passage: {text}" for text in TEXTS], prompt=""), abs=1e-6)
    long = "a text that is longer than forty bytes, and so is cut"
    assert opened.encode(long, prompt="") == pytest.approx(opened.encode(long[:40], prompt=""), abs=1e-6)


def test_half_precision_is_checked_and_its_rounding_said(reader, spec_of, tmp_path):
    whole = export_layer(spec_of(reader), 2, out=tmp_path / "whole")
    half = export_layer(spec_of(reader, dtype="bfloat16"), 2, out=tmp_path / "half")
    assert half.size * 2 == whole.size
    assert whole.rounding is None
    assert half.error < 1e-5 < half.rounding < 0.1
    opened = open_export(half.path, CPU)
    assert opened.dtype == torch.bfloat16
    found, exact = encode(opened, TEXTS), encode(open_export(whole.path, CPU), TEXTS)
    assert 1e-4 < float(np.linalg.norm(found - exact) / np.linalg.norm(exact)) < 0.1


def test_a_tokenizer_without_a_padding_token(tmp_path):
    with_pad = tmp_path / "model"
    build_model(FAMILIES["gpt2"], vocab_size=260, n_positions=256).save_pretrained(with_pad)
    save_byte_tokenizer(with_pad)
    config = json.loads((with_pad / "tokenizer_config.json").read_text())
    del config["pad_token"]
    (with_pad / "tokenizer_config.json").write_text(json.dumps(config))
    made = export_layer(str(with_pad), 1, out=tmp_path / "out")
    assert open_export(made.path, CPU).tokenizer.pad_token == "</s>"


def test_a_padding_token_without_an_embedding(family_folder, tmp_path):
    folder = shutil.copytree(family_folder("llama"), tmp_path / "model")
    add_padding_token(folder)
    made = export_layer(str(folder), 2, out=tmp_path / "out")
    opened = open_export(made.path, CPU)
    assert opened.tokenizer.pad_token == "w2"
    assert_equal(encode(opened, WORDS), encode(opened, WORDS, batch_size=1))


def test_a_family_whose_arithmetic_follows_the_length(family_folder, tmp_path):
    made = export_layer(str(family_folder("phi3")), 2, out=tmp_path / "out")
    assert made.warnings[0].startswith("prompts of up to 16 tokens and longer ones may not share a batch")
    assert "longer ones may not share a batch" in (tmp_path / "out" / "README.md").read_text()


def test_a_family_that_changes_itself_is_refused_with_the_reason(family_folder, tmp_path):
    with (
        quiet_libraries(),
        pytest.raises(UnsupportedModelError, match="changes its attention_type by the texts it has read"),
    ):
        export_layer(str(family_folder("bigbird")), 2, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_random_numbers_of_the_caller_are_left_alone(reader, tmp_path):
    before = torch.random.get_rng_state()
    export_layer(str(reader), 1, out=tmp_path / "out")
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_wrong_cut_is_found_in_the_written_folder_and_nothing_stays(reader, tmp_path, monkeypatch):
    def wrong(model, layer, readout):
        right = cut_model(model, layer, readout)
        return Cut(right.model, right.blocks, ("hidden_states", 0))

    monkeypatch.setattr(export, "cut_model", wrong)
    with pytest.raises(UnsupportedModelError, match=r"does not give the layer's vectors .* so it was not written"):
        export_layer(str(reader), 2, out=tmp_path / "new" / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"layer": 4}, "layer 4 does not exist: .* has layers 0 to 3"),
        ({"layer": -1}, "layer: .*greater than or equal to 0"),
        ({}, "no layer: say which with --layer"),
        ({"layer": 1, "readout": "hf"}, "say which with readout raw or normed"),
        ({"layer": 1, "positions": "no-sink"}, "no module for that"),
        ({"layer": 1, "positions": "no-first"}, "puts no special token first"),
        ({"layer": 1, "context": 300}, "longer than the 256"),
        ({"layer": 1, "pooling": "median"}, "pooling: "),
    ],
)
def test_refusals_leave_nothing_behind(options, said, reader, tmp_path):
    with pytest.raises(UserError, match=said):
        export_layer(str(reader), out=tmp_path / "out", **options)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_empty_is_not_touched(reader, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="is not empty"):
        export_layer(str(reader), 1, out=tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 1


def test_the_package_may_be_missing(reader, tmp_path, monkeypatch):
    monkeypatch.setattr(export.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install sentence-transformers"):
        export_layer(str(reader), 1, out=tmp_path / "out")


def test_an_export_is_a_model_that_layerscope_reads(reader, spec_of, vectors_one_by_one, tmp_path):
    made = export_layer(spec_of(reader), 2, out=tmp_path / "out")
    again = load_model(spec_of(made.path))
    assert again.n_layers == 2
    assert_equal(vectors_one_by_one(again, TEXTS, 2), expected_of(spec_of(reader), TEXTS, vectors_one_by_one, layer=2))
    twice = export_layer(spec_of(made.path), 1, out=tmp_path / "twice")
    assert twice.n_layers == 2


@pytest.mark.slow
def test_the_real_minilm(tmp_path):
    made = layerscope.export_layer("minilm-l6", 3, out=tmp_path / "out")
    assert (made.n_layers, made.blocks) == (6, 3)
    assert made.error < checking.MOST_ERROR
    assert 0.7 < made.size / made.whole_size < 0.8
    tide, ebb, code = encode(
        open_export(made.path, CPU),
        ["The tide comes in twice a day.", "Ebb and flow follow each other every few hours.", "import numpy as np"],
    )

    def cosine(a, b):
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    assert cosine(tide, ebb) > cosine(tide, code) + 0.1
    shutil.rmtree(made.path)


def test_a_tokenizer_that_is_opened_as_another_one_is_named(spec_of, tmp_path):
    """A wrapper's folder says which tokenizer it has; of its text model's type transformers believes that it is Qwen's."""
    from tests.sweep import tiny

    folder = tmp_path / "model"
    with quiet_libraries():
        tiny.tiny_model(tiny.tiny_config("got_ocr2")).save_pretrained(folder)
    save_tokenizer(folder)
    with pytest.raises(UnsupportedModelError, match="transformers opens it with a Qwen2Tokenizer"):
        export_layer(spec_of(folder), 2, out=tmp_path / "out")


def test_a_type_that_is_opened_with_an_image_processor_is_named(spec_of, tmp_path):
    from tests.sweep import tiny

    folder = tmp_path / "model"
    with quiet_libraries():
        tiny.tiny_model(tiny.tiny_config("git")).save_pretrained(folder)
    save_tokenizer(folder)
    with pytest.raises(UnsupportedModelError, match="opens this type of model only with its image processor"):
        export_layer(spec_of(folder), 2, out=tmp_path / "out")
