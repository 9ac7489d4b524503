"""How many tokens a model reads."""

from __future__ import annotations

import re
from itertools import chain

from torch import Tensor
from transformers import PreTrainedModel

from layerscope.inputs.parts import Parts
from layerscope.inputs.towers import silent_modules

_POSITIONS = re.compile(r"^(?!.*rel).*(position|pos_emb|\bwpe\b)")
"""Names of tables with a vector for each position; those of relative positions have no end."""


def longest_input(model: PreTrainedModel, parts: Parts, input_ids: Tensor) -> int | None:
    """The longest input in tokens: what the config states, or what a table of positions outside the blocks holds.

    Tables of models inside the model that a few tokens do not go through (an image tower's) say nothing of texts.

    The table need be no nn.Embedding (I-BERT's is quantised). RoBERTa and MPNet count positions from padding_idx + 1,
    OPT and BART from 2, so their tables hold fewer tokens than the config says.
    """
    config = model.config.get_text_config()
    names = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")
    limits = [int(value) for name in names if (value := getattr(config, name, None))][:1]
    inside = {module for block in parts.blocks for module in block.modules()} | silent_modules(model, parts, input_ids)
    for name, module in model.named_modules():
        if module in inside:
            continue
        if _POSITIONS.search(name) and (rows := _table(getattr(module, "weight", None))):
            padding = getattr(module, "padding_idx", None)
            limits.append(rows - (getattr(module, "offset", 0) or (0 if padding is None else padding + 1)))
            continue
        for leaf, tensor in chain(module.named_parameters(recurse=False), module.named_buffers(recurse=False)):
            if _POSITIONS.search(leaf) and (rows := _table(tensor)):
                limits.append(rows)
    return min(limits) if limits else None


def _table(tensor: object) -> int | None:
    """The rows of a table of vectors, one a position; None for anything else, such as the positions themselves."""
    if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
        return None
    shape = tensor.shape[1:] if tensor.ndim == 3 and tensor.shape[0] == 1 else tensor.shape
    return int(shape[0]) if len(shape) == 2 and shape[0] > 1 else None
