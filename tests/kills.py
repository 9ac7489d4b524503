"""A process that is killed, or whose disk is full, from a given moment on: what every write passes through stops."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

import pytest

from layerscope.errors import RunFailedError


class Killed(BaseException):
    """Nothing is written or removed after it, as after a kill."""


def full() -> OSError:
    """What a full disk says."""
    return OSError(errno.ENOSPC, "No space left on device")


@contextmanager
def stopped(after: int, error: type[BaseException] = Killed) -> Iterator[list[str]]:
    """Let so many files and folders take their names (or go, all at once), and no more; yields those that did.

    Args:
        after: how many.
        error: `Killed`, or OSError for a full disk, on which files can still be removed.
    """
    done: list[str] = []

    def counted(real, removes):
        def step(path, *given, **named):
            if len(done) >= after and not (removes and error is OSError):
                raise full() if error is OSError else error
            done.append(Path(path if removes else given[0]).name)
            return real(path, *given, **named)

        return step

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "replace", counted(Path.replace, removes=False))
        patch.setattr(Path, "rename", counted(Path.rename, removes=False))
        patch.setattr(shutil, "rmtree", counted(shutil.rmtree, removes=True))
        yield done


def at_every_write(
    make: Callable[[Path], object], folder: Path, error: type[BaseException], moments: Iterable[int] | None = None
) -> Iterator[Path]:
    """Folders in which `make` was stopped at its first write, its second, ... until it is not stopped any more."""
    for after in count() if moments is None else moments:
        out = folder / f"{error.__name__}-{after}"
        with stopped(after, error), suppress(Killed, RunFailedError):
            make(out)
            return
        yield out
