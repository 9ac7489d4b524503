"""Columns of data sets, read once.

A column of the `datasets` library reads its table again for every value. MTEB's classification looks labels up one by one
and hands columns to seven metrics: on Banking77 that is 9/10 of an evaluation's time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def columns_read_once() -> Iterator[None]:
    """Inside the block a column that is iterated or indexed reads its table once; the values are the same."""
    from datasets.arrow_dataset import Column, Dataset

    iterate, index = Column.__iter__, Column.__getitem__

    def values(column: Any) -> list[Any] | None:  # noqa: ANN401
        # Formats give arrays or run code: those columns stay as they are.
        if not isinstance(column.source, Dataset) or column.source.format["type"] is not None:
            return None
        if not hasattr(column, "_read"):
            table = column.source._fast_select_column(column.column_name)
            column._read = table[:][column.column_name]
        read: list[Any] = column._read
        return read

    def iterate_read(column: Any) -> Iterator[Any]:  # noqa: ANN401
        read = values(column)
        return iterate(column) if read is None else iter(read)

    def index_read(column: Any, key: Any) -> Any:  # noqa: ANN401
        read = values(column) if isinstance(key, int) and not isinstance(key, bool) else None
        return index(column, key) if read is None else read[key]

    Column.__iter__, Column.__getitem__ = iterate_read, index_read
    try:
        yield
    finally:
        Column.__iter__, Column.__getitem__ = iterate, index
