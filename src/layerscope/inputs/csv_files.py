"""Comma-separated files: how they are laid out, and what gives a file away that is laid out otherwise."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

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


def read_csv(source: str, text: str, limit: int | None, layout: CsvLayout | None) -> tuple[list[str], list[list[str]]]:
    """The names of the columns, and the rows.

    Args:
        source: what the file is called in errors.
        text: its content.
        limit: read at most this many rows; None reads all.
        layout: what the user said of it; None where the user has no say in it.

    Raises:
        UserError: it is not CSV as the layout says, or looks separated by another sign than commas.
    """
    chosen = layout or CsvLayout()
    if chosen.separator is None:
        _refuse_other_separator(source, text, layout)
    # strict: a quote that is never closed is an error, instead of one text that swallows the rest of the file
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=chosen.separator or ",")
    rows: list[list[str]] = []
    try:
        first = next((row for row in reader if row), [])
        names = first if chosen.header else [f"column-{number}" for number in range(1, len(first) + 1)]
        if not chosen.header and first:
            rows.append(first)
        _check_header(source, names)
        for row in reader:
            if limit is not None and len(rows) == limit:
                break
            if row and len(row) != len(names):
                raise UserError(
                    f"texts {source!r}: expected {len(names)} fields in every row, as in the "
                    f"{'header' if chosen.header else 'first row'}, but the row that ends on line {reader.line_num} has "
                    f"{len(row)}: put texts that hold the separator or line breaks in double quotes"
                )
            if row:
                rows.append(row)
    except csv.Error as error:
        raise UserError(
            f"texts {source!r}: the row that ends on line {reader.line_num} is not CSV ({error}): mend its quotes, "
            f"or use .jsonl for texts of more than {csv.field_size_limit():,} characters"
        ) from error
    return names, rows


def refuse_missing_header(source: str, names: Sequence[str], column: str, cells: Sequence[object]) -> None:
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


def _refuse_other_separator(source: str, text: str, layout: CsvLayout | None) -> None:
    """Refuse a file whose rows all have as many fields, two or more, by another separator and not by commas."""
    if _fields(text, ",") > 1:
        return
    for name, sign in (*SEPARATORS.items(), ("|", "|")):
        count = _fields(text, sign)
        if count > 1:
            option = f"give --separator {name}, or " if layout is not None else ""
            insist = "; if they are commas, --separator comma" if layout is not None else ""
            shown = "a tab" if name == "tab" else f"{sign!r}"
            raise UserError(
                f"texts {source!r}: expected fields separated by commas, but every row looks like {count} fields "
                f"separated by {shown}: {option}save it with commas{insist}"
            )


def _fields(text: str, separator: str) -> int:
    """The fields that each of the first rows has by a separator; 0 where they are not equally many or not readable."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=separator)
    try:
        counts = {len(row) for row in itertools.islice((row for row in reader if row), _LOOKED_AT)}
    except csv.Error:
        return 0
    return counts.pop() if len(counts) == 1 else 0


def _check_header(source: str, names: Sequence[str]) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise UserError(
            f"texts {source!r}: the header names the column {repeated[0]!r} more than once: give each its own name"
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
