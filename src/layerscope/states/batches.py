"""Prompts grouped into right-padded batches of about the same length."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from layerscope.inputs.lengths import ANY_LENGTHS, Lengths


@dataclass(frozen=True)
class Batch:
    """Right-padded token ids on the CPU. `rows` are the prompts' positions in the list given to `make_batches`."""

    input_ids: Int[Tensor, "prompts tokens"]
    attention_mask: Int[Tensor, "prompts tokens"]
    lengths: Int[Tensor, " prompts"]
    rows: tuple[int, ...]


def make_batches(
    tokens: Sequence[Sequence[int]],
    batch_tokens: int,
    pad_id: int,
    *,
    multiple: int = 1,
    lengths: Lengths = ANY_LENGTHS,
) -> list[Batch]:
    """Split prompts into batches, longest first, so that little of a forward pass is padding.

    Args:
        tokens: token ids of each prompt.
        batch_tokens: the most tokens of one batch, padding included. A prompt longer than this is a batch of its own.
        pad_id: what stands where there is no token; the mask hides it, so any id of the vocabulary does.
        multiple: cut into a multiple of this many batches of about equal size, as far as there are prompts for it, so
            that cores that take batches in turn end together.
        lengths: which prompts may share a batch.

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
    sizes = [len(tokens[row]) for row in order]
    ends: list[int] = []  # for each place, where the places of its range of lengths end
    for _, same in groupby(map(lengths.longest, sizes)):
        n = len(list(same))
        ends += [len(ends) + n] * n
    cuts = _cuts(sizes, ends, batch_tokens)
    if multiple > 1:
        # The smallest budget that needs at most so many batches.
        most = -(-len(cuts) // multiple) * multiple
        budgets = range(1, batch_tokens)
        few = bisect_left(budgets, True, key=lambda budget: len(_cuts(sizes, ends, budget)) <= most)
        cuts = _cuts(sizes, ends, 1 + few)
    return [_pad(tokens, tuple(order[start:end]), pad_id) for start, end in pairwise([0, *cuts])]


def _cuts(lengths: Sequence[int], ends: Sequence[int], batch_tokens: int) -> list[int]:
    """Where each batch ends when it takes as many prompts as fit."""
    cuts = []
    start = 0
    while start < len(lengths):
        start = min(ends[start], start + max(1, batch_tokens // lengths[start]))
        cuts.append(start)
    return cuts


def _pad(tokens: Sequence[Sequence[int]], rows: tuple[int, ...], pad_id: int) -> Batch:
    prompts = [torch.tensor(tokens[row]) for row in rows]
    lengths = torch.tensor([len(prompt) for prompt in prompts])
    ids = pad_sequence(prompts, batch_first=True, padding_value=pad_id)
    mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
    return Batch(ids, mask, lengths, rows)
