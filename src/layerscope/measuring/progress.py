"""How a long job tells what it is doing."""

from __future__ import annotations

from collections.abc import Callable

Report = Callable[[str, float, float], None]
"""Called with a stage's name, how much of it is done, and how much there is."""


def silent(stage: str, done: float, total: float) -> None:
    """A report that nobody reads."""
