"""The settings of a GGUF file: every key is taken over, known not to matter, named, or a reason to refuse the file."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from transformers import PreTrainedConfig

from layerscope.errors import UnsupportedModelError
from layerscope.inputs.gguf_metadata import GgufMetadata, refusal

_EPSILONS = ("rms_norm_eps", "layer_norm_epsilon", "layer_norm_eps", "norm_eps", "norm_epsilon")
# A key, and the names that settings have for it in transformers: the first that a config has is the one. What the reader
# took from the file already is compared and found equal.
_TAKEN: dict[str, tuple[str, ...]] = {
    "context_length": ("max_position_embeddings",),
    "vocab_size": ("vocab_size",),
    "embedding_length": ("hidden_size",),
    "block_count": ("num_hidden_layers",),
    "feed_forward_length": ("n_inner", "intermediate_size", "d_ff"),
    "attention.head_count": ("num_attention_heads",),
    "attention.head_count_kv": ("num_key_value_heads", "num_kv_heads"),
    "attention.key_length": ("head_dim", "d_kv"),
    "attention.layer_norm_epsilon": _EPSILONS,
    "attention.layer_norm_rms_epsilon": _EPSILONS,
    "attention.relative_buckets_count": ("relative_attention_num_buckets",),
    "attn_logit_softcapping": ("attn_logit_softcapping",),
    "final_logit_softcapping": ("final_logit_softcapping",),
    "decoder_block_count": ("num_decoder_layers",),
    "use_parallel_residual": ("use_parallel_residual",),
    "expert_count": ("num_experts", "num_local_experts"),
    "expert_used_count": ("num_experts_per_tok",),
    "expert_feed_forward_length": ("moe_intermediate_size", "intermediate_size"),
    "expert_shared_feed_forward_length": ("shared_expert_intermediate_size",),
    "expert_weights_norm": ("norm_topk_prob",),
    "ssm.conv_kernel": ("conv_kernel",),
    "ssm.state_size": ("state_size",),
    "ssm.inner_size": ("intermediate_size",),
    "ssm.time_step_rank": ("time_step_rank",),
    "shortconv.l_cache": ("conv_L_cache",),
}
# Values that say "not in this model"; with any other the file is refused, because transformers' classes for the
# architectures it reads do not have what the key is about.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "attention.causal": (True,),
    "attention.clamp_kqv": (0,),
    "attention.max_alibi_bias": (0,),
    "attention.output_scale": (0, 1),
    "attention.temperature_scale": (0, 1),
    "attention.temperature_length": (0,),
    "attention.shared_kv_layers": (0,),
    "attention.q_lora_rank": (0,),
    "attention.kv_lora_rank": (0,),
    "embedding_scale": (0, 1),
    "residual_scale": (0, 1),
    "expert_group_count": (0, 1),
    "expert_group_used_count": (0, 1),
    "expert_weights_scale": (0, 1),
    "expert_gating_func": (0, 1),
    "leading_dense_block_count": (0,),
    "moe_every_n_layers": (0, 1),
    "interleave_moe_layer_step": (0, 1),
    "router_logit_softcapping": (0,),
    "ssm.dt_b_c_rms": (False,),
    "ssm.group_count": (0, 1),
    "embedding_length_per_layer_input": (0,),
    "swin_norm": (False,),
}
# Known not to change a hidden state of a text, and why.
_HARMLESS: dict[str, str] = {
    "logit_scale": "of the head",
    "pooling_type": "behind the last layer; layerscope pools itself",
    "embedding_length_out": "behind the last layer",
    "classifier.output_labels": "of a head",
    "decoder_start_token_id": "for generating",
    "tensor_data_layout": "says how the file was made; the reader goes by the architecture",
    "nextn_predict_layers": "blocks behind the last layer; their tensors are looked at by name",
    "expert_shared_count": "shown by the shapes of the weights",
}
# Of architectures that transformers does not read from GGUF: in one that it reads they would be unknown, and named.
_OF_OTHERS = frozenset(
    {"features_length", "expert_chunk_feed_forward_length", "expert_group_scale", "experts_per_group"}
    | {"moe_latent_size", "n_deepstack_layers", "rescale_every_n_layers", "time_mix_extra_dim", "time_decay_extra_dim"}
    | {"token_shift_count", "full_attention_interval", "activation_sparsity_scale", "altup.active_idx"}
    | {"altup.num_inputs", "swiglu_clamp_exp", "swiglu_clamp_shexp", "{dense}_feat_in", "{dense}_feat_out"}
    | {"attention.group_norm_epsilon", "attention.group_norm_groups", "attention.decay_lora_rank"}
    | {"attention.iclr_lora_rank", "attention.value_residual_mix_lora_rank", "attention.gate_lora_rank"}
    | {"attention.key_length_mla", "attention.value_length_mla", "attention.key_length_swa"}
    | {"attention.value_length_swa"}
)
# Read by gguf_rope, or below by a rule of their own.
_ELSEWHERE = frozenset(
    {"attention.scale", "attention.sliding_window", "attention.sliding_window_pattern", "sliding_window"}
    | {"rope.freq_base", "rope.freq_base_swa", "rope.scale_linear"}
    | {"rope.dimension_count", "rope.dimension_count_swa", "rope.dimension_sections"}
    | {
        f"rope.scaling.{name}"
        for name in ("type", "factor", "alpha", "attn_factor", "original_context_length", "finetuned")
    }
    | {
        f"rope.scaling.yarn_{name}"
        for name in ("log_multiplier", "ext_factor", "attn_factor", "beta_fast", "beta_slow")
    }
)
_BELOW = frozenset({"attention.value_length"})
# transformers builds these configs from a closed list of keys.
_CLOSED = frozenset({"qwen35", "qwen35moe", "lfm2"})
_CLOSED_KEYS = frozenset(
    {"full_attention_interval", "ssm.conv_kernel", "ssm.state_size", "ssm.group_count", "ssm.time_step_rank"}
    | {"ssm.inner_size", "attention.head_count_kv", "block_count", "expert_feed_forward_length"}
)
# llama.cpp gives the largest Gemma models another scale by their depth alone.
_LARGEST_GEMMA = {"gemma2": 46, "gemma3": 62}
_WINDOWED = frozenset({"gemma2", "gemma3", "gemma4", "gpt-oss"})


def set_settings(config: PreTrainedConfig, metadata: GgufMetadata) -> tuple[str, ...]:
    """Give the config every setting that the file states for its model.

    Returns:
        A warning for each key that is not known.

    Raises:
        UnsupportedModelError: a key changes what the model computes and cannot be taken over.
    """
    unknown = []
    for name, value in metadata.own().items():
        if metadata.architecture in _CLOSED and name in _CLOSED_KEYS:
            continue
        if name in _TAKEN:
            _take(config, metadata, name, value)
        elif name in _NEUTRAL:
            if value not in _NEUTRAL[name] and not _is_own(metadata, name):
                raise refusal(metadata, name, f"is {value}, which {type(config).__name__} has no setting for")
        elif name not in _HARMLESS and name not in _BELOW and name not in _ELSEWHERE:
            unknown.append(f"{metadata.architecture}.{name}")
    _set_attention_scale(config, metadata)
    _set_windows(config, metadata)
    unknown += [key for key in metadata.values if not _is_known(metadata, key)]
    return tuple(f"the GGUF file states {key}, which is not known here and was left unread" for key in unknown)


def check_whole(metadata: GgufMetadata) -> None:
    """Refuse a file that is not a whole model.

    Raises:
        UnsupportedModelError: one of several files, an adapter, a projector, or blocks of several shapes.
    """
    parts = int(metadata.values.get("split.count", 0) or 0)
    if parts > 1:
        raise UnsupportedModelError(
            f"the GGUF file is one of {parts} that make up a model: join them with `llama-gguf-split --merge` first"
        )
    kind = metadata.values.get("general.type", "model")
    if kind != "model":
        raise UnsupportedModelError(f"the GGUF file is of type {kind}, not a model: give the model's file")
    for name in _TAKEN:
        value = metadata.get(name)
        told = metadata.architecture in _CLOSED and name in _CLOSED_KEYS
        if isinstance(value, list) and len(set(value)) != 1 and not told:
            raise refusal(metadata, name, "differs from layer to layer")


def check_tensors(metadata: GgufMetadata, without_place: Iterable[str]) -> None:
    """Refuse a file with a tensor that found no place in the model, unless it lies behind the last layer.

    Raises:
        UnsupportedModelError: naming the first such tensor.
    """
    left = [name for name in without_place if not _is_behind(name, metadata)]
    if left:
        raise UnsupportedModelError(
            f"{left[0]} of the GGUF file has no place in the model that transformers makes of it ({len(left)} such "
            "tensors): use the model's safetensors checkpoint"
        )


def _is_behind(name: str, metadata: GgufMetadata) -> bool:
    """Heads, the multi-token prediction of some models, and frequencies, which `set_rope` reads."""
    block = name.split(".")[1] if name.startswith("blk.") else ""
    last = int(metadata.get("block_count", 0)) - int(metadata.get("nextn_predict_layers", 0) or 0)
    return (
        name in metadata.frequencies
        or name.startswith(("output.", "cls."))
        or name.endswith((".attn_rot_embd", ".attn_rot_embd.weight"))
        or (block.isdigit() and int(block) >= last)
        or ".nextn." in name
    )


def _take(config: PreTrainedConfig, metadata: GgufMetadata, name: str, value: Any) -> None:  # noqa: ANN401
    value = value[0] if isinstance(value, list) else value
    if name == "feed_forward_length" and not value:
        return  # of models whose blocks are no attention and feed-forward
    own = next((attribute for attribute in _TAKEN[name] if hasattr(config, attribute)), None)
    if name == "attention.key_length" and metadata.architecture == "gemma4":
        own = "global_head_dim"
    if own is None:
        if not _goes_without(config, name, value):
            raise refusal(metadata, name, f"is {value}, which {type(config).__name__} has no setting for")
        return
    now = getattr(config, own)
    same = math.isclose(now, value, rel_tol=1e-6) if isinstance(value, float) and now is not None else now == value
    if not same:
        setattr(config, own, value)


def _goes_without(config: PreTrainedConfig, name: str, value: Any) -> bool:  # noqa: ANN401
    """Whether a class without such a setting does what the key says all the same."""
    if name == "attention.head_count_kv":
        return value in (0, getattr(config, "num_attention_heads", value))
    if name == "attention.key_length":
        return bool(value == config.hidden_size // config.num_attention_heads)
    # Not there at all, of the head, or stated again by the shapes of the weights.
    return value in (0, None) or name in {"context_length", "final_logit_softcapping", "feed_forward_length"}


def _is_own(metadata: GgufMetadata, name: str) -> bool:
    """Keys that mean what the class of this architecture does anyway."""
    return (metadata.architecture, name) in {
        ("bloom", "attention.max_alibi_bias"),
        ("minimax-m2", "expert_gating_func"),
        ("gpt-oss", "expert_gating_func"),
    }


def _set_attention_scale(config: PreTrainedConfig, metadata: GgufMetadata) -> None:
    """By what scores are multiplied before the softmax; and values as wide as keys, as every class here has it."""
    key, value = metadata.get("attention.key_length"), metadata.get("attention.value_length")
    if value is not None and value != (key or getattr(config, "head_dim", None) or _head(config)):
        raise refusal(metadata, "attention.value_length", "is not the length of the keys")
    stated = float(metadata.get("attention.scale") or 0)
    if hasattr(config, "query_pre_attn_scalar"):
        large = _LARGEST_GEMMA.get(metadata.architecture) == config.num_hidden_layers
        wanted = stated**-2 if stated else _head(config) if large else config.head_dim
        if not math.isclose(float(config.query_pre_attn_scalar), float(wanted), rel_tol=1e-6):
            config.query_pre_attn_scalar = round(wanted, 4) if stated else wanted
    elif stated and not math.isclose(
        stated, (getattr(config, "head_dim", None) or _head(config)) ** -0.5, rel_tol=1e-4
    ):
        raise refusal(metadata, "attention.scale", "is not one over the root of a head's width")


def _head(config: PreTrainedConfig) -> int:
    return int(config.hidden_size // config.num_attention_heads)


def _set_windows(config: PreTrainedConfig, metadata: GgufMetadata) -> None:
    """How far back a token sees, and in which layers."""
    window = metadata.get("attention.sliding_window", metadata.get("sliding_window")) or None
    pattern = metadata.get("attention.sliding_window_pattern")
    layered = getattr(config, "layer_types", None)
    by_switch = hasattr(config, "use_sliding_window")
    if hasattr(config, "sliding_window") and not by_switch:
        # llama.cpp has a width of its own only for architectures that always have windows.
        if window is not None or metadata.architecture not in _WINDOWED:
            config.sliding_window = window
    elif window is not None and window < metadata.get("context_length", math.inf):
        raise refusal(metadata, "attention.sliding_window", f"is {window}, which {type(config).__name__} does not take")
    if pattern is None:
        return
    n = config.num_hidden_layers
    sliding = (
        [bool(one) for one in pattern]
        if isinstance(pattern, list)
        else [pattern > 0 and index % pattern < pattern - 1 for index in range(n)]
    )
    wanted = ["sliding_attention" if one else "full_attention" for one in sliding[:n]]
    if layered is None or len(wanted) != n:
        raise refusal(metadata, "attention.sliding_window_pattern", f"{type(config).__name__} has one window for all")
    if list(layered) != wanted:
        config.layer_types = wanted


def _is_known(metadata: GgufMetadata, key: str) -> bool:
    """Whether a key outside the architecture's own is one of those that do not change a state."""
    spaces = ("general.", "tokenizer.", "split.", "quantize.", "imatrix.", f"{metadata.architecture}.")
    return key.startswith(spaces)
