"""Computations whose bits follow from the numbers that go in, not from where these lie or how many cores there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from layerscope.states.threads import single_threaded

Item = TypeVar("Item")
Result = TypeVar("Result")
# Where torch puts every fresh tensor on a CPU. MKL takes other paths, which round otherwise, from other addresses.
_ALIGNMENT = 64
_ROWS = 512


def _run(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    with torch.no_grad():  # gradient and inference modes are local to a thread
        return [function(item) for item in items]


def parallel_map(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """`[function(item) for item in items]` on the worker threads, in order, without gradients.

    LAPACK's eigenvalues of many small matrices want one matrix a core. Every item, also a lone one, is computed by one
    single-threaded worker, so the bits of a result depend neither on how many workers there are nor on the other items.
    A calling thread that has one core to itself is that worker.
    """
    threads = torch.get_num_threads()
    if threads == 1 or not items:
        return _run(function, items)
    workers = min(threads, len(items))
    pool = single_threaded("layerscope", threads)
    # Strided, because batches are sorted by length: contiguous shares would give one worker all the long prompts.
    futures = [pool.submit(_run, function, items[start::workers]) for start in range(workers)]
    shares = [future.result() for future in futures]
    return [shares[index % workers][index // workers] for index in range(len(items))]


def on_one_thread(compute: Callable[[], Result]) -> Result:
    """The result of a computation that is not cut into items, single-threaded and without gradients as theirs are."""
    return parallel_map(lambda _: compute(), [None])[0]


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
