"""The folder of a run: one process writes it at a time, and where nobody gave one it lives as long as what it holds."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout

from layerscope.errors import UserError
from layerscope.files.writing import cannot_write, inside, make_folder, tidy

LOCK = ".lock"
T = TypeVar("T")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder, which is made where it is not there, for this process; a kill ends the lock too.

    A folder that held nothing and still holds nothing is removed again: what failed before its first file leaves nothing
    behind that looks like a run. What a kill left half-written there is removed.

    Raises:
        UserError: another process holds it, it cannot be made, or its lock is no file of its own.
        RunFailedError: the disk is full.
    """
    new = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    make_folder(folder)
    if not new and _names(folder) == [LOCK]:
        new = [folder]  # a kill left it
    path = inside(folder, LOCK)
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is no regular file, and the lock of a folder is one: remove it")
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        owner = ""
        # Windows lets nobody read what another process has locked.
        with suppress(PermissionError):
            owner = path.read_text(encoding="utf-8", errors="replace").strip()
        raise UserError(
            f"{folder} is being written by another run (process {owner or 'unknown'}): wait for it or choose another --out"
        ) from error
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        _sign(path, str(os.getpid()))
        tidy(folder)
        yield
    finally:
        _sign(path, "")
        if new and _names(folder) == [LOCK]:
            # Unlinked while it is held: a process that waits on it sees that its file has gone, and takes a new one. On
            # Windows an open file cannot be removed: there a folder with nothing but its lock stays.
            with suppress(PermissionError):
                path.unlink(missing_ok=True)
        lock.release()
        # One that has content ends it, since those above have too; so does another process that was faster.
        with suppress(OSError):
            for one in new:
                one.rmdir()


def _names(folder: Path) -> list[str]:
    return [child.name for child in folder.iterdir()] if folder.is_dir() else []


def _sign(lock: Path, owner: str) -> None:
    # For the other process's message only: Windows lets nobody write to a locked file, and a full disk holds no name.
    with suppress(OSError):
        lock.write_text(owner, encoding="utf-8")


def in_folder(out: str | Path | None, make: Callable[[Path], T]) -> T:
    """What `make` makes in the folder `out`; None: in a temporary folder that lives as long as what is returned."""
    if out is not None:
        return make(Path(out))
    folder = Path(tempfile.mkdtemp(prefix="layerscope-"))
    try:
        made = make(folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    weakref.finalize(made, shutil.rmtree, folder, ignore_errors=True)
    return made
