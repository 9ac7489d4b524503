"""Prompts grouped into right-padded batches of about the same length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Right-padded token ids on the CPU. `rows` are the prompts' positions in the list given to `make_batches`."""

    input_ids: Int[Tensor, "prompts tokens"]
    attention_mask: Int[Tensor, "prompts tokens"]
    lengths: Int[Tensor, " prompts"]
    rows: tuple[int, ...]


def make_batches(tokens: Sequence[Sequence[int]], batch_tokens: int, pad_id: int) -> list[Batch]:
    """Split prompts into batches, longest first, so that little of a forward pass is padding.

    Args:
        tokens: token ids of each prompt.
        batch_tokens: the most tokens of one batch, padding included. A prompt longer than this is a batch of its own.
        pad_id: what stands where there is no token; the mask hides it, so any id of the vocabulary does.

    Returns:
        batches that hold every prompt once; prompts of one length keep their order.

    Raises:
        ValueError: `batch_tokens` is below 1, or a prompt has no tokens.
    """
    if batch_tokens < 1:
        raise ValueError(f"expected batch_tokens of at least 1, got {batch_tokens}")
    order = sorted(range(len(tokens)), key=lambda row: -len(tokens[row]))
    if order and not tokens[order[-1]]:
        raise ValueError(f"expected prompts with tokens, got none at position {order[-1]}: leave empty prompts out")
    batches: list[Batch] = []
    start = 0
    while start < len(order):
        size = max(1, batch_tokens // len(tokens[order[start]]))
        batches.append(_pad(tokens, tuple(order[start : start + size]), pad_id))
        start += size
    return batches


def _pad(tokens: Sequence[Sequence[int]], rows: tuple[int, ...], pad_id: int) -> Batch:
    lengths = torch.tensor([len(tokens[row]) for row in rows])
    longest = int(lengths.max())
    ids = torch.tensor([[*tokens[row], *[pad_id] * (longest - len(tokens[row]))] for row in rows])
    mask = (torch.arange(longest) < lengths[:, None]).long()
    return Batch(ids, mask, lengths, rows)
