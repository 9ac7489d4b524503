"""How many tokens a model reads."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from itertools import chain

import torch
from torch import Tensor
from transformers import PreTrainedModel

from layerscope.inputs.parts import Parts, probe_states, silent_modules

_POSITIONS = re.compile(r"^(?!.*rel).*(position|pos_emb|\bwpe\b)")
"""Names of tables with a vector for each position; those of relative positions have no end."""


def longest_input(model: PreTrainedModel, parts: Parts, input_ids: Tensor) -> int | None:
    """The longest input in tokens: what the config states, or what a table of positions outside the blocks holds.

    Tables that a few tokens are not read with (an image's) say nothing of texts, in a tower of their own or not.

    The table need be no nn.Embedding (I-BERT's is quantised). RoBERTa and MPNet count positions from padding_idx + 1,
    OPT and BART from 2, so their tables hold fewer tokens than the config says.
    """
    config = model.config.get_text_config()
    names = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")
    stated = next((int(value) for name in names if (value := getattr(config, name, None))), math.inf)
    for limit, table in sorted(_tables(model, parts, input_ids), key=lambda found: found[0]):
        if limit >= stated:
            break
        if _is_read(table, model, parts, input_ids):
            return limit
    return None if stated == math.inf else int(stated)


def _tables(model: PreTrainedModel, parts: Parts, input_ids: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Tables of positions outside the blocks, each with how many tokens it has positions for."""
    inside = {module for block in parts.blocks for module in block.modules()} | silent_modules(model, parts, input_ids)
    for name, module in model.named_modules():
        if module in inside:
            continue
        weight = getattr(module, "weight", None)
        if isinstance(weight, Tensor) and _POSITIONS.search(name) and (rows := _rows(weight)):
            padding = getattr(module, "padding_idx", None)
            yield rows - (getattr(module, "offset", 0) or (0 if padding is None else padding + 1)), weight
            continue
        for leaf, tensor in chain(module.named_parameters(recurse=False), module.named_buffers(recurse=False)):
            if _POSITIONS.search(leaf) and (rows := _rows(tensor)):
                yield rows, tensor


def _rows(tensor: Tensor) -> int | None:
    """The rows of a table of vectors, one a position; None for anything else, such as the positions themselves."""
    if not tensor.is_floating_point():
        return None
    shape = tensor.shape[1:] if tensor.ndim == 3 and tensor.shape[0] == 1 else tensor.shape
    return int(shape[0]) if len(shape) == 2 and shape[0] > 1 else None


def _is_read(table: Tensor, model: PreTrainedModel, parts: Parts, input_ids: Tensor) -> bool:
    """Whether NaN in a table reaches the states of a few tokens. One that cannot be tried counts as read."""
    if table.is_meta:
        return True
    before = table.detach().clone()
    # In place, so that it holds whichever module reads it; through `data`, which counts as no change of the weight.
    table.data.fill_(math.nan)
    try:
        states = probe_states(model, parts, input_ids, torch.ones_like(input_ids))
        return any(bool(state.isnan().any()) for state in states)
    except (RuntimeError, ValueError, IndexError):
        return True
    finally:
        table.data.copy_(before)
