"""Which class transformers makes of a config, whether it reads text, and what of the config it leaves unread."""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Mapping
from contextlib import suppress
from logging.handlers import BufferingHandler
from typing import Any

import transformers
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_MAPPING

from layerscope.errors import UnsupportedModelError
from layerscope.files.reading import read_toml

# Older names of what a config with `rope_parameters` takes in.
_OF_ROPE = ("rope_scaling", "partial_rotary_factor")


def headless_class(config: PreTrainedConfig) -> type | None:
    """The class that `AutoModel` makes of a config; None where there is none."""
    if type(config) not in MODEL_MAPPING:  # which knows some without a class that `AutoModel` would make
        return None
    with suppress(KeyError, ValueError):  # ValueError: transformers names a class that it does not have
        found = MODEL_MAPPING[type(config)]
        kind: type = found[0] if isinstance(found, tuple) else found
        return kind
    return None


def require_text_class(config: PreTrainedConfig, name: str) -> None:
    """Refuse a model that reads no text, or that transformers has no headless class for.

    Args:
        config: the model's config.
        name: what the user calls the model.

    Raises:
        UnsupportedModelError: there is no such class, or it takes no token ids.
    """
    kind = headless_class(config)
    if kind is None:
        raise UnsupportedModelError(
            f"{name!r} is of the type {config.model_type!r}, which transformers has no model without a head for "
            "(AutoModel does not know it), so its layers cannot be read on their own"
        )
    modalities = getattr(kind, "input_modalities", "text")
    reads = (modalities,) if isinstance(modalities, str) else tuple(modalities)
    takes_ids = "input_ids" in inspect.signature(kind.forward).parameters  # type: ignore[attr-defined]
    if "text" not in reads or not takes_ids:
        other = [each for each in reads if each != "text"]
        given = getattr(kind, "main_input_name", "input_ids")
        what = f"{', '.join(other)}, not text" if other else f"{given}, not token ids"
        raise UnsupportedModelError(f"{kind.__name__} is no text model: it reads {what}")


def named_class(config: PreTrainedConfig) -> type[PreTrainedModel] | None:
    """The class that a checkpoint says it was saved from; None where it says nothing or transformers has no such class."""
    found = getattr(transformers, (config.architectures or [""])[0] or " ", None)
    return found if isinstance(found, type) and issubclass(found, PreTrainedModel) else None


def without_head(stack: nn.Module, name: str) -> PreTrainedModel:
    """What a composite model calls its encoder or decoder, without a next-token head around it.

    Raises:
        UnsupportedModelError: it is no model of its own.
    """
    while isinstance(stack, PreTrainedModel):
        inside = [child for child in stack.children() if isinstance(child, PreTrainedModel)]
        if stack.get_output_embeddings() is None or len(inside) != 1:
            return stack
        stack = inside[0]
    raise UnsupportedModelError(
        f"{name} is not supported: it is no model of its own in transformers ({type(stack).__name__}), so nothing says "
        "how deep it is"
    )


def require_ids_alone(stack: PreTrainedModel, config: PreTrainedConfig) -> None:
    """Refuse a stack (UnsupportedModelError) that cannot run on token ids and a mask alone.

    So is one whose config names no vocabulary or depth, and so does not say how.
    """
    name = type(stack).__name__
    others = [
        parameter.name
        for parameter in inspect.signature(stack.forward).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        and parameter.name not in {"input_ids", "attention_mask"}
    ]
    if others:
        raise UnsupportedModelError(f"{name} is not supported: beside token ids it needs {', '.join(others)}")
    for needed, why in (("vocab_size", "which token ids it reads"), ("num_hidden_layers", "how deep it is")):
        if not isinstance(getattr(config, needed, None), int):
            raise UnsupportedModelError(
                f"{name} is not supported: its config has no {needed} and so does not say {why}"
            )


def unread_settings(stated: Mapping[str, Any], model: PreTrainedModel) -> tuple[str, ...]:
    """A warning for each setting that would change what blocks compute and that no line of the class's code mentions.

    `stated` is the content of config.json, `model` what was built from it.
    """
    config = model.config.get_text_config()
    text = stated.get("text_config")
    own = text if isinstance(text, Mapping) else stated
    source = "".join(_source(kind) for kind in {type(model).__module__, type(config).__module__})
    notes = []
    for name, neutral in read_toml("inputs", "config_keys").items():
        value = own.get(name)
        if value is None or value in neutral or (name == "sliding_window" and own.get("use_sliding_window") is False):
            continue
        if name not in source and not (name in _OF_ROPE and "rope_parameters" in source):
            notes.append(f"config.json says {name} = {value}, which {type(model).__name__} does not read")
    return (*notes, *_rope_notes(config))


def _source(module: str) -> str:
    try:
        return inspect.getsource(sys.modules[module])
    except (OSError, TypeError):
        return ""  # code without a source: nothing can be said of it


def _rope_notes(config: Any) -> list[str]:  # noqa: ANN401
    """What transformers has to say about the settings of rotary positions, which it only logs."""
    if not hasattr(config, "validate_rope") or not getattr(config, "rope_parameters", None):
        return []
    logger, kept = logging.getLogger("transformers.modeling_rope_utils"), BufferingHandler(sys.maxsize)
    level, spread = logger.level, logger.propagate
    logger.addHandler(kept)
    try:
        logger.setLevel(logging.WARNING)
        logger.propagate = False
        config.validate_rope()
    finally:
        logger.removeHandler(kept)
        logger.setLevel(level)
        logger.propagate = spread
    lines = dict.fromkeys(" ".join(record.getMessage().split()) for record in kept.buffer)
    return [f"the settings of rotary positions: {line}" for line in lines]
