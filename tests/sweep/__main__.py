"""The sweep as a program: `python -m tests.sweep` writes docs/families.md, with names it prints their outcomes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

from tests.sweep.page import PAGE, key_of, place_of, write_page
from tests.sweep.worker import Worker

WORKERS = 2


def outcomes_of(model_types: Sequence[str]) -> list[dict[str, Any]]:
    """Outcomes of all types, two at a time."""
    free: SimpleQueue[Worker] = SimpleQueue()
    workers = [Worker() for _ in range(WORKERS)]
    for worker in workers:
        free.put(worker)

    def check(model_type: str) -> list[dict[str, Any]]:
        mine = free.get()
        try:
            found = mine.check(model_type)
        finally:
            free.put(mine)
        for outcome in found:
            section, reason = place_of(outcome)
            print(*(part for part in key_of(outcome) if part), "|", section, "|", reason, flush=True)
        return found

    try:
        with ThreadPoolExecutor(WORKERS) as pool:
            return [outcome for found in pool.map(check, model_types) for outcome in found]
    finally:
        for worker in workers:
            worker.close()


def main(names: Sequence[str]) -> None:
    """Check the named types, or all of them and write the page."""
    import transformers
    from tests.sweep.tiny import model_types

    if names:
        outcomes_of(names)
        return
    PAGE.write_text(write_page(outcomes_of(model_types()), transformers.__version__), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
