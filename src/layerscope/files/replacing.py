"""Files at a place that a user named: what another program wrote there is not replaced without being asked."""

from __future__ import annotations

import os
from pathlib import Path

from layerscope.errors import UserError
from layerscope.files.reading import open_regular
from layerscope.files.writing import make_folder

_LOOKED_AT = 1 << 16


def free_or_ours(path: Path, mark: bytes, *, force: bool) -> None:
    """Make the folder of a file that a user wants, and refuse to write over one that layerscope did not write.

    Args:
        path: the file.
        mark: bytes that stand near the beginning or the end of every file of its kind.
        force: whether the user has asked for it to be replaced, whatever it is.

    Raises:
        UserError: another program's file is there, or something that is no regular file.
        RunFailedError: the disk is full.
    """
    make_folder(path.parent)
    if path.is_symlink() or not path.exists():
        return  # A link is refused when it would be replaced.
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        found = file.read(_LOOKED_AT)
        file.seek(max(0, size - _LOOKED_AT))
        found += file.read(_LOOKED_AT)
    if size and mark not in found and not force:
        raise UserError(
            f"{path} was not written by this command and is not replaced: choose another --out, or give --force"
        )
