"""Rotary positions of a GGUF file: transformers' reader takes their base from it and leaves how they are scaled."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig

from layerscope.inputs.gguf_metadata import GgufMetadata, refusal

_BASE = 10000.0  # llama.cpp's where a file names none
_LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
_FREQS, _LONG, _SHORT = "rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"
# What these say is one number in transformers, and 0 or 1 is to leave things as they are.
_REFUSED = ("rope.scaling.alpha", "rope.scaling.yarn_log_multiplier", "rope.dimension_sections")


def set_rope(config: PreTrainedConfig, metadata: GgufMetadata) -> None:
    """Give the config the base, the width and the scaling of rotary positions that the file states.

    Raises:
        UnsupportedModelError: the file scales positions in a way that transformers does not have for this model.
    """
    parameters = getattr(config, "rope_parameters", None)
    factors = {name: values for name, values in metadata.frequencies.items() if any(value != 1 for value in values)}
    if not parameters:
        stated = [*factors, *(name for name in _scaling(metadata) if name != "rope.scaling.finetuned")]
        if stated:
            raise refusal(metadata, stated[0], f"{type(config).__name__} has no rotary positions to scale")
        return
    for name in _REFUSED:
        if any(_numbers(metadata.get(name))):
            raise refusal(metadata, name, "transformers has no such scaling for this model")
    # Where positions differ by kind of layer, the file's are those of full attention.
    whole = parameters.get("full_attention", parameters)
    whole["rope_theta"] = float(metadata.get("rope.freq_base", _BASE))
    local = parameters.get("sliding_attention")
    if local is not None:
        local["rope_theta"] = float(metadata.get("rope.freq_base_swa", _BASE))
    _set_width(config, metadata, whole)
    if metadata.architecture == "gemma4":
        return  # its factors are those of its class; `check_rope` proves it
    whole.update(_scaled(config, metadata, factors))
    _keep_original_context(config, metadata)


def check_rope(model: nn.Module, metadata: GgufMetadata) -> None:
    """Prove on the built model that rotary positions came out as the file states them.

    Raises:
        UnsupportedModelError: they did not.
    """
    frequencies = [buffer for name, buffer in model.named_buffers() if name.endswith("inv_freq")]
    width = metadata.get("rope.dimension_count")
    if frequencies and width and not any(2 * len(one) == int(width) for one in frequencies):
        widths = ", ".join(str(2 * len(one)) for one in frequencies)
        raise refusal(metadata, "rope.dimension_count", f"the file says {width}, {type(model).__name__} has {widths}")
    for name in (_FREQS, _SHORT):
        factors = metadata.frequencies.get(name)
        if factors is None:
            continue
        base = float(metadata.get("rope.freq_base", _BASE))
        steps = torch.arange(len(factors), dtype=torch.float64) / len(factors)
        wanted = base**-steps / torch.tensor(factors, dtype=torch.float64)
        same = [one for one in frequencies if len(one) == len(wanted)]
        if not any(torch.allclose(one.double(), wanted, rtol=1e-4, atol=1e-20) for one in same):
            raise refusal(metadata, name, f"{type(model).__name__} has other rotary frequencies than the file")


def _scaling(metadata: GgufMetadata) -> dict[str, Any]:
    """The keys about scaling that do not say "none"."""
    stated = {name: value for name, value in metadata.own().items() if name.startswith(("rope.scaling.", "rope.scale"))}
    return {} if stated.get("rope.scaling.type") == "none" else stated


def _scaled(config: PreTrainedConfig, metadata: GgufMetadata, factors: dict[str, tuple[float, ...]]) -> dict[str, Any]:
    """The parameters that make transformers scale positions as llama.cpp does; none where nothing is scaled."""
    stated = _scaling(metadata)
    factor = float(stated.get("rope.scaling.factor") or stated.get("rope.scale_linear") or 1.0)
    attention = stated.get("rope.scaling.yarn_attn_factor", stated.get("rope.scaling.attn_factor"))
    original = int(stated.get("rope.scaling.original_context_length") or config.max_position_embeddings)
    # A file that gives a factor and no type means the oldest one.
    kind = str(stated.get("rope.scaling.type") or "linear")
    if kind == "longrope" or _LONG in factors or _SHORT in factors:
        return _longrope(metadata, attention, original)
    if kind == "linear":
        scaled = {"rope_type": "linear", "factor": factor} if factor != 1 else {}
        if scaled and _FREQS in factors:
            raise refusal(metadata, _FREQS, "the file scales positions by a factor as well")
        return scaled or _divided(config, factors.get(_FREQS))
    if kind != "yarn":
        raise refusal(metadata, "rope.scaling.type", f"{kind!r} is not known")
    if _FREQS in factors:
        raise refusal(metadata, _FREQS, "the file scales positions by yarn as well")
    if float(stated.get("rope.scaling.yarn_ext_factor", 1.0)) != 1:
        raise refusal(metadata, "rope.scaling.yarn_ext_factor", "transformers has yarn with 1 only")
    found: dict[str, Any] = {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original}
    for name in ("beta_fast", "beta_slow"):
        if f"rope.scaling.yarn_{name}" in stated:
            found[name] = float(stated[f"rope.scaling.yarn_{name}"])
    return found if attention is None else found | {"attention_factor": float(attention)}


def _divided(config: PreTrainedConfig, factors: tuple[float, ...] | None) -> dict[str, Any]:
    """The tensor rope_freqs: as Llama 3's rule where it is that, else as LongRoPE with one set of factors."""
    if factors is None:
        return {}
    llama3 = {"rope_type": "llama3", "factor": max(factors), **_LLAMA3}
    base = float(config.rope_parameters["rope_theta"])
    if torch.allclose(
        torch.tensor(_llama3_factors(base, len(factors), max(factors))), torch.tensor(factors), rtol=1e-4
    ):
        return llama3
    context = int(config.max_position_embeddings)
    same = {"short_factor": list(factors), "long_factor": list(factors)}
    return (
        {"rope_type": "longrope", "factor": 1.0, "attention_factor": 1.0}
        | same
        | {"original_max_position_embeddings": context}
    )


def _llama3_factors(base: float, n: int, factor: float) -> list[float]:
    """llama.cpp's factors of Llama 3's rule: 1 for short wavelengths, `factor` for long ones, a ramp between."""
    low, high, original = (float(value) for value in _LLAMA3.values())
    found = []
    for step in range(n):
        wavelength = 2 * torch.pi * base ** (step / n)
        if wavelength < original / high:
            found.append(1.0)
        elif wavelength > original / low:
            found.append(factor)
        else:
            smooth = (original / wavelength - low) / (high - low)
            found.append(1 / ((1 - smooth) / factor + smooth))
    return found


def _longrope(metadata: GgufMetadata, attention: Any, original: int) -> dict[str, Any]:  # noqa: ANN401
    long, short = (metadata.frequencies.get(name) for name in (_LONG, _SHORT))
    if long is None or short is None:
        raise refusal(metadata, "rope.scaling.type", f"longrope needs the tensors {_LONG} and {_SHORT}")
    found: dict[str, Any] = {
        "rope_type": "longrope",
        "long_factor": list(long),
        "short_factor": list(short),
        "original_max_position_embeddings": original,
    }
    return found if attention is None else found | {"attention_factor": float(attention)}


def _keep_original_context(config: PreTrainedConfig, metadata: GgufMetadata) -> None:
    """Phi-3 has the length it was first trained with as a setting of its own, which goes before the other one."""
    original = metadata.get("rope.scaling.original_context_length")
    if hasattr(config, "original_max_position_embeddings"):
        config.original_max_position_embeddings = int(original or config.max_position_embeddings)


def _set_width(config: PreTrainedConfig, metadata: GgufMetadata, parameters: dict[str, Any]) -> None:
    """How many numbers of a head turn with the position; classes that cannot turn a part are found by `check_rope`."""
    width = metadata.get("rope.dimension_count")
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    turned = int(head * float(parameters.get("partial_rotary_factor", 1.0)))
    if width and int(width) != turned and metadata.architecture != "gemma4":
        parameters["partial_rotary_factor"] = int(width) / head
        if hasattr(config, "partial_rotary_factor"):
            config.partial_rotary_factor = int(width) / head


def _numbers(value: Any) -> list[float]:  # noqa: ANN401
    if value is None:
        return []
    return [float(one) for one in value] if isinstance(value, list) else [float(value)]
