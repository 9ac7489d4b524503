"""Which training steps are looked at: every doubling, because representations change most at the start."""

from __future__ import annotations


def is_log_step(step: int) -> bool:
    """Whether a step is a power of two: 1, 2, 4, 8, ..."""
    return step > 0 and step & (step - 1) == 0


def log_steps(last: int) -> tuple[int, ...]:
    """0, 1, 2, 4, ... and the last step."""
    return tuple(step for step in range(last + 1) if step in {0, last} or is_log_step(step))
