"""How many threads the numerical libraries use, for the length of a block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Let PyTorch, BLAS and OpenMP use this many threads inside the block.

    Layers are scored on one thread everywhere: sums over threads come in another order, and a classifier that stops
    after 100 iterations turns a last digit into another prediction. So scores do not depend on the number of workers.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        with threadpool_limits(limits=number):
            yield
    finally:
        torch.set_num_threads(before)
