"""Rotary positions of a GGUF file: transformers' reader takes their base from it and leaves how they are scaled."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedConfig

from layerscope.inputs.gguf_metadata import FREQS, LONG, SHORT, GgufMetadata

_BASE = 10000.0  # llama.cpp's where a file names none
_LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
# What these say is one number in transformers, and 0 is to leave things as they are.
_REFUSED = ("rope.scaling.alpha", "rope.scaling.yarn_log_multiplier", "rope.dimension_sections")


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
