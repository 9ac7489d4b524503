"""The global random generators, kept: MTEB reseeds them whenever it is imported and whenever a task is built."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class RandomState:
    """State of Python's, NumPy's and PyTorch's global generators."""

    python: Any
    numpy: Any
    torch: Any
    cuda: Any = None

    @classmethod
    def now(cls) -> RandomState:
        """The state at this moment."""
        initialized = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        cuda = torch.cuda.get_rng_state_all() if initialized else None
        return cls(random.getstate(), np.random.get_state(), torch.get_rng_state().numpy(), cuda)  # noqa: NPY002

    @classmethod
    def seeded(cls, seed: int) -> RandomState:
        """The state after seeding every generator, as MTEB does when it builds a task."""
        with kept_random_state():
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            torch.manual_seed(seed)
            return cls.now()

    def restore(self) -> None:
        """Give the global generators this state."""
        random.setstate(self.python)
        np.random.set_state(self.numpy)  # noqa: NPY002
        torch.set_rng_state(torch.from_numpy(self.torch.copy()))
        if self.cuda is not None:
            torch.cuda.set_rng_state_all(self.cuda)


@contextmanager
def kept_random_state() -> Iterator[None]:
    """Whatever the block does to the global generators is undone after it."""
    before = RandomState.now()
    try:
        yield
    finally:
        before.restore()
