"""Tables of texts from local files: .txt, .jsonl, .csv and .parquet, with errors that name the place.

A file is looked through once, row by row; what its rows hold is read again when it is asked for, and is not kept.
"""

from __future__ import annotations

import codecs
import itertools
import json
import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from io import BufferedReader
from pathlib import Path

from layerscope.errors import UserError, nearest
from layerscope.files.reading import named_errors, open_regular, sum_of
from layerscope.inputs.csv_files import CsvLayout, FileLine, csv_rows, is_textual, refuse_other_separator
from layerscope.inputs.quiet import said_as

SUFFIXES = (".txt", ".jsonl", ".csv", ".parquet")
_BATCH = 4096  # rows of a .parquet that are decoded at once
Cells = Callable[[Sequence[str], Sequence[int] | None], Iterator[tuple[object, ...]]]
_Rows = Iterator[tuple[int, int, Mapping[str, object]]]
"""The byte at which a row begins, its number, and its cells by column."""


@dataclass(frozen=True)
class Table:
    """Rows that are called by a word and a number each, such as `line-7`. `textual` are the columns that hold text.

    `cells` reads the named columns: of every row, or of the rows at some places, which must ascend.
    """

    source: str
    word: str
    numbers: Sequence[int]
    names: tuple[str, ...]
    textual: tuple[str, ...]
    cells: Cells

    def id(self, place: int) -> str:
        """The id of the row at a place."""
        return f"{self.word}-{self.numbers[place]}"

    def column(self, name: str) -> Iterator[object]:
        """The cells of one column."""
        return (cell for (cell,) in self.cells([name], None))


def open_table(path: Path, limit: int | None = None, layout: CsvLayout | None = None) -> Table:
    """Look through a file and make a table of it.

    A .txt has one text a line in the column `text`; only line feeds end a line (and a carriage return before one is
    dropped), so texts may hold other separators. A .jsonl has one object a line; blank lines between are allowed. A
    .csv has a header, commas, and every row as many fields, or what `layout` says; a column of numbers only is not one
    with text, since a .csv has no types. Row ids are `line-N` or `row-N`, from 1.

    Args:
        path: the file.
        limit: read at most this many rows; None: all.
        layout: of a .csv; None where the user has no say in it.

    Raises:
        UserError: the file is missing, empty, not UTF-8, or not what its suffix says; later, when cells are read: it
            has changed since.
    """
    file = _File(path)
    if file.stamp[1] == 0:
        raise UserError(f"texts {file.source!r}: the file is empty: give one with texts")
    suffix = path.suffix.lower()
    if suffix != ".csv" and layout not in (None, CsvLayout()):
        raise UserError(f"texts {file.source!r}: separator and no_header are for .csv files: leave them out")
    if suffix == ".parquet":
        table = _parquet(file, limit)
    elif suffix == ".csv":
        if layout is None or layout.separator is None:
            refuse_other_separator(file.source, file.lines, option=layout is not None)
        table = _of_lines(file, csv_rows(file.source, layout or CsvLayout()), limit, word="row")
    else:
        rows_of = _txt_rows if suffix == ".txt" else partial(_json_rows, file.source)
        table = _of_lines(file, rows_of, limit, word="line")
    if not table.numbers:
        raise UserError(f"texts {file.source!r}: the file holds no rows: give one with texts")
    return table


def table_of_rows(source: str, rows: Sequence[Mapping[str, object]]) -> Table:
    """A table of records; the columns are all keys in the order they are met, and a missing key reads as None."""

    def cells(wanted: Sequence[str], places: Sequence[int] | None) -> Iterator[tuple[object, ...]]:
        return (tuple(map(row.get, wanted)) for row in (rows if places is None else map(rows.__getitem__, places)))

    return Table(source, "row", range(1, len(rows) + 1), *_columns(rows, _is_string), cells)


def choose_column(table: Table, wanted: str | None) -> str:
    """The column that holds the texts: the wanted one, else `text`, else the only column with text.

    Raises:
        UserError: the column is not there or holds no text, or the choice is not clear; the message lists the columns.
    """
    have, textual = _named(table.names), _named(table.textual)
    if wanted is not None:
        if wanted not in table.names:
            close = nearest(wanted, table.names, most=1)
            hint = f"did you mean {_named(close)}?" if close else "choose one of them"
            raise UserError(f"texts {table.source!r} have no column {wanted!r} (columns: {have}): {hint}")
        if wanted not in table.textual:
            raise UserError(
                f"column {wanted!r} of texts {table.source!r} holds no text "
                f"(columns with text: {textual}): choose another column"
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
        f"({textual}): choose one with the column option"
    )


def _named(names: Sequence[str], most: int = 20) -> str:
    """Names that come from a file: only so many, and only their beginnings."""
    more = [f"and {len(names) - most} more"] if len(names) > most else []
    return ", ".join([*(repr(name[:60]) for name in names[:most]), *more]) or "none"


def file_revision(path: Path) -> str:
    """The start of the file's hash, such as `sha256:0123456789ab`; a UserError where it cannot be read."""
    return f"sha256:{sum_of(path, follow=True)[:12]}"


class _File:
    """A file that has to stay what it was when this was made."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.source = str(path)
        with open_regular(path) as file:
            self.stamp = _stamp(file)

    @contextmanager
    def open(self) -> Iterator[BufferedReader]:
        with open_regular(self.path) as file, named_errors(self.path):
            if _stamp(file) != self.stamp:
                raise UserError(f"texts {self.source!r} changed while they were read: run the same command again")
            yield file

    def lines(self) -> Iterator[FileLine]:
        with self.open() as file:
            yield from self.lines_from(file, 0)

    def lines_from(self, file: BufferedReader, offset: int) -> Iterator[FileLine]:
        """The lines from a byte on; a byte order mark is passed over."""
        file.seek(offset)
        for number, line in enumerate(file, 1):
            mark = 0
            if offset == 0:
                if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                    raise UserError(f"texts {self.source!r}: expected UTF-8, but the file is UTF-16: save it as UTF-8")
                mark = len(codecs.BOM_UTF8) if line.startswith(codecs.BOM_UTF8) else 0
            try:
                text = line[mark:].decode("utf-8")
            except UnicodeDecodeError as error:
                at = mark + error.start
                raise UserError(
                    f"texts {self.source!r}: expected UTF-8, but line {number} (byte offset {offset + at}) holds byte "
                    f"0x{line[at]:02x}: save the file as UTF-8"
                ) from error
            if text:
                yield FileLine(offset + mark, number, text)
            offset += len(line)


def _stamp(file: BufferedReader) -> tuple[int, int, int]:
    found = os.fstat(file.fileno())
    return found.st_ino, found.st_size, found.st_mtime_ns


def _txt_rows(lines: Iterator[FileLine]) -> _Rows:
    return ((line.start, line.number, {"text": line.without_end}) for line in lines)


def _json_rows(source: str, lines: Iterator[FileLine]) -> _Rows:
    where = f"texts {source!r}: expected one JSON object a line"
    for line in lines:
        if not line.text.strip():
            continue
        try:
            row = json.loads(line.without_end)
        except (ValueError, RecursionError) as error:
            what = f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
            raise UserError(f"{where}, but line {line.number} is not JSON ({what}): mend or remove it") from error
        if not isinstance(row, dict):
            kind = {list: "array", str: "string", bool: "boolean", type(None): "null"}.get(type(row), "number")
            raise UserError(f'{where}, such as {{"text": "..."}}, but line {line.number} holds a JSON {kind}')
        yield line.start, line.number, row


def _of_lines(file: _File, rows_of: Callable[[Iterator[FileLine]], _Rows], limit: int | None, *, word: str) -> Table:
    starts, numbers = array("q"), array("q")

    def rows() -> Iterator[Mapping[str, object]]:
        for start, number, row in itertools.islice(rows_of(file.lines()), limit):
            starts.append(start)
            numbers.append(number)
            yield row

    def cells(wanted: Sequence[str], places: Sequence[int] | None) -> Iterator[tuple[object, ...]]:
        with file.open() as opened:
            # From its start in one go where all are wanted: a start for each row takes twice as long.
            together = rows_of(file.lines_from(opened, starts[0])) if places is None else None
            for start in starts if places is None else map(starts.__getitem__, places):
                _, _, row = next(together or rows_of(file.lines_from(opened, start)))
                yield tuple(map(row.get, wanted))

    return Table(file.source, word, numbers, *_columns(rows(), is_textual if word == "row" else _is_string), cells)


def _columns(
    rows: Iterable[Mapping[str, object]], holds_text: Callable[[object], bool]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The keys of all rows in the order they are met, and those of them with a cell that holds text."""
    names: dict[str, bool] = {}
    for row in rows:
        for name, cell in row.items():
            names[name] = names.get(name, False) or holds_text(cell)
    return tuple(names), tuple(name for name, textual in names.items() if textual)


def _is_string(cell: object) -> bool:
    return isinstance(cell, str)


def _parquet(file: _File, limit: int | None) -> Table:
    from pyarrow import parquet, types

    def readable() -> AbstractContextManager[None]:
        return said_as(
            lambda why, _: UserError(
                f"texts {file.source!r}: expected a Parquet file, but it cannot be read ({why.rstrip('.:')}): it may "
                "be cut off or of another format, so copy it again"
            )
        )

    def cells(wanted: Sequence[str], places: Sequence[int] | None) -> Iterator[tuple[object, ...]]:
        left = iter(range(rows) if places is None else places)
        place, begin = next(left, None), 0
        with file.open() as opened, readable():
            whole = parquet.ParquetFile(opened, buffer_size=1 << 16, pre_buffer=False)
            for group in range(whole.num_row_groups):
                size = whole.metadata.row_group(group).num_rows
                if place is None or place >= begin + size:
                    begin += size
                    continue
                for batch in whole.iter_batches(_BATCH, row_groups=[group], columns=list(wanted)):
                    columns = [batch.column(batch.schema.get_all_field_indices(name)[0]) for name in wanted]
                    while place is not None and place < begin + len(batch):
                        yield tuple(column[place - begin].as_py() for column in columns)
                        place = next(left, None)
                    begin += len(batch)
            if place is not None:
                raise LookupError(f"row {place + 1} is not there")

    with file.open() as opened, readable():
        whole = parquet.ParquetFile(opened)
        schema, total = whole.schema_arrow, whole.metadata.num_rows
    rows = total if limit is None else min(limit, total)
    kinds = [kind.value_type if types.is_dictionary(kind) else kind for kind in schema.types]
    is_text = [types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind) for kind in kinds]
    textual = tuple(itertools.compress(schema.names, is_text))
    return Table(file.source, "row", range(1, rows + 1), tuple(schema.names), textual, cells)
