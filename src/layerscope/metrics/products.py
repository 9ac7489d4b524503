"""Matrix products whose bits follow from the numbers that go in, not from where these lie or how many cores there are."""

from __future__ import annotations

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from layerscope.metrics.workers import parallel_map

# Where torch puts every fresh tensor on a CPU. MKL takes other paths, which round otherwise, from other addresses.
_ALIGNMENT = 64
_ROWS = 512


def aligned(rows: Float[Tensor, "rows dim"], dtype: torch.dtype) -> Float[Tensor, "rows dim"]:
    """The rows in a precision, one behind the other, where a fresh tensor could lie; a copy only if they are not yet.

    A prompt of a batch lies where the prompts before it leave off, and vectors from a file wherever NumPy put them.
    """
    found = rows.to(dtype)
    if found.stride() == (found.shape[1], 1) and found.data_ptr() % _ALIGNMENT == 0:
        return found
    return found.clone(memory_format=torch.contiguous_format)


def gram_of_many(rows: Float64[Tensor, "rows dim"]) -> Float64[Tensor, "rows rows"]:
    """Z Z^T of more rows than one core should multiply alone: the pieces are the same however many cores share them."""
    gram = torch.empty(rows.shape[0], rows.shape[0], dtype=rows.dtype)
    pieces = list(zip(torch.split(rows, _ROWS), torch.split(gram, _ROWS), strict=True))
    parallel_map(lambda piece: torch.mm(piece[0], rows.mT, out=piece[1]), pieces)
    return gram
