"""A process that scores layers: `python -m layerscope.tasks.worker`. It reads cached vectors and never loads a model.

One job a line arrives on standard input as JSON, one answer a line goes out. Nothing else may write to standard output,
so everything that MTEB prints goes to standard error.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress


def main() -> None:
    """Answer jobs until standard input ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        answers.write(_answer(line) + "\n")
        answers.flush()


def _answer(line: str) -> str:
    from layerscope.errors import LayerscopeError, UserError
    from layerscope.tasks.choice import load_own_module
    from layerscope.tasks.evaluation import NEEDS_MODEL, evaluate_layer, reason_of
    from layerscope.tasks.workers import Answer, Order

    order = Order.model_validate_json(line)
    for module, file in order.modules.items():
        # A file that changed since is no module any more: its task is scored where it was loaded.
        with suppress(UserError):
            load_own_module(module, file)
    try:
        task, random_state = order.task.unpack()
        answer = Answer(outcome=evaluate_layer(task, random_state, order.evaluation))
    except (ImportError, AttributeError):
        # The class was made where this process cannot import it from, such as a script.
        answer = Answer(outcome=NEEDS_MODEL)
    except LayerscopeError as error:
        answer = Answer(fatal=str(error))
    except Exception as error:  # noqa: BLE001
        answer = Answer(fatal=reason_of(error))
    return answer.model_dump_json()


if __name__ == "__main__":
    main()
