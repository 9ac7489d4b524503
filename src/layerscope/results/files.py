"""Files that are whole or absent, folders that one process writes at a time, and errors that name the file."""

from __future__ import annotations

import errno
import fcntl
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from layerscope.errors import RunFailedError, UserError

LOCK = ".lock"


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; it takes the name `path` when the block ends well and is removed when not.

    Args:
        path: the file or folder to appear.

    Yields:
        A path that does not exist yet, on the same file system.

    Raises:
        RunFailedError: the disk is full.
        UserError: the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        yield temporary
        _flush(temporary)
        temporary.replace(path)
        _flush(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        _discard(temporary)


def cannot_write(path: Path, error: OSError) -> RunFailedError | UserError:
    """The error for a failed write: a full disk is a failure to resume from, a forbidden folder is a mistake."""
    # NumPy reports a short write without an errno.
    if error.errno in (errno.ENOSPC, errno.EDQUOT) or (error.errno is None and "requested and" in str(error)):
        return RunFailedError(
            f"the disk is full, {path} could not be written: free some space and run the same command, "
            "finished blocks are kept"
        )
    return UserError(f"cannot write {path} ({error.strerror or error}): choose a folder that you may write to")


def make_folder(path: Path) -> None:
    """Create `path` and its parents.

    Raises:
        UserError: it cannot be created, or a file stands in its place.
        RunFailedError: the disk is full.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, "permission denied")
    except OSError as error:
        raise cannot_write(path, error) from error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder for this process. The lock ends with the process, also when it is killed.

    Raises:
        UserError: another process holds it.
    """
    try:
        handle = (folder / LOCK).open("a+", encoding="utf-8")
    except OSError as error:
        raise cannot_write(folder / LOCK, error) from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            handle.seek(0)
            owner = handle.read().strip() or "unknown"
            raise UserError(
                f"{folder} is being written by another run (process {owner}): wait for it or choose another --out"
            ) from error
        handle.seek(0)
        handle.truncate()
        handle.write(str(os.getpid()))
        handle.flush()
        # The file stays: removing it would let a third process lock a new file while a second waits on this one.
        yield
        handle.seek(0)
        handle.truncate()


def _flush(path: Path) -> None:
    # The content has to be on the disk before its new name is, or a power cut leaves a whole name on half a file.
    targets = [path, *path.iterdir()] if path.is_dir() and path.name.endswith(".tmp") else [path]
    for target in targets:
        descriptor = os.open(target, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _discard(path: Path) -> None:
    if path.is_dir():
        for child in path.iterdir():
            child.unlink(missing_ok=True)
        path.rmdir()
    else:
        path.unlink(missing_ok=True)
