"""A type that hangs or kills its process is one outcome, and the next type is answered."""

from __future__ import annotations

import os
import time

from tests.sweep.worker import Worker


def badly(model_type: str) -> list[dict[str, object]]:
    if model_type == "hangs":
        time.sleep(600)
    if model_type == "dies":
        os._exit(3)
    return [{"model_type": model_type}]


def test_a_process_that_hangs_or_dies_is_replaced() -> None:
    with Worker(20.0, badly) as worker:
        assert worker.check("well") == [{"model_type": "well"}]
        (dead,) = worker.check("dies")
        assert (dead["result"], dead["reason"]) == ("crashed", "its process ended with code 3")
        assert worker.check("well") == [{"model_type": "well"}]
        worker.seconds = 0.2
        (late,) = worker.check("hangs")
        assert (late["result"], late["reason"]) == ("crashed", "no answer within 0 s")
        worker.seconds = 20.0
        assert worker.check("well") == [{"model_type": "well"}]
