"""Settings in a config.json that would change a number and that the model's class does not read."""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedModel

# What blocks compute depends on these in the families that have them; the values are those that say "as without it".
_CHANGING: dict[str, tuple[Any, ...]] = {
    "alibi": (None, False),
    "attention_multiplier": (None,),
    "attn_logit_softcapping": (None, 0),
    "clip_qkv": (None, 0),
    "embedding_multiplier": (None, 1),
    "no_rope_layers": (None, []),
    "partial_rotary_factor": (None, 1),
    "position_embedding_type": (None, "absolute"),
    "qk_layernorm": (None, False),
    "qk_norm": (None, False),
    "query_pre_attn_scalar": (None,),
    "residual_multiplier": (None, 1),
    "rope_scaling": (None, {}),
    "rotary_pct": (None, 1),
    "scale_depth": (None, 1),
    "scale_emb": (None, 1),
    "sliding_window": (None, 0),
    "use_alibi": (None, False),
    "use_dynamic_ntk": (None, False),
    "use_logn_attn": (None, False),
    "use_parallel_residual": (None,),
    "use_qk_norm": (None, False),
}
# Older names of what a config with `rope_parameters` takes in.
_OF_ROPE = frozenset({"rope_scaling", "partial_rotary_factor"})


def unread_settings(stated: Mapping[str, Any], model: PreTrainedModel) -> tuple[str, ...]:
    """A warning for each setting that would change what blocks compute and that no line of the class's code mentions.

    Args:
        stated: the content of config.json.
        model: what was built from it.
    """
    config = model.config.get_text_config()
    text = stated.get("text_config")
    own = text if isinstance(text, Mapping) else stated
    source = "".join(_source(kind) for kind in {type(model).__module__, type(config).__module__})
    notes = []
    for name, neutral in _CHANGING.items():
        value = own.get(name)
        if value in neutral or (name == "sliding_window" and own.get("use_sliding_window") is False):
            continue
        known = name in source or (name in _OF_ROPE and "rope_parameters" in source)
        if not known:
            notes.append(f"config.json says {name} = {value}, which {type(model).__name__} does not read")
    return (*notes, *_rope_notes(config))


def _source(module: str) -> str:
    try:
        return inspect.getsource(sys.modules[module])
    except (OSError, TypeError):
        return ""  # code without a source: nothing can be said of it


class _Kept(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(" ".join(record.getMessage().split()))


def _rope_notes(config: Any) -> list[str]:  # noqa: ANN401
    """What transformers has to say about the settings of rotary positions, which it only logs."""
    check = getattr(config, "validate_rope", None)
    if check is None or not getattr(config, "rope_parameters", None):
        return []
    logger, kept = logging.getLogger("transformers.modeling_rope_utils"), _Kept()
    level, spread = logger.level, logger.propagate
    logger.addHandler(kept)
    try:
        logger.setLevel(logging.WARNING)
        logger.propagate = False
        check()
    finally:
        logger.removeHandler(kept)
        logger.setLevel(level)
        logger.propagate = spread
    return [f"the settings of rotary positions: {line}" for line in dict.fromkeys(kept.lines)]
