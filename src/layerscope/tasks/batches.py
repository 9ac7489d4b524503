"""Batches of fixed shapes, so that a text's vectors do not depend on which texts it is encoded with.

A matrix product sums in an order that depends on its shape: the same text in a batch of another size came out up to
5e-6 apart (relative, SmolLM2's last layer). Here the padded length follows from the text's own length, and the number of
rows from the padded length; a batch that is not full is filled up with copies of its last text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from layerscope.inputs.models import LoadedModel
from layerscope.states.batches import Batch


def fixed_batches(tokens: Sequence[Sequence[int]], batch_tokens: int, model: LoadedModel) -> Iterator[Batch]:
    """Split prompts into right-padded batches whose shape depends on the prompts' lengths alone, longest first.

    Args:
        tokens: token ids of each prompt, at least one.
        batch_tokens: padded tokens of a batch; a longer prompt is a batch of its own.
        model: the model they are for: its context, which of them may share a batch, and what it is padded with.

    Yields:
        Batches whose first `len(batch.rows)` prompts are the given ones; the others are fillers.
    """
    buckets: dict[int, list[int]] = {}
    for row, ids in enumerate(tokens):
        buckets.setdefault(padded_length(len(ids), model), []).append(row)
    for length in sorted(buckets, reverse=True):
        size = max(1, batch_tokens // length)
        rows = buckets[length]
        for start in range(0, len(rows), size):
            yield _pad(tokens, rows[start : start + size], (size, length), model.pad_id)


def padded_length(length: int, model: LoadedModel) -> int:
    """The smallest of 2, 4, ..., 32, 36, ..., 64, 72, ..., 128, 144, ... that holds `length` tokens.

    It is no more than the model's context, nor than what a prompt of this length may be padded to.
    """
    # Few lengths, since each ends in a batch with fillers; eight between two powers of two, so that little is padding.
    step = 1 << max(1, (length - 1).bit_length() - 4)
    limits = [limit for limit in (model.context, model.lengths.longest(length)) if limit is not None]
    return max(length, min([-(-length // step) * step, *limits]))


def _pad(tokens: Sequence[Sequence[int]], rows: Sequence[int], shape: tuple[int, int], pad_id: int) -> Batch:
    size, length = shape
    filled = [*rows, *[rows[-1]] * (size - len(rows))]
    ids = torch.tensor([[*tokens[row], *[pad_id] * (length - len(tokens[row]))] for row in filled])
    lengths = torch.tensor([len(tokens[row]) for row in filled])
    mask = (torch.arange(length) < lengths[:, None]).long()
    return Batch(ids, mask, lengths, tuple(rows))
