"""Writes a tiny model as the GGUF file that llama.cpp's converter makes of it: its names, layouts and keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from tests.families import VOCAB

ARCHITECTURES = {
    "llama": "llama",
    "mistral": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "gemma2": "gemma2",
    "gemma3_text": "gemma3",
    "phi3": "phi3",
    "starcoder2": "starcoder2",
    "stablelm": "stablelm",
    "nemotron": "nemotron",
    "gpt2": "gpt2",
    "falcon": "falcon",
    "bloom": "bloom",
    "mamba": "mamba",
    "qwen3_moe": "qwen3moe",
    "lfm2": "lfm2",
}
# In transformers a norm's weight is added to 1 in these.
_OFFSET_NORMS = ("gemma2", "gemma3", "nemotron")
_EPSILONS = {
    "layer_norm_epsilon": ("norm_epsilon", "layer_norm_eps", "layer_norm_epsilon"),
    "layer_norm_rms_epsilon": ("rms_norm_eps", "norm_eps"),
}
_LAYER_NORM = ("starcoder2", "stablelm", "gpt2", "falcon", "bloom")


def interleaved(weight: np.ndarray, heads: int) -> np.ndarray:
    """llama.cpp stores the two halves of each head's rotary dimensions next to each other."""
    return weight.reshape(heads, 2, weight.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(weight.shape)


def write_gguf(
    file: Path,
    model: Any,
    *,
    keys: dict[str, Any] | None = None,
    tensors: dict[str, Any] | None = None,
    architecture: str | None = None,
    tokens: list[str] | None = None,
) -> Path:
    """Write a model with a language head.

    Args:
        file: the file.
        model: what `AutoModelForCausalLM` gives.
        keys: metadata in place of what the config says, whole names without the architecture ("rope.scaling.type"), or
            with another first word ("tokenizer.ggml.pre"); None leaves a key out.
        tensors: more tensors.
        architecture: in place of the model's own.
        tokens: the vocabulary.
    """
    import gguf

    own = ARCHITECTURES[model.config.model_type]
    writer = gguf.GGUFWriter(file, architecture or own)
    writer.add_name("tiny")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    values = stated(model.config, own) | {"tokenizer.ggml.pre": "gpt-2"} | (keys or {})
    for key, value in values.items():
        if value is None:
            continue
        name = key if key.startswith(("general.", "tokenizer.", "split.", "x.")) else f"{architecture or own}.{key}"
        add = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
        (writer.add_array if isinstance(value, list) else add[type(value)])(name, value)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens or ["w", "1", "w1", *(f"x{i}" for i in range(3, VOCAB))])
    writer.add_token_types([1] * VOCAB)
    writer.add_token_merges(["w 1"])
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)
    for name, value in {**as_llama_cpp(model, own), **(tensors or {})}.items():
        writer.add_tensor(name, np.ascontiguousarray(value, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def stated(config: Any, architecture: str) -> dict[str, Any]:
    """What the converter writes of a config."""
    heads = getattr(config, "num_attention_heads", 0)
    kv = getattr(config, "num_kv_heads" if architecture == "falcon" else "num_key_value_heads", heads)
    kind = "layer_norm_epsilon" if architecture in _LAYER_NORM else "layer_norm_rms_epsilon"
    found: dict[str, Any] = {
        "block_count": config.num_hidden_layers,
        "embedding_length": config.hidden_size,
        "attention.head_count": heads,
        "vocab_size": config.vocab_size,
        f"attention.{kind}": next(getattr(config, name) for name in _EPSILONS[kind] if hasattr(config, name))
        if architecture != "mamba"
        else config.layer_norm_epsilon,
    }
    if hasattr(config, "max_position_embeddings"):
        found["context_length"] = config.max_position_embeddings
    if architecture == "mamba":
        return found | {
            "context_length": 2**20,
            "feed_forward_length": 0,
            "ssm.conv_kernel": config.conv_kernel,
            "ssm.inner_size": config.intermediate_size,
            "ssm.state_size": config.state_size,
            "ssm.time_step_rank": config.time_step_rank,
        }
    if architecture not in ("gpt2", "bloom"):
        found["attention.head_count_kv"] = kv
    inner = getattr(config, "n_inner", None) or getattr(config, "intermediate_size", 4 * config.hidden_size)
    found["feed_forward_length"] = inner
    rope = getattr(config, "rope_parameters", None)
    if rope:
        whole = rope.get("full_attention", rope)
        head = getattr(config, "head_dim", None) or config.hidden_size // heads
        found["rope.freq_base"] = float(whole["rope_theta"])
        found["rope.dimension_count"] = int(head * whole.get("partial_rotary_factor", 1.0))
        if architecture in ("qwen3", "gemma2", "gemma3", "qwen3moe"):
            found["attention.key_length"] = found["attention.value_length"] = head
    if architecture in ("gemma2", "gemma3", "phi3") and config.sliding_window:
        found["attention.sliding_window"] = config.sliding_window
    if architecture == "phi3":
        found["rope.scaling.original_context_length"] = config.original_max_position_embeddings
    if architecture == "gemma2":
        found["attn_logit_softcapping"] = float(config.attn_logit_softcapping)
        found["final_logit_softcapping"] = float(config.final_logit_softcapping)
    if architecture == "stablelm":
        found["use_parallel_residual"] = config.use_parallel_residual
    if architecture == "qwen3moe":
        found |= {"expert_count": config.num_experts, "expert_used_count": config.num_experts_per_tok}
        found["expert_feed_forward_length"] = config.moe_intermediate_size
    if architecture == "lfm2":
        found["attention.head_count_kv"] = [kv if kind == "full_attention" else 0 for kind in config.layer_types]
        found["shortconv.l_cache"] = config.conv_L_cache
    return found


def as_llama_cpp(model: Any, architecture: str) -> dict[str, np.ndarray]:
    """The weights under llama.cpp's names and in its layouts."""
    import gguf

    config = model.config
    arch = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    found = {}
    for key, tensor in model.state_dict().items():
        value = tensor.detach().float().numpy()
        if key == "lm_head.weight" and config.tie_word_embeddings:
            continue
        if architecture == "qwen3moe" and ".experts." in key:
            block = key.split(".")[2]
            parts = (
                {"down": value}
                if key.endswith("down_proj")
                else dict(zip(("gate", "up"), np.split(value, 2, axis=1), strict=True))
            )
            found |= {f"blk.{block}.ffn_{part}_exps.weight": one for part, one in parts.items()}
            continue
        ending = next((end for end in (".weight", ".bias") if key.endswith(end)), "")
        # The converter takes this prefix off BLOOM's names.
        plain = key.removeprefix("transformer.") if architecture == "bloom" else key
        name = names.get_name(plain.removesuffix(ending))
        assert name is not None, key
        found[name + ending] = _laid_out(value, name + ending, config, architecture)
    return found


def _laid_out(value: np.ndarray, name: str, config: Any, architecture: str) -> np.ndarray:
    if architecture == "llama" and name.endswith(("attn_q.weight", "attn_k.weight")):
        return interleaved(value, config.num_attention_heads if "attn_q" in name else config.num_key_value_heads)
    if architecture in _OFFSET_NORMS and name.endswith("norm.weight"):
        return value + 1
    if architecture == "gpt2" and name.endswith(
        ("attn_qkv.weight", "ffn_down.weight", "ffn_up.weight", "attn_output.weight")
    ):
        return value.T
    if architecture == "bloom" and "attn_qkv" in name:
        heads, width = config.n_head, config.hidden_size
        apart = value.reshape(heads, 3, width // heads, *value.shape[1:])
        return np.concatenate([apart[:, part].reshape(width, *value.shape[1:]) for part in range(3)])
    if name.endswith(("ssm_conv1d.weight", "shortconv.conv.weight")):
        return value[:, 0]
    if name.endswith("ssm_a"):
        return -np.exp(value)
    return value
