"""Weight files: what is let in, what is refused, and in which words."""

from __future__ import annotations

import hashlib
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.families import FAMILIES, build_model, save_tokenizer

from layerscope.config import ModelSpec
from layerscope.errors import LayerscopeError, RunFailedError, UserError
from layerscope.inputs.models import load_model
from layerscope.inputs.quiet import quiet_libraries
from layerscope.inputs.weights import check_finite, content_hash, drawn_keys, weight_files


@pytest.fixture
def folder(family_folder, tmp_path):
    """A copy of the tiny Llama that a test may break."""
    return shutil.copytree(family_folder("llama"), tmp_path / "model")


def load(folder, **options):
    return load_model(ModelSpec(name=str(folder), **options))


def change_weights(folder, change):
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def test_a_whole_folder_is_named_by_its_content(folder):
    assert weight_files(folder, allow_pickle=False) == (folder / "model.safetensors",)
    data = (folder / "config.json").read_bytes() + (folder / "model.safetensors").read_bytes()
    revision = load(folder).revision
    assert revision == f"sha256:{hashlib.sha256(data).hexdigest()[:16]}"
    change_weights(folder, lambda state: state["norm.weight"].add_(0.5))
    assert load(folder).revision != revision


def test_content_hash_is_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"ab")
    (tmp_path / "b").write_bytes(b"c")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1: "abc"
    assert content_hash([tmp_path / "a", tmp_path / "b"]) == expected


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda f: (f / "config.json").unlink(), r"expected a model folder with a config\.json"),
        (lambda f: (f / "config.json").write_text("{"), r"config\.json is no JSON"),
        (lambda f: (f / "config.json").write_text('{"model_type": "nonsense"}'), "cannot load model .*nonsense"),
        (lambda f: (f / "model.safetensors").unlink(), "expected safetensors weights in"),
        (lambda f: (f / "model.safetensors").write_bytes(b"x" * 100), "is not a whole safetensors file"),
        (
            lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-100]),
            "is not a whole safetensors file",
        ),
        (lambda f: (f / "tokenizer.json").unlink(), "has no tokenizer that loads"),
    ],
)
def test_broken_folders(folder, break_it, message):
    break_it(folder)
    with pytest.raises(LayerscopeError, match=message) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_a_missing_shard(folder):
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=r"names 2 files, and 'model-00002-of-00002\.safetensors' is not beside it"):
        load(folder)


def test_shards_load_like_one_file(tmp_path, family_model):
    with quiet_libraries():
        build_model(FAMILIES["llama"]).save_pretrained(tmp_path, max_shard_size="5KB")
    save_tokenizer(tmp_path)
    assert len(weight_files(tmp_path, allow_pickle=False)) > 1
    ours, whole = load(tmp_path).model.state_dict(), family_model("llama").model.state_dict()
    assert all(torch.equal(ours[key], value) for key, value in whole.items())


def test_pickled_weights_are_loaded_only_when_asked(folder, family_model):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match="holds only pickled weights"):
        load(folder)
    model = load(folder, allow_pickle=True)
    assert model.warnings == ("the weights were loaded from a pickle",)
    assert torch.equal(model.model.norm.weight, family_model("llama").model.norm.weight)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_numbers(folder, bad):
    change_weights(folder, lambda state: state["layers.1.mlp.up_proj.weight"][3, 4:6].fill_(bad))
    with pytest.raises(RunFailedError, match=r"NaN or infinity, first in layers\.1\.mlp\.up_proj\.weight \(2 of 512"):
        load(folder)


def test_weights_whose_sum_overflows_are_no_mistake():
    layer = torch.nn.Linear(4, 4)
    torch.nn.init.constant_(layer.weight, 3e38)
    assert not torch.isfinite(layer.weight.sum())
    check_finite(layer, "x")


def test_a_weight_the_checkpoint_lacks_is_an_error_that_names_it(folder):
    change_weights(folder, lambda state: state.pop("layers.2.self_attn.q_proj.weight"))
    with pytest.raises(UserError, match=r"does not hold layers\.2\.self_attn\.q_proj\.weight \(1 weights"):
        load(folder)


def test_a_head_alone_is_no_model(folder):
    save_file({"lm_head.weight": torch.zeros(96, 16)}, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="does not hold embed_tokens"):
        load(folder)


def test_a_config_that_belongs_to_another_checkpoint(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 64}))
    with pytest.raises(UserError, match=r"has another shape than its config\.json says"):
        load(folder)


def test_a_config_deeper_than_the_checkpoint(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 4}))
    with pytest.raises(UserError, match=r"does not hold layers\.3\."):
        load(folder)


def test_a_config_shallower_than_the_checkpoint_is_reported(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 2}))
    model = load(folder)
    assert model.n_layers == 2
    assert any("layers.2." in warning for warning in model.warnings)


@pytest.mark.parametrize(
    ("family", "names"),
    [
        ("gpt2", ["h.0.attn.bias", "h.0.attn.masked_bias"]),
        ("llama", ["layers.0.self_attn.rotary_emb.inv_freq"]),
        ("gpt-neox", ["layers.1.attention.masked_bias", "layers.1.attention.rotary_emb.inv_freq"]),
        ("bert", ["embeddings.position_ids"]),
        ("falcon", ["h.0.self_attention.rotary_emb.inv_freq"]),
    ],
)
def test_buffers_of_old_checkpoints_are_no_weights_without_a_place(family, names, family_folder, tmp_path):
    folder = shutil.copytree(family_folder(family), tmp_path / "old")
    change_weights(folder, lambda state: state.update({name: torch.ones(1) for name in names}))
    assert load(folder).warnings == ()
    # A bias is a weight: only a module's own masks are not.
    first = names[0].partition(".0.")[0] if ".0." in names[0] else names[0].split(".")[0]
    change_weights(folder, lambda state: state.update({f"{first}.0.odd.bias": torch.ones(1)}))
    assert "first" in load(folder).warnings[0]


@pytest.mark.parametrize(
    ("family", "setting", "named"),
    [
        ("llama", {"sliding_window": 4}, "sliding_window = 4"),
        ("llama", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping = 50.0"),
        ("llama", {"sliding_window": 4, "use_sliding_window": False}, None),
        ("llama", {"residual_multiplier": 1.0, "sliding_window": None}, None),
        ("bert", {"position_embedding_type": "relative_key"}, "position_embedding_type = relative_key"),
        ("bert", {"position_embedding_type": "absolute"}, None),
        ("mistral", {"sliding_window": 8}, None),
        ("gpt-neox", {"rotary_pct": 0.5}, None),
        ("llama", {"rope_scaling": {"rope_type": "linear", "factor": 2.0, "swirl": 3}}, "swirl"),
    ],
)
def test_a_setting_that_the_class_does_not_read_is_named(family, setting, named, family_folder, tmp_path):
    folder = shutil.copytree(family_folder(family), tmp_path / "odd")
    config = json.loads((folder / "config.json").read_text())
    config.pop("rope_parameters", None)
    (folder / "config.json").write_text(json.dumps(config | setting))
    warnings = load(folder).warnings
    assert (warnings == ()) if named is None else (len(warnings) == 1 and named in warnings[0])


def test_a_scaling_of_positions_nobody_knows_is_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    config["rope_parameters"] = {"rope_type": "spiral", "factor": 2.0, "rope_theta": 1e4}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="spiral"):
        load(folder)


@pytest.mark.parametrize("name", ["bert", "roberta", "mpnet"])
def test_a_missing_pooler_is_legitimate(name, tmp_path, family_model):
    from transformers import AutoModelForMaskedLM

    with quiet_libraries():
        build_model(FAMILIES[name], auto_class=AutoModelForMaskedLM).save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    assert load(tmp_path).warnings == ()


def test_a_language_model_checkpoint_loads_without_its_head(tmp_path):
    from transformers import AutoModelForCausalLM

    with quiet_libraries():
        build_model(FAMILIES["llama"], auto_class=AutoModelForCausalLM).save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    model = load(tmp_path)
    assert type(model.model).__name__ == "LlamaModel"
    assert model.warnings == ()


def test_a_table_that_follows_from_the_config_is_not_drawn():
    from transformers import AutoConfig, AutoModel

    options = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "vocab_size": 96}
    options |= {"decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "pad_token_id": 0}
    model = AutoModel.from_config(AutoConfig.for_model("marian", **options))
    sines = ["encoder.embed_positions.weight", "decoder.embed_positions.weight"]
    drawn = ["shared.weight", "encoder.layers.0.fc1.weight", "encoder.layers.0.final_layer_norm.weight"]
    drawn += ["encoder.layers.0.fc1.bias"]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    assert drawn_keys(model, [*sines, *drawn]) == set(drawn)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    with torch.no_grad():
        model.encoder.embed_positions.weight[3] += 1
    assert drawn_keys(model, sines) == {sines[0]}
