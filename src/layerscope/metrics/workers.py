"""A pool of single-threaded workers: LAPACK's eigenvalues of many small matrices, one matrix a core."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from layerscope.states.threads import single_threaded

Item = TypeVar("Item")
Result = TypeVar("Result")


def _run(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    with torch.no_grad():  # gradient and inference modes are local to a thread
        return [function(item) for item in items]


def parallel_map(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """`[function(item) for item in items]` on the worker threads, in order, without gradients.

    Every item, also a lone one, is computed by one single-threaded worker, so the bits of a result depend neither on
    how many workers there are nor on the other items. A calling thread that has one core to itself is that worker.
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
