"""Settings that make a forward pass the plain one: every block once over the whole prompt, with the weights as trained."""

from __future__ import annotations

import sys

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

_SETTINGS = {
    "use_cache": False,
    # RWKV halves weights and states every so many blocks, at the first pass, to fit float16: other numbers, same model.
    "rescale_every": 0,
    # xLSTM runs its blocks over one piece of a longer prompt after the other, which hooks would take for the whole.
    "max_inference_chunksize": sys.maxsize,
}
_RESCALED = "layers_are_rescaled"

Before = list[tuple[PreTrainedConfig | nn.Module, str, object]]


def set_plain_pass(model: PreTrainedModel) -> Before:
    """Change the settings of a model and of its text config; what they were is returned, to be set again."""
    before: Before = []
    rescaled = [module for module in model.modules() if hasattr(module, _RESCALED)]
    for config in {id(config): config for config in (model.config, model.config.get_text_config())}.values():
        for name, value in _SETTINGS.items():
            # Weights that were halved by an earlier pass need what that pass did to the states.
            if hasattr(config, name) and not (
                name == "rescale_every" and any(getattr(module, _RESCALED) for module in rescaled)
            ):
                before.append((config, name, getattr(config, name)))
                setattr(config, name, value)
    for module in rescaled:
        before.append((module, _RESCALED, getattr(module, _RESCALED)))
        setattr(module, _RESCALED, True)
    return before
