"""The settings of a GGUF file: every key is taken over, known not to matter, named, or a reason to refuse the file."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedConfig

from layerscope.errors import UnsupportedModelError
from layerscope.files.reading import read_toml
from layerscope.inputs.gguf_metadata import FREQS, LONG, SHORT, GgufMetadata

_JUDGED = read_toml("inputs", "gguf")
_TAKEN, _NEUTRAL, _CLOSED = _JUDGED["taken"], _JUDGED["neutral"], _JUDGED["closed"]
_UNTOUCHED = {*_JUDGED["harmless"], *_JUDGED["elsewhere"]["rules"], *_JUDGED["elsewhere"]["rope"]}

# Of rotary positions transformers' reader takes the base, and leaves how they are scaled.
_BASE = 10000.0  # llama.cpp's where a file names none
_LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
# What these say is one number in transformers, and 0 is to leave things as they are.
_REFUSED = ("rope.scaling.alpha", "rope.scaling.yarn_log_multiplier", "rope.dimension_sections")


def set_settings(config: PreTrainedConfig, metadata: GgufMetadata) -> tuple[str, ...]:
    """Give the config every setting that the file states for its model; a warning for each key that is not known.

    A key that changes what the model computes and cannot be taken over is an UnsupportedModelError.
    """
    unknown = []
    for name, value in metadata.own().items():
        if _is_read(metadata, name):
            continue
        if name in _TAKEN:
            _take(config, metadata, name, value[0] if isinstance(value, list) else value)
        elif name in _NEUTRAL:
            if value not in _NEUTRAL[name] and _JUDGED["own"].get(metadata.architecture) != name:
                raise _no_setting(config, metadata, name, value)
        elif name not in _UNTOUCHED:
            unknown.append(f"{metadata.architecture}.{name}")
    _set_attention_scale(config, metadata)
    _set_windows(config, metadata)
    # Outside the architecture's own keys, those that do not change a state.
    spaces = ("general.", "tokenizer.", "split.", "quantize.", "imatrix.", f"{metadata.architecture}.")
    unknown += [key for key in metadata.values if not key.startswith(spaces)]
    return tuple(f"the GGUF file states {key}, which is not known here and was left unread" for key in unknown)


def check_whole(metadata: GgufMetadata) -> None:
    """Refuse (UnsupportedModelError) one of several files, an adapter, a projector, and blocks of several shapes."""
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
        if isinstance(value, list) and len(set(value)) != 1 and not _is_read(metadata, name):
            raise metadata.refusal(name, "differs from layer to layer")


def check_tensors(metadata: GgufMetadata, without_place: Iterable[str]) -> None:
    """Refuse (UnsupportedModelError) a tensor without a place in the model, unless it lies behind the last layer."""
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


def _is_read(metadata: GgufMetadata, name: str) -> bool:
    """Whether transformers itself makes the config of this key."""
    return metadata.architecture in _CLOSED["architectures"] and name in _CLOSED["keys"]


def _no_setting(config: PreTrainedConfig, metadata: GgufMetadata, name: str, value: object) -> UnsupportedModelError:
    return metadata.refusal(name, f"is {value}, which {type(config).__name__} has no setting for")


def _take(config: PreTrainedConfig, metadata: GgufMetadata, name: str, value: Any) -> None:  # noqa: ANN401
    if name == "feed_forward_length" and not value:
        return  # of models whose blocks are no attention and feed-forward
    own = next((attribute for attribute in _TAKEN[name] if hasattr(config, attribute)), None)
    if name == "attention.key_length" and metadata.architecture == "gemma4":
        own = "global_head_dim"
    if own is None:
        # A class without such a setting may do what the key says all the same.
        if name == "attention.head_count_kv":
            same = value in (0, getattr(config, "num_attention_heads", value))
        elif name == "attention.key_length":
            same = bool(value == config.hidden_size // config.num_attention_heads)
        else:  # not there at all, of the head, or stated again by the shapes of the weights
            same = value in (0, None) or name in {"context_length", "final_logit_softcapping", "feed_forward_length"}
        if not same:
            raise _no_setting(config, metadata, name, value)
        return
    now = getattr(config, own)
    same = math.isclose(now, value, rel_tol=1e-6) if isinstance(value, float) and now is not None else now == value
    if not same:
        setattr(config, own, value)


def _set_attention_scale(config: PreTrainedConfig, metadata: GgufMetadata) -> None:
    """By what scores are multiplied before the softmax; and values as wide as keys, as every class here has it."""
    key, value = metadata.get("attention.key_length"), metadata.get("attention.value_length")
    if value is not None and value != (key or head_width(config)):
        raise metadata.refusal("attention.value_length", "is not the length of the keys")
    stated = float(metadata.get("attention.scale") or 0)
    if hasattr(config, "query_pre_attn_scalar"):
        large = _JUDGED["largest"].get(metadata.architecture) == config.num_hidden_layers
        by_depth = config.hidden_size // config.num_attention_heads if large else config.head_dim
        wanted = stated**-2 if stated else by_depth
        if not math.isclose(float(config.query_pre_attn_scalar), float(wanted), rel_tol=1e-6):
            config.query_pre_attn_scalar = round(wanted, 4) if stated else wanted
    elif stated and not math.isclose(stated, head_width(config) ** -0.5, rel_tol=1e-4):
        raise metadata.refusal("attention.scale", "is not one over the root of a head's width")


def _set_windows(config: PreTrainedConfig, metadata: GgufMetadata) -> None:
    """How far back a token sees, and in which layers."""
    window = metadata.get("attention.sliding_window", metadata.get("sliding_window")) or None
    if hasattr(config, "sliding_window") and not hasattr(config, "use_sliding_window"):
        if window is not None or metadata.architecture not in _JUDGED["windows"]["architectures"]:
            config.sliding_window = window
    elif window is not None and window < metadata.get("context_length", math.inf):
        raise metadata.refusal("attention.sliding_window", f"is {window}, which {type(config).__name__} does not take")
    pattern = metadata.get("attention.sliding_window_pattern")
    if pattern is None:
        return
    n = config.num_hidden_layers
    if not isinstance(pattern, list):
        pattern = [pattern > 0 and index % pattern < pattern - 1 for index in range(n)]
    wanted = ["sliding_attention" if one else "full_attention" for one in pattern[:n]]
    layered = getattr(config, "layer_types", None)
    if layered is None or len(wanted) != n:
        raise metadata.refusal("attention.sliding_window_pattern", f"{type(config).__name__} has one window for all")
    if list(layered) != wanted:
        config.layer_types = wanted


def head_width(config: PreTrainedConfig) -> int:
    """How many numbers a head has."""
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def set_rope(config: PreTrainedConfig, metadata: GgufMetadata) -> None:
    """Give the config the base, the width and the scaling of rotary positions that the file states.

    A scaling that transformers does not have for this model is an UnsupportedModelError.
    """
    parameters = getattr(config, "rope_parameters", None)
    factors = {name: values for name, values in metadata.frequencies.items() if any(value != 1 for value in values)}
    stated = {name: value for name, value in metadata.own().items() if name.startswith(("rope.scaling.", "rope.scale"))}
    if stated.get("rope.scaling.type") == "none":
        stated = {}
    if not parameters:
        if scaled := [*factors, *(name for name in stated if name != "rope.scaling.finetuned")]:
            raise metadata.refusal(scaled[0], f"{type(config).__name__} has no rotary positions to scale")
        return
    for name in _REFUSED:
        if np.any(metadata.get(name) or 0):
            raise metadata.refusal(name, "transformers has no such scaling for this model")
    # Where positions differ by kind of layer, the file's are those of full attention.
    whole = parameters.get("full_attention", parameters)
    whole["rope_theta"] = float(metadata.get("rope.freq_base", _BASE))
    if (local := parameters.get("sliding_attention")) is not None:
        local["rope_theta"] = float(metadata.get("rope.freq_base_swa", _BASE))
    if metadata.architecture == "gemma4":
        return  # its width and factors are those of its class; `check_rope` proves it
    # How many numbers of a head turn with the position; classes that cannot turn a part are found by `check_rope`.
    width, head = int(metadata.get("rope.dimension_count") or 0), head_width(config)
    if width and width != int(head * float(whole.get("partial_rotary_factor", 1.0))):
        whole["partial_rotary_factor"] = width / head
        if hasattr(config, "partial_rotary_factor"):
            config.partial_rotary_factor = width / head
    whole.update(_scaled(config, metadata, stated, factors, whole["rope_theta"]))
    # Phi-3 has the length it was first trained with as a setting of its own, which goes before the other one.
    if hasattr(config, "original_max_position_embeddings"):
        original = metadata.get("rope.scaling.original_context_length")
        config.original_max_position_embeddings = int(original or config.max_position_embeddings)


def check_rope(model: nn.Module, metadata: GgufMetadata) -> None:
    """Prove on the built model that rotary positions came out as the file states, or raise an UnsupportedModelError."""
    frequencies = [buffer for name, buffer in model.named_buffers() if name.endswith("inv_freq")]
    width = metadata.get("rope.dimension_count")
    if frequencies and width and not any(2 * len(one) == int(width) for one in frequencies):
        widths = ", ".join(str(2 * len(one)) for one in frequencies)
        raise metadata.refusal("rope.dimension_count", f"the file says {width}, {type(model).__name__} has {widths}")
    base = float(metadata.get("rope.freq_base", _BASE))
    for name in (name for name in (FREQS, SHORT) if name in metadata.frequencies):
        factors = torch.tensor(metadata.frequencies[name], dtype=torch.float64)
        wanted = base ** -(torch.arange(len(factors), dtype=torch.float64) / len(factors)) / factors
        same = [one for one in frequencies if len(one) == len(wanted)]
        if not any(torch.allclose(one.double(), wanted, rtol=1e-4, atol=1e-20) for one in same):
            raise metadata.refusal(name, f"{type(model).__name__} has other rotary frequencies than the file")


def _scaled(
    config: PreTrainedConfig,
    metadata: GgufMetadata,
    stated: dict[str, Any],
    factors: dict[str, tuple[float, ...]],
    base: float,
) -> dict[str, Any]:
    """The parameters that make transformers scale positions as llama.cpp does; none where nothing is scaled."""
    factor = float(stated.get("rope.scaling.factor") or stated.get("rope.scale_linear") or 1.0)
    attention = stated.get("rope.scaling.yarn_attn_factor", stated.get("rope.scaling.attn_factor"))
    context = int(config.max_position_embeddings)
    rest: dict[str, Any] = {
        "original_max_position_embeddings": int(stated.get("rope.scaling.original_context_length") or context)
    }
    if attention is not None:
        rest["attention_factor"] = float(attention)
    # A file that gives a factor and no type means the oldest one.
    kind = str(stated.get("rope.scaling.type") or "linear")
    if kind == "longrope" or LONG in factors or SHORT in factors:
        long, short = (metadata.frequencies.get(name) for name in (LONG, SHORT))
        if long is None or short is None:
            raise metadata.refusal("rope.scaling.type", f"longrope needs the tensors {LONG} and {SHORT}")
        return {"rope_type": "longrope", "long_factor": list(long), "short_factor": list(short), **rest}
    if kind not in {"linear", "yarn"}:
        raise metadata.refusal("rope.scaling.type", f"{kind!r} is not known")
    if FREQS in factors and (kind == "yarn" or factor != 1):
        by = "yarn" if kind == "yarn" else "a factor"
        raise metadata.refusal(FREQS, f"the file scales positions by {by} as well")
    if kind == "linear":
        if FREQS in factors:
            return _divided(factors[FREQS], base, context)
        return {} if factor == 1 else {"rope_type": "linear", "factor": factor}
    if float(stated.get("rope.scaling.yarn_ext_factor", 1.0)) != 1:
        raise metadata.refusal("rope.scaling.yarn_ext_factor", "transformers has yarn with 1 only")
    betas = {name: stated.get(f"rope.scaling.yarn_{name}") for name in ("beta_fast", "beta_slow")}
    rest |= {name: float(beta) for name, beta in betas.items() if beta is not None}
    return {"rope_type": "yarn", "factor": factor, **rest}


def _divided(factors: tuple[float, ...], base: float, context: int) -> dict[str, Any]:
    """The tensor rope_freqs: as Llama 3's rule where it is that, else as LongRoPE with one set of factors."""
    low, high, original = _LLAMA3.values()
    # llama.cpp's factors of that rule: 1 for short wavelengths, the largest for long ones, a ramp between.
    wavelength = 2 * torch.pi * base ** (torch.arange(len(factors), dtype=torch.float64) / len(factors))
    smooth = ((original / wavelength - low) / (high - low)).clamp(0, 1)
    rule = 1 / ((1 - smooth) / max(factors) + smooth)
    if torch.allclose(rule, torch.tensor(factors, dtype=torch.float64), rtol=1e-4):
        return {"rope_type": "llama3", "factor": max(factors), **_LLAMA3}
    same = {"short_factor": list(factors), "long_factor": list(factors), "factor": 1.0, "attention_factor": 1.0}
    return {"rope_type": "longrope", **same, "original_max_position_embeddings": context}
