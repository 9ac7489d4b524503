"""Settings in a config.json that would change a number and that the model's class does not read."""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Mapping
from logging.handlers import BufferingHandler
from typing import Any

from transformers import PreTrainedModel

from layerscope.inputs.tables import table

# Older names of what a config with `rope_parameters` takes in.
_OF_ROPE = ("rope_scaling", "partial_rotary_factor")


def unread_settings(stated: Mapping[str, Any], model: PreTrainedModel) -> tuple[str, ...]:
    """A warning for each setting that would change what blocks compute and that no line of the class's code mentions.

    `stated` is the content of config.json, `model` what was built from it.
    """
    config = model.config.get_text_config()
    text = stated.get("text_config")
    own = text if isinstance(text, Mapping) else stated
    source = "".join(_source(kind) for kind in {type(model).__module__, type(config).__module__})
    notes = []
    for name, neutral in table("config_keys").items():
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
