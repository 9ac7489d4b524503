"""Comma-separated files: how they are laid out, and what gives a file away that is laid out otherwise."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from layerscope.errors import UserError

_LOOKED_AT = 200  # rows that tell what a file is
SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t"}


@dataclass(frozen=True)
class CsvLayout:
    """How a .csv is laid out. `separator` None: commas, unless the file looks otherwise, which is then an error."""

    separator: str | None = None
    header: bool = True


def csv_layout(separator: str | None, *, header: bool) -> CsvLayout:
    """The layout that the options of a text source ask for; a UserError where a separator is neither known nor one sign."""
    found = None if separator is None else SEPARATORS.get(separator.lower(), separator)
    if found is not None and (len(found) != 1 or found in '"\r\n'):
        raise UserError(
            f"separator {separator!r}: expected {', '.join(SEPARATORS)} or one character other than a quote or line end"
        )
    return CsvLayout(found, header)


class FileLine(NamedTuple):
    """A line of a file with its end, the byte at which it begins, and its number, from 1."""

    start: int
    number: int
    text: str

    @property
    def without_end(self) -> str:
        """Its text without a line feed, and a carriage return before it."""
        return self.text.removesuffix("\n").removesuffix("\r")


Lines = Callable[[], Iterator[FileLine]]


def csv_rows(
    source: str, layout: CsvLayout
) -> Callable[[Iterator[FileLine]], Iterator[tuple[int, int, dict[str, str]]]]:
    """What makes rows of the lines of one file: the byte at which each begins, its number, its cells by column.

    The first lines that it is given are those at the file's start, where the names are; later ones are any. Where they
    are not CSV as the layout says, a UserError calls the file `source`.
    """
    names: list[str] = []

    def rows(lines: Iterator[FileLine]) -> Iterator[tuple[int, int, dict[str, str]]]:
        numbers = itertools.count(1)
        for begin, row, end in _rows(source, lines, layout.separator or ","):
            if not names:
                names.extend(row if layout.header else (f"column-{number}" for number in range(1, len(row) + 1)))
                if repeated := sorted({name for name in names if names.count(name) > 1}):
                    raise UserError(
                        f"texts {source!r}: the header names the column {repeated[0][:60]!r} more than once: give each "
                        "its own name"
                    )
                if layout.header:
                    continue
            if len(row) != len(names):
                raise UserError(
                    f"texts {source!r}: expected {len(names)} fields in every row, as in the "
                    f"{'header' if layout.header else 'first row'}, but the row that ends on line {end} has "
                    f"{len(row)}: put texts that hold the separator or line breaks in double quotes"
                )
            yield begin, next(numbers), dict(zip(names, row, strict=True))

    return rows


def _rows(source: str, lines: Iterator[FileLine], separator: str) -> Iterator[tuple[int, list[str], int]]:
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
    begin = 0
    try:
        for row in reader:
            if row:
                yield begin, row, reader.line_num
            begin = reached
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

    The error calls the file `source` and holds the options for both. `names` are the first row, `column` one of them
    over text, that the user did not name, and `cells` what the rows below hold in it.
    """
    below = [str(cell) for cell in itertools.islice(cells, _LOOKED_AT)]
    counts = [len(cell.split()) for cell in below if cell.strip()]
    words = len(column.split())
    if (
        any(name.strip() and not is_textual(name) for name in names)
        or column in below
        or re.search(r"[.!?;:]$", column.strip())
        or (words > 1 and min(counts, default=0) <= words <= max(counts, default=0))
    ):
        shown = column if len(column) <= 60 else f"{column[:60]}..."
        raise UserError(
            f"texts {source!r}: expected a header, but the first row looks like a row ({shown!r} over the texts): "
            f"give --no-header to read it as one, or --column {shown!r} if that is the column's name"
        )


def refuse_other_separator(source: str, lines: Lines, *, option: bool) -> None:
    """Refuse a file whose rows all have as many fields, two or more, by another separator and not by commas.

    `lines` reads it from its start; `option` says whether the user can say what separates its fields.
    """
    if _fields(lines, ",") > 1:
        return
    for name, sign in (*SEPARATORS.items(), ("|", "|")):
        if (count := _fields(lines, sign)) > 1:
            advice = "save it with commas"
            if option:
                advice = f"give --separator {name}, or {advice}; if they are commas, --separator comma"
            raise UserError(
                f"texts {source!r}: expected fields separated by commas, but every row looks like {count} fields "
                f"separated by {'a tab' if name == 'tab' else repr(sign)}: {advice}"
            )


def _fields(lines: Lines, separator: str) -> int:
    """The fields that each of the first rows has by a separator; 0 where they are not equally many or not readable."""
    try:
        counts = {len(row) for _, row, _ in itertools.islice(_rows("", lines(), separator), _LOOKED_AT)}
    except UserError:
        return 0
    return counts.pop() if len(counts) == 1 else 0


def is_textual(cell: object) -> bool:
    """Whether a cell of a .csv holds text: more than white space, and no number."""
    text = str(cell)
    try:
        float(text)
    except ValueError:
        return bool(text.strip())
    return False
