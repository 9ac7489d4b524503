"""The folder of a run that nobody gave one."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


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
