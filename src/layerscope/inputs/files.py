"""Tables of texts from local files: .txt, .jsonl, .csv and .parquet, with errors that name the place.

A file is looked through once, row by row; what its rows hold is read again when it is asked for, and is not kept.
"""

from __future__ import annotations

import codecs
import json
import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

from layerscope.errors import UserError, nearest
from layerscope.files.reading import cannot_read, open_regular, sum_of
from layerscope.inputs.csv_files import CsvLayout, Line, csv_rows, read_csv

SUFFIXES = (".txt", ".jsonl", ".csv", ".parquet")
_BATCH = 4096  # rows of a .parquet that are decoded at once


class Ids(Sequence[str]):
    """`line-1`, `line-2`, ...: a word and a number for each row, put together when asked for."""

    def __init__(self, word: str, numbers: Sequence[int]) -> None:
        self.word = word
        self.numbers = numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: Any) -> Any:  # noqa: ANN401
        numbers = self.numbers[index]
        return f"{self.word}-{numbers}" if isinstance(numbers, int) else Ids(self.word, numbers)


@dataclass(frozen=True)
class Table:
    """Rows with an id each. `textual` are the columns that hold text.

    `cells` reads the named columns: of every row, or of the rows at some places, which must ascend.
    """

    source: str
    ids: Sequence[str]
    names: tuple[str, ...]
    textual: tuple[str, ...]
    cells: Callable[[Sequence[str], Sequence[int] | None], Iterator[tuple[object, ...]]]

    def column(self, name: str) -> Iterator[object]:
        """The cells of one column."""
        return (cell for (cell,) in self.cells([name], None))


def read_table(path: Path, limit: int | None = None, layout: CsvLayout | None = None) -> Table:
    """Look through a file and make a table of it.

    A .txt has one text a line in the column `text`; only line feeds end a line (and a carriage return before one is
    dropped), so texts may hold other separators. A .jsonl has one object a line; blank lines between are allowed. A
    .csv has a header, commas, and every row as many fields, or what `layout` says. Row ids are `line-N` or `row-N`, from
    1.

    Args:
        path: the file.
        limit: read at most this many rows; None reads all.
        layout: of a .csv; None where the user has no say in it.

    Raises:
        UserError: the file is missing, empty, not UTF-8, or not what its suffix says; later, when cells are read: it
            has changed since.
    """
    file = _File(path)
    if file.stamp[1] == 0:
        raise UserError(f"texts {str(path)!r}: the file is empty: give one with texts")
    suffix = path.suffix.lower()
    if suffix != ".csv" and layout not in (None, CsvLayout()):
        raise UserError(f"texts {str(path)!r}: separator and no_header are for .csv files: leave them out")
    table = _csv(file, limit, layout) if suffix == ".csv" else _READERS[suffix](file, limit)
    if not table.ids:
        raise UserError(f"texts {str(path)!r}: the file holds no rows: give one with texts")
    return table


def table_of_rows(source: str, rows: Sequence[Mapping[str, object]], ids: Sequence[str]) -> Table:
    """A table of records; the columns are all keys in the order they are met, and a missing key reads as None."""
    names = _columns(rows)
    return Table(
        source=source,
        ids=ids,
        names=tuple(names),
        textual=tuple(name for name, textual in names.items() if textual),
        cells=lambda wanted, places: (
            tuple(row.get(name) for name in wanted)
            for row in (rows if places is None else (rows[place] for place in places))
        ),
    )


def choose_column(table: Table, wanted: str | None) -> str:
    """The column that holds the texts: the wanted one, else `text`, else the only column with text.

    Raises:
        UserError: the column is not there or holds no text, or the choice is not clear; the message lists the columns.
    """
    have = _named(table.names)
    if wanted is not None:
        if wanted not in table.names:
            close = nearest(wanted, table.names, most=1)
            hint = f"did you mean {_named(close)}?" if close else "choose one of them"
            raise UserError(f"texts {table.source!r} have no column {wanted!r} (columns: {have}): {hint}")
        if wanted not in table.textual:
            raise UserError(
                f"column {wanted!r} of texts {table.source!r} holds no text "
                f"(columns with text: {_named(table.textual)}): choose another column"
            )
        return wanted
    if "text" in table.textual:
        return "text"
    if len(table.textual) == 1:
        return table.textual[0]
    if not table.textual:
        raise UserError(f"texts {table.source!r} have no column with text (columns: {have}): give other texts")
    raise UserError(
        f"texts {table.source!r} have several columns with text and none is named 'text' "
        f"({_named(table.textual)}): choose one with the column option"
    )


def _named(names: Sequence[str], most: int = 20) -> str:
    """Names that come from a file: only so many, and only their beginnings."""
    more = [f"and {len(names) - most} more"] if len(names) > most else []
    return ", ".join([*(repr(name[:60]) for name in names[:most]), *more]) or "none"


def file_revision(path: Path) -> str:
    """The start of the file's hash, such as `sha256:0123456789ab`.

    Raises:
        UserError: there is no such file, or it cannot be read.
    """
    return f"sha256:{sum_of(path, follow=True)[:12]}"


class _File:
    """A file that has to stay what it was when this was made."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with open_regular(path) as file:
            self.stamp = _stamp(file)

    @contextmanager
    def open(self) -> Iterator[BufferedReader]:
        with open_regular(self.path) as file:
            if _stamp(file) != self.stamp:
                raise UserError(f"texts {str(self.path)!r} changed while they were read: run the same command again")
            try:
                yield file
            except OSError as error:
                raise cannot_read(self.path, error) from error

    def lines(self, offset: int = 0) -> Iterator[Line]:
        """The lines from a byte on, with their ends, and where each begins; a byte order mark is passed over."""
        with self.open() as file:
            yield from _lines_of(file, str(self.path), offset)


def _stamp(file: BufferedReader) -> tuple[int, int, int]:
    found = os.fstat(file.fileno())
    return found.st_ino, found.st_size, found.st_mtime_ns


def _lines_of(file: BufferedReader, source: str, offset: int) -> Iterator[Line]:
    file.seek(offset)
    for number, line in enumerate(file, 1):
        mark = 0
        if offset == 0:
            if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                raise UserError(f"texts {source!r}: expected UTF-8, but the file is UTF-16: save it as UTF-8")
            mark = len(codecs.BOM_UTF8) if line.startswith(codecs.BOM_UTF8) else 0
        try:
            text = line[mark:].decode("utf-8")
        except UnicodeDecodeError as error:
            at = mark + error.start
            raise UserError(
                f"texts {source!r}: expected UTF-8, but line {number} (byte offset {offset + at}) holds byte "
                f"0x{line[at]:02x}: save the file as UTF-8"
            ) from error
        if text:
            yield Line(offset + mark, text)
        offset += len(line)


def _txt(file: _File, limit: int | None) -> Table:
    starts = array("q")
    for line in file.lines():
        if len(starts) == limit:
            break
        starts.append(line.start)

    def cells(names: Sequence[str], places: Sequence[int] | None) -> Iterator[tuple[object, ...]]:
        for text in _texts_at(file, starts, places):
            yield (_without_end(text),) * len(names)

    return Table(str(file.path), Ids("line", range(1, len(starts) + 1)), ("text",), ("text",), cells)


def _texts_at(file: _File, starts: Sequence[int], places: Sequence[int] | None) -> Iterator[str]:
    """The lines that begin at some of the starts."""
    with file.open() as opened:
        for start in starts if places is None else (starts[place] for place in places):
            opened.seek(start)
            yield opened.readline().decode("utf-8")


def _without_end(line: str) -> str:
    return line.removesuffix("\n").removesuffix("\r")


def _jsonl(file: _File, limit: int | None) -> Table:
    starts, numbers = array("q"), array("q")

    def rows() -> Iterator[dict[str, object]]:
        for number, line in enumerate(file.lines(), 1):
            if len(starts) == limit:
                break
            if line.text.strip():
                yield _object(str(file.path), number, _without_end(line.text))
                starts.append(line.start)
                numbers.append(number)

    names = _columns(rows())

    def cells(wanted: Sequence[str], places: Sequence[int] | None) -> Iterator[tuple[object, ...]]:
        for text in _texts_at(file, starts, places):
            row = json.loads(text)
            yield tuple(row.get(name) for name in wanted)

    textual = tuple(name for name, textual in names.items() if textual)
    return Table(str(file.path), Ids("line", numbers), tuple(names), textual, cells)


def _columns(rows: Iterable[Mapping[str, object]]) -> dict[str, bool]:
    """The keys of all rows in the order they are met, and whether any row holds text there."""
    names: dict[str, bool] = {}
    for row in rows:
        for name, cell in row.items():
            names[name] = names.get(name, False) or isinstance(cell, str)
    return names


def _object(source: str, number: int, line: str) -> dict[str, object]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        what = f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
        raise UserError(
            f"texts {source!r}: expected one JSON object a line, but line {number} is not JSON ({what}): mend or remove it"
        ) from error
    if not isinstance(row, dict):
        kind = {list: "array", str: "string", bool: "boolean", type(None): "null"}.get(type(row), "number")
        raise UserError(
            f'texts {source!r}: expected one JSON object a line, such as {{"text": "..."}}, but line {number} holds a '
            f"JSON {kind}"
        )
    return row


def _csv(file: _File, limit: int | None, layout: CsvLayout | None) -> Table:
    found = read_csv(str(file.path), file.lines, limit, layout)
    columns = {name: place for place, name in enumerate(found.names)}

    def cells(wanted: Sequence[str], places: Sequence[int] | None) -> Iterator[tuple[object, ...]]:
        # From its start in one go where all are wanted: a start for each row takes twice as long.
        all_rows = csv_rows(file.lines(found.starts[0]), found.separator) if places is None else None
        with file.open() as opened:
            for start in found.starts if places is None else (found.starts[place] for place in places):
                rows = all_rows or csv_rows(_lines_of(opened, str(file.path), start), found.separator)
                row = next(rows)
                yield tuple(row[columns[name]] for name in wanted)

    return Table(str(file.path), Ids("row", range(1, len(found.starts) + 1)), found.names, found.textual, cells)


def _parquet(file: _File, limit: int | None) -> Table:
    import pyarrow.parquet

    def cells(wanted: Sequence[str], places: Sequence[int] | None) -> Iterator[tuple[object, ...]]:
        left = iter(range(rows) if places is None else places)
        place, begin = next(left, None), 0
        with file.open() as opened, _parquet_errors(file.path):
            whole = pyarrow.parquet.ParquetFile(opened, buffer_size=1 << 16, pre_buffer=False)
            for group in range(whole.num_row_groups):
                size = whole.metadata.row_group(group).num_rows
                if place is None or place >= begin + size:
                    begin += size
                    continue
                for batch in whole.iter_batches(_BATCH, row_groups=[group], columns=list(wanted)):
                    if place is not None and place < begin + len(batch):
                        indices = [batch.schema.get_all_field_indices(name)[0] for name in wanted]
                        columns = [batch.column(index).to_pylist() for index in indices]
                    while place is not None and place < begin + len(batch):
                        yield tuple(column[place - begin] for column in columns)
                        place = next(left, None)
                    begin += len(batch)
        if place is not None:
            raise _broken_parquet(file.path, f"row {place + 1} is not there")

    with file.open() as opened, _parquet_errors(file.path):
        whole = pyarrow.parquet.ParquetFile(opened)
        schema, total = whole.schema_arrow, whole.metadata.num_rows
    rows = total if limit is None else min(limit, total)
    return Table(
        source=str(file.path),
        ids=Ids("row", range(1, rows + 1)),
        names=tuple(schema.names),
        textual=tuple(field.name for field in schema if _is_string(field.type)),
        cells=cells,
    )


def _is_string(kind: Any) -> bool:  # noqa: ANN401
    from pyarrow import types

    value = kind.value_type if types.is_dictionary(kind) else kind
    return bool(types.is_string(value) or types.is_large_string(value) or types.is_string_view(value))


@contextmanager
def _parquet_errors(path: Path) -> Iterator[None]:
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError, ValueError, LookupError, MemoryError, OverflowError) as error:
        raise _broken_parquet(path, (str(error).strip().splitlines() or [type(error).__name__])[0]) from error


def _broken_parquet(path: Path, why: str) -> UserError:
    return UserError(
        f"texts {str(path)!r}: expected a Parquet file, but it cannot be read ({why.rstrip('.:')}): "
        f"it may be cut off or of another format, so copy it again"
    )


_READERS: dict[str, Callable[[_File, int | None], Table]] = {".txt": _txt, ".jsonl": _jsonl, ".parquet": _parquet}
