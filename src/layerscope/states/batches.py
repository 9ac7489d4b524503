"""Prompts grouped into right-padded batches of about the same length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Int
from torch import Tensor

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
    ends = _ends([lengths.longest(size) for size in sizes])
    cuts = _cuts(sizes, ends, batch_tokens)
    if multiple > 1:
        cuts = _even_cuts(sizes, ends, batch_tokens, most=-(-len(cuts) // multiple) * multiple)
    return [_pad(tokens, tuple(order[start:end]), pad_id) for start, end in pairwise([0, *cuts])]


def _ends(ranges: Sequence[int | None]) -> list[int]:
    """For each place, where the places of its range of lengths end."""
    ends = [len(ranges)] * len(ranges)
    for place in reversed(range(len(ranges) - 1)):
        ends[place] = ends[place + 1] if ranges[place] == ranges[place + 1] else place + 1
    return ends


def _cuts(lengths: Sequence[int], ends: Sequence[int], batch_tokens: int) -> list[int]:
    """Where each batch ends when it takes as many prompts as fit."""
    cuts = []
    start = 0
    while start < len(lengths):
        start = min(ends[start], start + max(1, batch_tokens // lengths[start]))
        cuts.append(start)
    return cuts


def _even_cuts(lengths: Sequence[int], ends: Sequence[int], batch_tokens: int, most: int) -> list[int]:
    """The cuts of the smallest budget that needs at most so many batches."""
    low, high = 1, batch_tokens
    while low < high:
        middle = (low + high) // 2
        if len(_cuts(lengths, ends, middle)) <= most:
            high = middle
        else:
            low = middle + 1
    return _cuts(lengths, ends, high)


def _pad(tokens: Sequence[Sequence[int]], rows: tuple[int, ...], pad_id: int) -> Batch:
    lengths = torch.tensor([len(tokens[row]) for row in rows])
    longest = int(lengths.max())
    ids = torch.tensor([[*tokens[row], *[pad_id] * (longest - len(tokens[row]))] for row in rows])
    mask = (torch.arange(longest) < lengths[:, None]).long()
    return Batch(ids, mask, lengths, rows)
