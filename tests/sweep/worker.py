"""Model types checked in a process of its own: one that hangs or dies takes no other with it."""

from __future__ import annotations

import logging
import multiprocessing
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

from tests.sweep.check import check_type

SECONDS = 120.0
"""A type takes a second or two; the slowest, whose code loops over tokens, up to a minute on a busy machine."""


Outcomes = list[dict[str, Any]]


def _serve(pipe: Connection, check: Callable[[str], Outcomes]) -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    while True:
        pipe.send(check(pipe.recv()))


class Worker:
    """A process that checks one model type at a time and is replaced when it gives no answer."""

    def __init__(self, seconds: float = SECONDS, check: Callable[[str], Outcomes] = check_type) -> None:
        self.seconds = seconds
        self.function = check
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, self.function), daemon=True)
        self.process.start()
        theirs.close()

    def check(self, model_type: str) -> Outcomes:
        """The outcomes of a model type."""
        try:
            self.pipe.send(model_type)
            if self.pipe.poll(self.seconds):
                outcomes: Outcomes = self.pipe.recv()
                return outcomes
            reason = f"no answer within {self.seconds:.0f} s"
        except (EOFError, OSError):
            self.process.join(self.seconds)
            reason = f"its process ended with code {self.process.exitcode}"
        self.close()
        self._start()
        return [{"model_type": model_type, "part": None, "result": "crashed", "reason": reason, "export": ""}]

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.join()
        self.pipe.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
