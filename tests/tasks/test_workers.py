"""A worker that dies fails its own job; the others and the next go on."""

from __future__ import annotations

import os
import signal

import pytest

from layerscope.errors import RunFailedError
from layerscope.tasks import workers
from layerscope.tasks.evaluation import NEEDS_MODEL, Evaluation, PackedTask
from layerscope.tasks.process import RandomState
from layerscope.tasks.workers import WorkerPool

# Answers each job with its layer; layer 2 kills it, layer 3 finds the disk full, layer 4 is no answer at all.
STUB = """
import json, os, signal, sys
for line in sys.stdin:
    layer = json.loads(line)["evaluation"]["layer"]
    if layer == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    if layer == 4:
        sys.exit(1)
    print(json.dumps({"fatal": "full"} if layer == 3 else {"outcome": f"{os.getpid()}"}), flush=True)
"""


@pytest.fixture
def evaluations(tmp_path, monkeypatch):
    (tmp_path / "stub.py").write_text(STUB)
    real = workers.subprocess.Popen
    monkeypatch.setattr(
        workers.subprocess, "Popen", lambda words, **more: real([words[0], str(tmp_path / "stub.py")], **more)
    )
    task = PackedTask(path=tmp_path / "0.pickle", size=1, sha256="0")
    return lambda *layers: (
        task,
        [Evaluation(cache=tmp_path, layer=n, name="m", result=tmp_path / f"{n}") for n in layers],
    )


def test_a_worker_that_dies_fails_its_own_evaluation_only(evaluations) -> None:
    with WorkerPool(2) as pool:
        outcomes = {evaluation.layer: outcome for evaluation, outcome in pool.run(*evaluations(0, 1, 2, 4, 5, 6, 7))}
        assert outcomes[2] == f"the process that scored it was ended by signal {signal.SIGKILL.value}"
        assert outcomes[4] == NEEDS_MODEL
        pids = {int(outcomes[layer]) for layer in (0, 1, 5, 6, 7)}
        assert {int(outcome) for _, outcome in pool.run(*evaluations(8, 9))} & pids
        assert len(pool._processes) <= 4
    for process in pool._processes:
        assert process.returncode is not None
        with pytest.raises(ProcessLookupError):
            os.kill(process.pid, 0)


def test_a_full_disk_ends_the_run(evaluations) -> None:
    with pytest.raises(RunFailedError, match="layer 3 could not be scored: full"), WorkerPool(1) as pool:
        list(pool.run(*evaluations(0, 3)))


def test_a_packed_task_that_has_changed_is_not_unpacked(tmp_path) -> None:
    packed = PackedTask.of({"a": 1}, RandomState.now(), tmp_path / "0.pickle")
    assert packed.unpack()[0] == {"a": 1}
    content = packed.path.read_bytes()
    for changed in (content[:-1], content[:9] + bytes([content[9] ^ 1]) + content[10:]):
        packed.path.write_bytes(changed)
        with pytest.raises(RunFailedError, match=r"0.pickle is damaged .*: run the same command again"):
            packed.unpack()
