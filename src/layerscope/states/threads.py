"""Workers that compute on one thread each, so that results do not depend on how many cores share them."""

from __future__ import annotations

import functools
import os
from concurrent.futures import ThreadPoolExecutor

import torch


def single_threaded(name: str, workers: int) -> ThreadPoolExecutor:
    """This process's pool of workers that compute on one core each; other threads, such as the main one, keep theirs."""
    return _pool(os.getpid(), name, workers)


@functools.cache
def _pool(process: int, name: str, workers: int) -> ThreadPoolExecutor:  # noqa: ARG001  (a fork inherits the cache, not the threads)
    return ThreadPoolExecutor(workers, name, initializer=_use_one_thread)


def _use_one_thread() -> None:
    # A thread takes over torch's number of threads when it first computes or asks for it. One that has not done so yet
    # would take over what the main thread sets later, in place of this 1.
    torch.get_num_threads()
    torch.set_num_threads(1)
