"""A pool of single-threaded workers: LAPACK's eigenvalues of many small matrices, one matrix a core."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


@functools.cache
def _pool(process: int, workers: int) -> ThreadPoolExecutor:  # noqa: ARG001  (a fork inherits the cache, not the threads)
    # The setting is local to the worker's own thread; the main thread keeps all its cores for the forward pass.
    return ThreadPoolExecutor(workers, "layerscope", initializer=lambda: torch.set_num_threads(1))


def _run(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    with torch.no_grad():  # gradient and inference modes are local to a thread
        return [function(item) for item in items]


def parallel_map(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """`[function(item) for item in items]` on the worker threads, in order, without gradients.

    Every item is computed by one single-threaded worker, so the bits of a result depend neither on how many workers
    there are nor on the other items. A calling thread that has one core to itself is that worker. `function` must not
    call parallel_map itself.
    """
    workers = min(torch.get_num_threads(), len(items))
    if workers <= 1:
        return _run(function, items)
    pool = _pool(os.getpid(), torch.get_num_threads())
    # Strided, because batches are sorted by length: contiguous shares would give one worker all the long prompts.
    futures = [pool.submit(_run, function, items[start::workers]) for start in range(workers)]
    shares = [future.result() for future in futures]
    return [shares[index % workers][index // workers] for index in range(len(items))]
