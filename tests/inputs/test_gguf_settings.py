"""Everything a GGUF file says that changes a state is taken over, or the file is refused by name.

The right value is that of plain transformers with the model the file was written from: float32, one prompt.
"""

from __future__ import annotations

import math

import pytest
import torch
from tests.families import FAMILIES, VOCAB, Family, build_model
from tests.inputs.gguf_writing import write_gguf
from transformers import AutoModelForCausalLM

from layerscope.config import ModelSpec
from layerscope.errors import UnsupportedModelError, UserError
from layerscope.files.reading import read_toml
from layerscope.inputs.models import load_model
from layerscope.inputs.quiet import quiet_libraries
from layerscope.states.batches import make_batches
from layerscope.states.capture import capture
from layerscope.states.readout import read_out

SHAPE = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 128,
}
WIDE = SHAPE | {"head_dim": 16}
WINDOWED = WIDE | {"sliding_window": 8, "query_pre_attn_scalar": 16}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
IDS = torch.randint(4, VOCAB, (100,), generator=torch.Generator().manual_seed(0)).tolist()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LAYERSCOPE_CACHE", str(tmp_path / "cache"))


def whole(model_type, **options):
    with quiet_libraries():
        return build_model(Family(model_type, options), auto_class=AutoModelForCausalLM)


def top(loaded, ids=IDS):
    found = []
    [batch] = make_batches([ids], 1000, loaded.pad_id)
    capture(loaded, batch, lambda _, state: found.append(state.clone()), layers=[loaded.n_layers])
    return read_out(loaded, loaded.n_layers, found[0], "normed")


def error(file, model, ids=IDS):
    """Relative error of the last layer of the file against the model."""
    with torch.no_grad():
        right = model.base_model(torch.tensor([ids])).last_hidden_state
    return float((top(load_model(ModelSpec(name=str(file))), ids) - right).norm() / right.norm())


MODELS = {
    "llama": ("llama", SHAPE),
    "llama-base": ("llama", SHAPE | {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}),
    "qwen2": ("qwen2", SHAPE),
    "qwen3": ("qwen3", WIDE),
    "qwen3-moe": (
        "qwen3_moe",
        WIDE | {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8, "norm_topk_prob": True},
    ),
    "gemma2": ("gemma2", WINDOWED | {"attn_logit_softcapping": 2.0}),
    "gemma3": ("gemma3_text", WINDOWED),
    "phi3": ("phi3", SHAPE | {"original_max_position_embeddings": 128, "sliding_window": 16}),
    "phi3-part": ("phi3", SHAPE | {"partial_rotary_factor": 0.5, "original_max_position_embeddings": 128}),
    "starcoder2": ("starcoder2", SHAPE | {"rope_parameters": {"rope_type": "default", "rope_theta": 777.0}}),
    "stablelm": ("stablelm", SHAPE | {"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}}),
    "nemotron": ("nemotron", SHAPE | {"norm_eps": 1e-2}),
    "falcon": ("falcon", {**FAMILIES["falcon"].options, "layer_norm_epsilon": 1e-2}),
    "gpt2": ("gpt2", {**FAMILIES["gpt2"].options, "n_positions": 128, "n_inner": 24}),
    "bloom": ("bloom", FAMILIES["bloom"].options),
    "mamba": ("mamba", FAMILIES["mamba"].options),
    "lfm2": ("lfm2", SHAPE | {"block_auto_adjust_ff_dim": False, "layer_types": ["conv", "full_attention", "conv"]}),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_file_gives_the_states_of_the_model_it_was_made_from(name, tmp_path):
    model_type, options = MODELS[name]
    model = whole(model_type, **options)
    ids = IDS[:60] if name in {"falcon"} else IDS
    file = write_gguf(tmp_path / "m.gguf", model)
    assert error(file, model, ids) < 1e-5
    assert load_model(ModelSpec(name=str(file))).warnings == ()


def llama3_factors(base, half, factor, original):
    """As llama.cpp writes them."""
    found = []
    for step in range(half):
        wavelength = 2 * math.pi * base ** (step / half)
        smooth = (original / wavelength - 1) / (4 - 1)
        between = 1 / ((1 - smooth) / factor + smooth)
        found.append(1.0 if wavelength < original / 4 else factor if wavelength > original else between)
    return found


@pytest.mark.parametrize(("original", "kept"), [(8192, "llama3"), (24, "longrope")])
def test_llama3s_scaling_is_read_from_its_tensor(original, kept, tmp_path):
    scaled = LLAMA3 | {"rope_theta": 1e4, "original_max_position_embeddings": original}
    options = SHAPE | {"max_position_embeddings": 8200 if original == 8192 else 128, "head_dim": 16}
    model = whole("llama", **options, rope_parameters=scaled)
    tensors = {"rope_freqs.weight": llama3_factors(1e4, 8, 8.0, original)}
    file = write_gguf(tmp_path / "m.gguf", model, tensors=tensors)
    assert error(file, model) < 1e-5
    loaded = load_model(ModelSpec(name=str(file)))
    assert loaded.model.config.rope_parameters["rope_type"] == kept
    assert loaded.warnings == ()
    plain = whole("llama", **options, rope_parameters={"rope_type": "default", "rope_theta": 1e4})
    if original == 24:
        assert error(file, plain) > 0.05  # what leaving the tensor unread came to


def test_any_other_factors_divide_the_frequencies_too(tmp_path):
    factors = [1.0, 1.5, 3.0, 7.0]
    model = whole("llama", **SHAPE)
    file = write_gguf(tmp_path / "m.gguf", model, tensors={"rope_freqs.weight": factors})
    model.base_model.rotary_emb.inv_freq /= torch.tensor(factors)
    assert error(file, model) < 1e-5


SCALINGS = {
    "linear": ({"rope_type": "linear", "factor": 4.0}, {"rope.scaling.type": "linear", "rope.scaling.factor": 4.0}),
    "oldest": ({"rope_type": "linear", "factor": 4.0}, {"rope.scale_linear": 4.0}),
    "yarn": (
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32},
        {
            "rope.scaling.type": "yarn",
            "rope.scaling.factor": 4.0,
            "rope.scaling.original_context_length": 32,
            "rope.scaling.finetuned": True,
        },
    ),
    "yarn-all": (
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
        | {"beta_fast": 8.0, "beta_slow": 2.0, "attention_factor": 0.8},
        {
            "rope.scaling.type": "yarn",
            "rope.scaling.factor": 4.0,
            "rope.scaling.original_context_length": 32,
            "rope.scaling.yarn_beta_fast": 8.0,
            "rope.scaling.yarn_beta_slow": 2.0,
            "rope.scaling.yarn_attn_factor": 0.8,
            "rope.scaling.yarn_ext_factor": 1.0,
        },
    ),
    "none": ({"rope_type": "default"}, {"rope.scaling.type": "none", "rope.scaling.factor": 4.0}),
}


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
@pytest.mark.parametrize("kind", SCALINGS)
def test_scaling_by_keys(kind, architecture, tmp_path):
    parameters, keys = SCALINGS[kind]
    model = whole(architecture, **SHAPE, rope_parameters=parameters | {"rope_theta": 1e4})
    file = write_gguf(tmp_path / "m.gguf", model, keys=keys)
    assert error(file, model) < 1e-5
    assert load_model(ModelSpec(name=str(file))).warnings == ()


def test_a_gemmas_scaling_is_that_of_its_full_attention(tmp_path):
    parameters = {
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
    }
    types = ["sliding_attention", "full_attention", "sliding_attention"]
    model = whole("gemma3_text", **WINDOWED, rope_parameters=parameters, layer_types=types)
    keys = {
        "rope.scaling.type": "linear",
        "rope.scaling.factor": 8.0,
        "attention.sliding_window_pattern": [True, False, True],
    }
    assert error(write_gguf(tmp_path / "m.gguf", model, keys=keys), model) < 1e-5


def test_a_gemmas_factors_divide_the_frequencies_of_its_full_attention(tmp_path):
    parameters = {
        "full_attention": {"rope_type": "default", "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
    }
    types = ["sliding_attention", "full_attention", "sliding_attention"]
    model = whole("gemma3_text", **WINDOWED, rope_parameters=parameters, layer_types=types)
    rotary = model.base_model.rotary_emb
    factors = [1.0 + step for step in range(len(rotary.full_attention_inv_freq))]
    keys = {"attention.sliding_window_pattern": [True, False, True]}
    file = write_gguf(tmp_path / "m.gguf", model, keys=keys, tensors={"rope_freqs.weight": factors})
    assert error(file, model) > 0.01
    rotary.full_attention_inv_freq /= torch.tensor(factors)
    assert error(file, model) < 1e-5


@pytest.mark.parametrize("n", [20, 100])
def test_longrope_on_both_sides_of_its_threshold(n, tmp_path):
    short, long = [1.0, 1.1, 1.3, 1.6], [1.0, 3.0, 9.0, 20.0]
    parameters = {"rope_type": "longrope", "short_factor": short, "long_factor": long, "rope_theta": 1e4}
    model = whole("phi3", **SHAPE, original_max_position_embeddings=32, rope_parameters=parameters)
    attention = math.sqrt(1 + math.log(128 / 32) / math.log(32))
    file = write_gguf(
        tmp_path / "m.gguf",
        model,
        keys={"rope.scaling.attn_factor": attention},
        tensors={"rope_factors_short.weight": short, "rope_factors_long.weight": long},
    )
    assert error(file, model, IDS[:n]) < 1e-5


REFUSALS = {
    "a rope type nobody knows": ({"rope.scaling.type": "spiral"}, "llama.rope.scaling.type"),
    "another alpha": ({"rope.scaling.alpha": 1000.0}, "llama.rope.scaling.alpha"),
    "yarn's log": ({"rope.scaling.yarn_log_multiplier": 0.1}, "llama.rope.scaling.yarn_log_multiplier"),
    "a part of each head turns": ({"rope.dimension_count": 4, "attention.key_length": 8}, "rope.dimension_count"),
    "no causal mask": ({"attention.causal": False}, "llama.attention.causal"),
    "clamped keys": ({"attention.clamp_kqv": 8.0}, "llama.attention.clamp_kqv"),
    "a soft cap": ({"attn_logit_softcapping": 50.0}, "llama.attn_logit_softcapping"),
    "alibi": ({"attention.max_alibi_bias": 8.0}, "llama.attention.max_alibi_bias"),
    "another scale": ({"attention.scale": 0.5}, "llama.attention.scale"),
    "a window": ({"attention.sliding_window": 16}, "llama.attention.sliding_window"),
    "windows in some layers": ({"attention.sliding_window_pattern": [True, False, True]}, "sliding_window_pattern"),
    "experts": ({"expert_count": 8, "expert_used_count": 2}, "llama.expert_count"),
    "short values": ({"attention.value_length": 4}, "llama.attention.value_length"),
    "scaled residuals": ({"residual_scale": 0.2}, "llama.residual_scale"),
    "scaled embeddings": ({"embedding_scale": 12.0}, "llama.embedding_scale"),
    "layers of several widths": ({"feed_forward_length": [48, 48, 24]}, "llama.feed_forward_length"),
    "one file of several": ({"split.count": 3}, "one of 3"),
    "an adapter": ({"general.type": "adapter"}, "is of type adapter"),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_what_cannot_be_taken_over_is_refused_by_name(what, tmp_path):
    keys, message = REFUSALS[what]
    file = write_gguf(tmp_path / "m.gguf", whole("llama", **SHAPE), keys=keys)
    with pytest.raises(UnsupportedModelError, match=message):
        load_model(ModelSpec(name=str(file)))


@pytest.mark.parametrize(
    "keys",
    [
        {"attention.causal": True, "expert_count": 0, "attention.clamp_kqv": 0.0, "logit_scale": 3.0},
        {"pooling_type": 1, "attention.value_length": 8, "attention.key_length": 8, "tensor_data_layout": "original"},
        {"rope.scaling.type": "linear", "rope.scaling.factor": 1.0, "residual_scale": 1.0},
    ],
)
def test_what_changes_nothing_is_no_word_worth(keys, tmp_path):
    model = whole("llama", **SHAPE)
    file = write_gguf(tmp_path / "m.gguf", model, keys=keys)
    assert error(file, model) < 1e-5
    assert load_model(ModelSpec(name=str(file))).warnings == ()


def test_a_key_nobody_knows_is_named(tmp_path):
    keys = {"mixing.temperature": 2.0, "rope.scaling.kind": "odd", "x.y": 1}
    file = write_gguf(tmp_path / "m.gguf", whole("llama", **SHAPE), keys=keys)
    warnings = load_model(ModelSpec(name=str(file))).warnings
    named = [warning.split()[4].rstrip(",") for warning in warnings]
    assert named == ["llama.mixing.temperature", "llama.rope.scaling.kind", "x.y"]


@pytest.mark.parametrize("name", ["blk.0.attn_q_norm.weight", "blk.1.attn_q.scale", "odd.weight"])
def test_a_tensor_without_a_place_is_refused(name, tmp_path):
    file = write_gguf(tmp_path / "m.gguf", whole("llama", **SHAPE), tensors={name: [1.0] * 8})
    with pytest.raises(UnsupportedModelError, match=f"{name} of the GGUF file has no place"):
        load_model(ModelSpec(name=str(file)))


def test_a_weight_the_file_lacks_is_an_error(tmp_path):
    model = whole("qwen2", **SHAPE)
    file = write_gguf(tmp_path / "m.gguf", model, keys={"block_count": 4})
    with pytest.raises(UserError, match=r"does not hold (model\.)?layers\.3\."):
        load_model(ModelSpec(name=str(file)))


def test_every_key_of_the_format_has_been_judged():
    """A new version of the gguf package with a new key must fail here, not change a number."""
    from gguf.constants import Keys

    judged = read_toml("inputs", "gguf")
    known = {*judged["taken"], *judged["neutral"], *judged["harmless"], *judged["others"]["keys"]}
    groups = (Keys.LLM, Keys.Attention, Keys.Rope, Keys.SSM, Keys.Classifier, Keys.ShortConv)
    keys = {
        key.removeprefix("{arch}.")
        for group in groups
        for key in vars(group).values()
        if isinstance(key, str) and key.startswith("{arch}.")
    }
    assert keys <= known.union(*judged["elsewhere"].values())
