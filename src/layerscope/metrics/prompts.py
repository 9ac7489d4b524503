"""Right-padded batches of prompts: taken apart into prompts without their padding, and put together again."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor


def split_prompts(
    states: Float[Tensor, "*prompts tokens dim"], lengths: Int[Tensor, "*prompts"] | None = None
) -> list[Float[Tensor, "_ dim"]]:
    """The states of each prompt as views without padding rows, so that what the padding holds cannot matter.

    Raises ValueError where a length is negative or larger than the number of rows.
    """
    tokens, dim = states.shape[-2:]
    flat = states.reshape(math.prod(states.shape[:-2]), tokens, dim)
    if lengths is None:
        return list(flat.unbind())
    counts = lengths.reshape(-1).tolist()
    if any(not 0 <= count <= tokens for count in counts):
        wrong = next(count for count in counts if not 0 <= count <= tokens)
        raise ValueError(f"expected prompt lengths between 0 and the {tokens} rows of the states, got {wrong}")
    return [flat[index, :count] for index, count in enumerate(counts)]


def stack_rows(rows: Sequence[Float64[Tensor, " _"]], width: int) -> Float64[Tensor, "rows width"]:
    """Rows of different lengths under each other, filled up with zeros to `width`; an empty row is all NaN."""
    stacked = torch.zeros(len(rows), width, dtype=torch.float64)
    for index, row in enumerate(rows):
        stacked[index, : row.shape[0]] = row
        if not row.shape[0]:
            stacked[index] = math.nan
    return stacked
