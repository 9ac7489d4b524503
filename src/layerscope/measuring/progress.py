"""How a long job tells what it is doing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Report = Callable[[str, float, float], None]
"""Called with a stage's name, how much of it is done, and how much there is."""


def silent(stage: str, done: float, total: float) -> None:
    """A report that nobody reads."""


@contextmanager
def step(report: Report, stage: str) -> Iterator[None]:
    """Report the beginning and the end of a stage of which nobody knows how much is done."""
    report(stage, 0.0, 1.0)
    yield
    report(stage, 1.0, 1.0)
