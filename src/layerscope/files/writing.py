"""Files that are whole or absent, and errors that name the file and the reason."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from layerscope.errors import DiskFullError, RunFailedError, UserError

# Windows opens no folders, and flushes only what it may write.
_WINDOWS = os.name == "nt"
_HALF_WRITTEN = re.compile(r"\.[0-9a-f]{8}\.tmp$")
_OS_ERROR = re.compile(r"\(os error (\d+)\)$")
# Seconds after which nobody is writing a half-written file any more.
_STALE = 60.0


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a path beside `path` that does not exist yet; it takes that name when the block ends well, else is removed.

    A file that is there is replaced and its mode kept.

    Raises:
        RunFailedError: the disk is full.
        UserError: the folder cannot be written, or something else than a file or folder has the name.
    """
    temporary = path.with_name(f".{path.name[:200]}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        _refuse_special(path)
        yield temporary
        if path.is_file():
            shutil.copymode(path, temporary)
        _flush(temporary)
        _refuse_special(path)
        temporary.replace(path)
        _flush(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error
    except Exception as error:
        # How safetensors, tokenizers and other libraries in Rust tell of a failed write.
        if (number := _OS_ERROR.search(str(error))) is None:
            raise
        code = int(number[1])
        raise cannot_write(path, OSError(code, os.strerror(code))) from error
    finally:
        # What went wrong first is the reason, not what tidying met.
        with suppress(OSError):
            _discard(temporary)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file, whole or not at all. Raises what `whole_file` raises."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def cannot_write(path: Path, error: OSError) -> RunFailedError | UserError:
    """The error for a failed write: a full disk is a failure to resume from, a forbidden folder is a mistake."""
    # NumPy reports a short write without an errno.
    short = error.errno is None and "requested and" in str(error)
    if short or error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return DiskFullError(
            f"the disk is full, {path} could not be written: free some space there and run the same command, "
            "what is finished is kept"
        )
    if error.errno == errno.EIO:
        return RunFailedError(f"cannot write {path} ({error.strerror}): the disk reports an error, look at it first")
    advice = "choose a shorter name" if error.errno == errno.ENAMETOOLONG else "choose a folder that you may write to"
    if error.errno == errno.ENOTEMPTY or (error.errno == errno.EEXIST and path.is_dir()):
        return UserError(f"{path} was written by another process meanwhile: look at it, or choose another place")
    return UserError(f"cannot write {path} ({error.strerror or error}): {advice}")


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


def inside(folder: Path, *names: str) -> Path:
    """The path of a run's own file or folder; a UserError where a part of it below the run's `folder` is a link."""
    path = folder
    for name in names:
        path /= name
        if path.is_symlink():
            raise UserError(f"{path} is a link, and a run's own files lie in its folder: remove it")
    return path


def tidy(folder: Path) -> None:
    """Remove what kills left half-written in a folder that this process holds."""
    for child in folder.iterdir() if folder.is_dir() else ():
        with suppress(OSError):
            if _HALF_WRITTEN.search(child.name) and time.time() - child.lstat().st_mtime > _STALE:
                _discard(child)


def _refuse_special(path: Path) -> None:
    with suppress(FileNotFoundError):
        mode = path.lstat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            what = "a link" if stat.S_ISLNK(mode) else "no regular file"
            raise UserError(f"{path} is {what} and is not replaced: choose another place or remove it")


def _flush(path: Path) -> None:
    # The content has to be on the disk before its new name is, or a power cut leaves a whole name on half a file.
    targets = [path, *path.rglob("*")] if path.is_dir() and path.name.endswith(".tmp") else [path]
    for target in targets:
        if _WINDOWS and target.is_dir():
            continue
        descriptor = os.open(target, os.O_RDWR if _WINDOWS else os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _discard(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
