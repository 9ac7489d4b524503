"""A process that scores layers: `python -m layerscope.tasks.worker`. It reads cached vectors and never loads a model.

One job a line arrives on standard input as JSON, one answer a line goes out. Nothing else may write to standard output,
so everything that MTEB prints goes to standard error.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO


def main() -> None:
    """Answer jobs until standard input ends."""
    # Ctrl-C goes to the whole terminal; the parent ends its workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        _answer(json.loads(line), answers)


def _answer(given: dict[str, Any], answers: TextIO) -> None:
    try:
        outcome, fatal = _work(given), ""
    except Exception as error:  # noqa: BLE001
        outcome, fatal = "", f"{type(error).__name__}: {error}"
    answers.write(json.dumps({"outcome": outcome, "fatal": fatal}) + "\n")
    answers.flush()


def _work(given: dict[str, Any]) -> str:
    from layerscope.errors import UserError
    from layerscope.tasks.choice import load_own_module
    from layerscope.tasks.evaluation import NEEDS_MODEL, Job, evaluate_layer, unpack_task

    for module, file in given["modules"].items():
        # A file that changed since is no module any more: its task is scored where it was loaded.
        with suppress(UserError):
            load_own_module(module, file)
    try:
        task, random_state = unpack_task(Path(given["task"]))
    except (ImportError, AttributeError):
        # The class was made where this process cannot import it from, such as a script.
        return NEEDS_MODEL
    job = Job(cache=Path(given["cache"]), layer=given["layer"], name=given["name"], result=Path(given["result"]))
    return evaluate_layer(task, random_state, job)


if __name__ == "__main__":
    main()
