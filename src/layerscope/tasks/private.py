"""A folder that is there as long as a run works in it; those that killed runs left are removed by the next one."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from layerscope.errors import LayerscopeError
from layerscope.files.locks import LOCK, locked
from layerscope.files.writing import cannot_write

PREFIX = "layerscope-tasks-"
UNLOCKED_SECONDS = 24 * 3600.0
"""How old a folder without a lock must be: version 0.1.0 held none, and a new one is there a moment before its lock."""


@contextmanager
def private_folder() -> Iterator[Path]:
    """A folder in the temporary folder that only this user can read, held by a lock.

    Raises:
        UserError: it cannot be made.
        RunFailedError: the disk is full.
    """
    root = Path(tempfile.gettempdir())
    try:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=root))
    except OSError as error:
        raise cannot_write(root, error) from error
    try:
        with locked(folder):
            for other in root.glob(f"{PREFIX}*"):
                with suppress(OSError, LayerscopeError):
                    status = other.lstat()
                    mine = other != folder and not other.is_symlink() and status.st_uid == folder.stat().st_uid
                    if mine and ((other / LOCK).exists() or time.time() - status.st_mtime > UNLOCKED_SECONDS):
                        with locked(other):
                            shutil.rmtree(other, ignore_errors=True)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
