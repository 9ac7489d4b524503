"""Comma-separated files: how they are laid out, and what gives a file away that is laid out otherwise."""

from __future__ import annotations

import csv
import io
import itertools
import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from layerscope.errors import UserError

_LOOKED_AT = 200  # rows that tell what a file is


@dataclass(frozen=True)
class CsvLayout:
    """How a .csv is laid out. `separator` None: commas, unless the file looks otherwise, which is then an error."""

    separator: str | None = None
    header: bool = True


SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t"}


def csv_layout(separator: str | None, *, header: bool) -> CsvLayout:
    """The layout that the options of a text source ask for; a separator has a name or is one character.

    Raises:
        UserError: it is neither.
    """
    found = None if separator is None else SEPARATORS.get(separator.lower(), separator)
    if found is not None and (len(found) != 1 or found in '"\r\n'):
        raise UserError(
            f"separator {separator!r}: expected {', '.join(SEPARATORS)} or one character other than a quote or line end"
        )
    return CsvLayout(found, header)


class Line(NamedTuple):
    """A line of a file with its end, and the byte at which it begins."""

    start: int
    text: str


Lines = Callable[[], Iterator[Line]]


@dataclass(frozen=True)
class CsvRows:
    """The rows of a .csv by the byte at which each begins. `textual` are the columns that hold text."""

    names: tuple[str, ...]
    starts: Sequence[int]
    textual: tuple[str, ...]
    separator: str


def read_csv(source: str, lines: Lines, limit: int | None, layout: CsvLayout | None) -> CsvRows:
    """Look through a .csv; a column of numbers only is not one with text, since a .csv has no types.

    Args:
        source: what the file is called in errors.
        lines: reads it from its start.
        limit: read at most this many rows; None reads all.
        layout: what the user said of it; None where the user has no say in it.

    Raises:
        UserError: it is not CSV as the layout says, or looks separated by another sign than commas.
    """
    chosen = layout or CsvLayout()
    if chosen.separator is None:
        _refuse_other_separator(source, lines, layout)
    separator = chosen.separator or ","
    starts = array("q")
    names: list[str] = []
    textual: set[int] = set()
    for begin, row, end in _rows(source, lines(), separator):
        if not names:
            names = row if chosen.header else [f"column-{number}" for number in range(1, len(row) + 1)]
            _check_header(source, names)
            if chosen.header:
                continue
        if len(starts) == limit:
            break
        if len(row) != len(names):
            raise UserError(
                f"texts {source!r}: expected {len(names)} fields in every row, as in the "
                f"{'header' if chosen.header else 'first row'}, but the row that ends on line {end} has "
                f"{len(row)}: put texts that hold the separator or line breaks in double quotes"
            )
        starts.append(begin)
        textual |= {place for place, cell in enumerate(row) if place not in textual and is_textual(cell)}
    return CsvRows(tuple(names), starts, tuple(names[place] for place in sorted(textual)), separator)


def csv_rows(lines: Iterator[Line], separator: str) -> Iterator[list[str]]:
    """The rows from a line on, of a file that was looked through."""
    return (row for _, row, _ in _rows("", lines, separator))


def _rows(source: str, lines: Iterator[Line], separator: str) -> Iterator[tuple[int, list[str], int]]:
    """Rows that are not blank: the byte at which each begins, its fields, and the line on which it ends."""
    reached = 0

    def pieces() -> Iterator[str]:
        nonlocal reached
        for line in lines:
            reached = line.start
            # A carriage return alone ends a line as well.
            for piece in io.StringIO(line.text, newline="") if "\r" in line.text else (line.text,):
                reached += len(piece.encode("utf-8"))
                yield piece

    # strict: a quote that is never closed is an error, instead of one text that swallows the rest of the file
    reader = csv.reader(pieces(), strict=True, delimiter=separator)
    try:
        while True:
            begin = reached
            row = next(reader, None)
            if row is None:
                return
            if row:
                yield begin, row, reader.line_num
    except csv.Error as error:
        raise UserError(
            f"texts {source!r}: the row that ends on line {reader.line_num} is not CSV ({error}): mend its quotes, "
            f"or use .jsonl for texts of more than {csv.field_size_limit():,} characters"
        ) from error


def refuse_missing_header(source: str, names: Sequence[str], column: str, cells: Iterable[object]) -> None:
    """Refuse a .csv whose first row was taken for names and looks like the rows below it: that text would be lost.

    Names that someone chose are words such as `text` or `Complaint narrative`. A row of data gives itself away by a number
    among the names, by a name that is also a cell below it, or by a sentence: an end like one's, or words as many as in
    the cells below.

    Args:
        source: what the file is called in errors.
        names: the first row.
        column: a column that holds text and was not named by the user.
        cells: what the rows below hold in it.

    Raises:
        UserError: it looks so; the message holds the options for both.
    """
    below = [str(cell) for cell in itertools.islice(cells, _LOOKED_AT)]
    counts = [len(cell.split()) for cell in below if cell.strip()]
    words = len(column.split())
    like_a_row = (
        any(name.strip() and not is_textual(name) for name in names)
        or column in below
        or re.search(r"[.!?;:]$", column.strip()) is not None
        or (words > 1 and min(counts, default=0) <= words <= max(counts, default=0))
    )
    if like_a_row:
        shown = column if len(column) <= 60 else f"{column[:60]}..."
        raise UserError(
            f"texts {source!r}: expected a header, but the first row looks like a row ({shown!r} over the texts): "
            f"give --no-header to read it as one, or --column {shown!r} if that is the column's name"
        )


def _refuse_other_separator(source: str, lines: Lines, layout: CsvLayout | None) -> None:
    """Refuse a file whose rows all have as many fields, two or more, by another separator and not by commas."""
    if _fields(lines, ",") > 1:
        return
    for name, sign in (*SEPARATORS.items(), ("|", "|")):
        count = _fields(lines, sign)
        if count > 1:
            option = f"give --separator {name}, or " if layout is not None else ""
            insist = "; if they are commas, --separator comma" if layout is not None else ""
            shown = "a tab" if name == "tab" else f"{sign!r}"
            raise UserError(
                f"texts {source!r}: expected fields separated by commas, but every row looks like {count} fields "
                f"separated by {shown}: {option}save it with commas{insist}"
            )


def _fields(lines: Lines, separator: str) -> int:
    """The fields that each of the first rows has by a separator; 0 where they are not equally many or not readable."""
    try:
        counts = {len(row) for _, row, _ in itertools.islice(_rows("", lines(), separator), _LOOKED_AT)}
    except UserError:
        return 0
    return counts.pop() if len(counts) == 1 else 0


def _check_header(source: str, names: Sequence[str]) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise UserError(
            f"texts {source!r}: the header names the column {repeated[0][:60]!r} more than once: give each its own name"
        )


def is_textual(cell: str) -> bool:
    """Whether a cell of a .csv holds text: more than white space, and no number."""
    if not cell.strip():
        return False
    try:
        float(cell)
    except ValueError:
        return True
    return False
