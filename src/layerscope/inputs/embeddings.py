"""The table of token vectors: how many ids it knows, and where it is."""

from __future__ import annotations

import torch
from torch import nn
from transformers import PreTrainedModel


def embedding_table(model: nn.Module) -> nn.Module:
    """The table of token vectors. transformers looks for it by its usual names; elsewhere it is the longest table."""
    try:
        table: nn.Module = model.get_input_embeddings()  # type: ignore[operator]
    except NotImplementedError:
        tables = [module for module in model.modules() if isinstance(module, nn.Embedding)]
        return max(tables, key=lambda each: each.num_embeddings, default=model)
    return table


def table_rows(model: nn.Module) -> int:
    """How many ids have an embedding: the table's rows, which the config's vocab_size may not equal."""
    table = embedding_table(model)
    rows = getattr(table, "num_embeddings", None)
    if rows is None:
        # A wrapper (PEFT's around a table of which it trains a few rows) holds the table beside parameters of its own.
        inside = [module.num_embeddings for module in table.modules() if isinstance(module, nn.Embedding)]
        rows = max(inside, default=0) or next(table.parameters()).shape[0]
    return int(rows)


def input_device(model: PreTrainedModel) -> torch.device:
    """Where the embeddings are; where accelerate keeps them off the devices, where it computes them."""
    table = embedding_table(model)
    hook = getattr(table, "_hf_hook", None)
    if hook is not None and getattr(hook, "execution_device", None) is not None:
        return torch.device(hook.execution_device)
    return next(table.parameters()).device
