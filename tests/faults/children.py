"""Runs in processes of their own, forked from one that has loaded everything: they can be killed and be short of disk."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

NOBODY = 65534


@dataclass(frozen=True)
class Limits:
    """What a run is denied. `file_size`: bytes that a file may have. `reader`: it may only read what others own.

    `earlier`: its clock is so many seconds behind.
    """

    file_size: int | None = None
    reader: bool = False
    earlier: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """How a run ended: "done" (with what it says), "named" (an error of ours, with its message), "crashed" or "killed"."""

    how: str
    message: str = ""
    numbers: Any = None


def context() -> ForkServerContext:
    """Where processes are forked from: started when first used."""
    ctx = multiprocessing.get_context("forkserver")
    ctx.set_forkserver_preload(["tests.faults.programs"])
    return ctx


def start(
    work: str, kind: str, folders: tuple[Path, Path], limits: Limits | None = None, *, stored: bool = False
) -> tuple[BaseProcess, Path]:
    """Start `run` or `read` of a program (`work`) on its folders (inputs, place); its outcome will be in the file."""
    answer = folders[1].parent / f"answer-{time.monotonic_ns()}"
    process = context().Process(target=_child, args=((work, kind, stored), folders, limits or Limits(), answer))
    process.start()
    return process, answer


def finish(process: BaseProcess, answer: Path, timeout: float = 120.0) -> Outcome:
    """Wait for a process."""
    process.join(timeout)
    if process.exitcode is None:
        process.kill()
        process.join()
        return Outcome("crashed", f"hung for {timeout} s")
    if not answer.exists():
        return Outcome("killed", f"exit code {process.exitcode}")
    outcome: Outcome = pickle.loads(answer.read_bytes())
    answer.unlink()
    return outcome


def do(
    work: str, kind: str, folders: tuple[Path, Path], limits: Limits | None = None, *, stored: bool = False
) -> Outcome:
    """`start` and `finish`."""
    return finish(*start(work, kind, folders, limits, stored=stored))


def _child(what: tuple[str, str, bool], folders: tuple[Path, Path], limits: Limits, answer: Path) -> None:
    outcome = _outcome(what, folders, limits)
    temporary = answer.with_suffix(".tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT, 0o666)
    with os.fdopen(descriptor, "wb") as file:
        file.write(pickle.dumps(outcome))
    temporary.rename(answer)


def _outcome(what: tuple[str, str, bool], folders: tuple[Path, Path], limits: Limits) -> Outcome:
    from tests.faults.programs import PROGRAMS, STORED

    from layerscope.errors import LayerscopeError

    work, kind, stored = what
    program = (STORED if stored else PROGRAMS)[kind]
    undo = _deny(limits)
    try:
        numbers = getattr(program, work)(*folders)
    except LayerscopeError as error:
        return Outcome("named", f"{type(error).__name__}: {error}")
    except BaseException:  # noqa: BLE001
        return Outcome("crashed", traceback.format_exc())
    finally:
        undo()
    return Outcome("done", numbers=numbers)


def _deny(limits: Limits) -> Callable[[], None]:
    import resource

    from layerscope.results import record

    if limits.file_size is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limits.file_size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    if limits.earlier:
        real, then = time.time, limits.earlier
        time.time = lambda: real() - then
        record.now = lambda: "2001-01-01T00:00:00+00:00"
    if limits.reader and os.geteuid() == 0:
        os.setegid(NOBODY)
        os.seteuid(NOBODY)

    def undo() -> None:
        if limits.reader and os.geteuid() == NOBODY:
            os.seteuid(0)
            os.setegid(0)
        if limits.file_size is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    return undo
