"""What a block changes of the whole process, and puts back: random generators, threads, MTEB's noise, data sets' columns."""

from __future__ import annotations

import importlib
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from layerscope.errors import missing_package
from layerscope.inputs.quiet import quiet_loggers


@dataclass(frozen=True)
class RandomState:
    """State of Python's, NumPy's and PyTorch's global generators."""

    python: Any
    numpy: Any
    torch: Any
    cuda: Any = None

    @classmethod
    def now(cls) -> RandomState:
        """The state at this moment."""
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None  # type: ignore[no-untyped-call]
        return cls(random.getstate(), np.random.get_state(), torch.get_rng_state().numpy(), cuda)  # noqa: NPY002

    def restore(self) -> None:
        """Give the global generators this state."""
        random.setstate(self.python)
        np.random.set_state(self.numpy)  # noqa: NPY002
        torch.set_rng_state(torch.from_numpy(self.torch.copy()))
        if self.cuda is not None:
            torch.cuda.set_rng_state_all(self.cuda)


@contextmanager
def kept_random_state() -> Iterator[None]:
    """Undo what the block does to the global generators: MTEB reseeds them when it is imported and builds a task."""
    before = RandomState.now()
    try:
        yield
    finally:
        before.restore()


def import_quietly(module: str, needed_for: str) -> Any:  # noqa: ANN401
    """Import a library that logs and reseeds the global generators when it is imported, without these traces.

    Raises:
        UserError: it, or what it needs, is not installed.
    """
    try:
        with kept_random_state(), quiet_loggers("lm_eval"):
            return importlib.import_module(module)
    except ImportError as error:
        package = (error.name or module).partition(".")[0].replace("_", "-")
        raise missing_package(package, needed_for) from error


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Let PyTorch, BLAS and OpenMP use this many threads inside the block.

    Layers are scored on one thread everywhere: sums over threads come in another order, and a classifier that stops
    after 100 iterations turns a last digit into another prediction. So scores do not depend on the number of workers.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        with threadpool_limits(limits=number):
            yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def setting(target: Any, **values: Any) -> Iterator[None]:  # noqa: ANN401
    """Give attributes of a module or class other values inside the block."""
    before = {name: getattr(target, name) for name in values}
    try:
        for name, value in values.items():
            setattr(target, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(target, name, value)


@contextmanager
def quiet_mteb() -> Iterator[None]:
    """No warnings, log lines and progress bars of MTEB and what it is built on."""
    import tqdm.std  # type: ignore[import-untyped]

    build = tqdm.std.tqdm.__init__

    def build_silent(self: object, *args: object, **options: object) -> None:
        build(self, *args, **(options | {"disable": True}))

    loggers = quiet_loggers("mteb", "datasets", "sentence_transformers", "huggingface_hub")
    # Some of MTEB's bars have no setting that turns them off.
    with setting(tqdm.std.tqdm, __init__=build_silent), loggers, warnings.catch_warnings(action="ignore"):
        yield


@contextmanager
def columns_read_once() -> Iterator[None]:
    """Inside the block a column of a data set that is iterated or indexed reads its table once; the values are the same.

    A column of the `datasets` library reads its table again for every value. MTEB's classification looks labels up one by
    one and hands columns to seven metrics: on Banking77 that is 9/10 of an evaluation's time.
    """
    from datasets.arrow_dataset import Column, Dataset

    iterate, index = Column.__iter__, Column.__getitem__

    def values(column: Any) -> list[Any] | None:  # noqa: ANN401
        # Formats give arrays or run code: those columns stay as they are.
        if not isinstance(column.source, Dataset) or column.source.format["type"] is not None:
            return None
        if not hasattr(column, "_read"):
            column._read = column.source._fast_select_column(column.column_name)[:][column.column_name]
        read: list[Any] = column._read
        return read

    def iterate_read(column: Any) -> Iterator[Any]:  # noqa: ANN401
        read = values(column)
        return iterate(column) if read is None else iter(read)

    def index_read(column: Any, key: Any) -> Any:  # noqa: ANN401
        read = values(column) if isinstance(key, int) and not isinstance(key, bool) else None
        return index(column, key) if read is None else read[key]

    with setting(Column, __iter__=iterate_read, __getitem__=index_read):
        yield
