"""Files that are whole or absent, folders that one process writes at a time, and errors that name the file."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from layerscope.errors import RunFailedError, UserError

LOCK = ".lock"
# Windows opens no folders, and flushes only what it may write.
_WINDOWS = os.name == "nt"


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
    """Hold the folder, which is made where it is not there, for this process; a kill ends the lock too.

    A folder that held nothing and still holds nothing is removed again: what failed before its first file leaves nothing
    behind that looks like a run.

    Raises:
        UserError: another process holds it, or it cannot be made.
        RunFailedError: the disk is full.
    """
    new = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    make_folder(folder)
    if not new and _names(folder) == [LOCK]:
        new = [folder]  # a kill left it
    path = folder / LOCK
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise UserError(
            f"{folder} is being written by another run (process {_owner(path)}): wait for it or choose another --out"
        ) from error
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        _sign(path, str(os.getpid()))
        yield
    finally:
        _sign(path, "")
        if new and _names(folder) == [LOCK]:
            # Unlinked while it is held: a process that waits on it sees that its file has gone, and takes a new one.
            _unlink(path)
        lock.release()
        _remove_empty(new)


def _names(folder: Path) -> list[str]:
    return [child.name for child in folder.iterdir()] if folder.is_dir() else []


def _owner(lock: Path) -> str:
    # Windows lets nobody read what another process has locked.
    with suppress(PermissionError):
        return lock.read_text(encoding="utf-8").strip() or "unknown"
    return "unknown"


def _sign(lock: Path, owner: str) -> None:
    # For the other process's message only, and Windows lets nobody write to a locked file.
    with suppress(PermissionError, FileNotFoundError):
        lock.write_text(owner, encoding="utf-8")


def _unlink(lock: Path) -> None:
    # On Windows an open file cannot be removed: there a folder with nothing but its lock stays.
    with suppress(PermissionError):
        lock.unlink(missing_ok=True)


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            # It has content, so those above have too; or another process was faster.
            return


def _flush(path: Path) -> None:
    # The content has to be on the disk before its new name is, or a power cut leaves a whole name on half a file.
    targets = [path, *path.iterdir()] if path.is_dir() and path.name.endswith(".tmp") else [path]
    for target in targets:
        if _WINDOWS and target.is_dir():
            continue
        descriptor = os.open(target, os.O_RDWR if _WINDOWS else os.O_RDONLY)
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
