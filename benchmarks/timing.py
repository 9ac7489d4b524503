"""Times that can be compared: everything in one process, each thing repeated in turns, the smallest time counts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping


def seconds(work: Callable[[], object]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def in_turns(works: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Smallest seconds of each work over `repeats` rounds.

    The works take turns, so that a slow spell of the machine meets them all; the smallest time is the one that other
    load disturbed least.
    """
    best = dict.fromkeys(works, float("inf"))
    for _ in range(repeats):
        for name, work in works.items():
            best[name] = min(best[name], seconds(work))
    return best
