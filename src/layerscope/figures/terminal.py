"""Columns of cells as lines of a terminal: texts are broken at spaces, numbers and intervals never."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.text import Text

from layerscope.wording import lines_on_screen

GAP = 2
NARROWEST = 16
"""A text is not squeezed below this many columns: lines of single words are no easier to read than a second table."""
LONGEST_GROUP = 24
"""Brackets up to this long are never broken over lines: an interval is one value."""

_ATOM = re.compile(r"[+-]?\d[\d.,]*(?:[eE][+-]?\d+)?|[^\W\d_]+|.", re.DOTALL)


@dataclass(frozen=True)
class Column:
    """A heading and a cell for every row; a cell or a heading may hold several lines."""

    name: str
    cells: Sequence[str]
    right: bool = False
    """Cells end at the right: numbers."""
    text: bool = False
    """Cells may be broken into lines, at spaces outside brackets."""
    spare: bool = False
    """Left out first where the terminal is narrow."""
    style: str = ""

    def __post_init__(self) -> None:
        # Before anything is measured: what is written out is longer than what it stands for.
        object.__setattr__(self, "name", lines_on_screen(self.name.expandtabs()))
        object.__setattr__(self, "cells", [lines_on_screen(cell.expandtabs()) for cell in self.cells])

    @property
    def natural(self) -> int:
        """The width at which nothing is broken."""
        return _widest(self.name, *self.cells)

    @property
    def least(self) -> int:
        """The smallest width at which the column can be read."""
        heading = _longest_word([self.name])
        if not self.text:
            return max(heading, _widest(*self.cells))
        return max(heading, min(self.natural, max(NARROWEST, min(_longest_word(self.cells), LONGEST_GROUP))))


@dataclass(frozen=True)
class TerminalTable:
    """A table that gives way to the terminal's width without losing a digit.

    Too wide, it first breaks its texts, then leaves out its spare columns, then puts the columns that do not fit into
    further tables that begin with the key columns again, and last writes every row on its side, a line a value. What was
    left out or moved is said below it.
    """

    columns: Sequence[Column]
    keys: int = 1
    """How many of the first columns say what a row is; 0 where no column is known to."""
    title: str = ""
    caption: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        """The lines, for rich."""
        yield from self.lines(options.max_width)

    def lines(self, width: int) -> Iterator[Text]:
        """The table as lines of at most `width` columns.

        Args:
            width: columns of the terminal, 20 or more; a number that is longer by itself is broken all the same.

        Returns:
            Lines without anything behind their last character.
        """
        yield from (Text(line, style="bold") for line in wrapped(self.title, width) if self.title)
        shown = [column for column in self.columns if not column.spare]
        stacks = _stacks(self.columns, self.keys, width)
        said = ""
        if _fits(self.columns, width):
            yield from _upright(self.columns, width)
        elif len(shown) < len(self.columns) and _fits(shown, width):
            yield from _upright(shown, width)
            said = f"Left out at {width} columns: {_names(column for column in self.columns if column.spare)}."
        elif stacks:
            yield from _upright(stacks[0], width)
            for stack in stacks[1:]:
                yield Text("")
                yield from _upright(_without_empty_rows(stack, self.keys), width)
            moved = [column for stack in stacks[1:] for column in stack[self.keys :]]
            said = f"In {len(stacks)} tables at {width} columns; moved down: {_names(moved)}."
        else:
            yield from _on_their_side(self.columns, self.keys, width)
            said = f"Rows on their side: {width} columns are too few for {len(self.columns)} beside each other."
        for line in filter(None, (self.caption, said)):
            yield from (Text(part, style="dim") for part in wrapped(line, width))


def wrapped(text: str, width: int, indent: str = "") -> list[str]:
    """A text in lines of at most `width` columns, broken at spaces outside brackets.

    Args:
        text: one line or several; what fits into a line is left as it is.
        width: columns of a line. A word that is longer is broken between letters, marks and whole numbers.
        indent: what every line but the first begins with.

    Returns:
        The lines, at least one.
    """
    lines: list[str] = []
    for line in lines_on_screen(text.expandtabs()).split("\n"):
        if cell_len(line) <= width:
            lines.append(line.rstrip())
            continue
        start = line[: len(line) - len(line.lstrip())]
        lines.append(start)
        full = False
        for word in _words(line):
            if full and cell_len(lines[-1]) + 1 + cell_len(word) <= width:
                lines[-1] += f" {word}"
                continue
            if full:
                lines.append(indent)
            if cell_len(lines[-1]) + cell_len(word) <= width:
                lines[-1] += word
            else:
                first, *others = _broken(word, width - cell_len(lines[-1]))
                lines[-1] += first
                lines += (indent + part for part in others)
            full = True
    return lines


def _words(line: str) -> list[str]:
    """What a line may be broken between: words, with short brackets in one piece."""
    words: list[str] = []
    opened = 0
    for word in line.split():
        joined = f"{words[-1]} {word}" if words else word
        if opened > 0 and cell_len(joined) <= LONGEST_GROUP:
            words[-1] = joined
        else:
            words.append(word)
            opened = 0
        opened += sum(word.count(mark) for mark in "[(") - sum(word.count(mark) for mark in "])")
    return words


def _broken(word: str, width: int) -> list[str]:
    """A word that is too long for a line, in pieces that keep its numbers whole where a line can hold them."""
    pieces = [""]
    for atom in _ATOM.findall(word):
        if cell_len(pieces[-1]) + cell_len(atom) <= width:
            pieces[-1] += atom
        elif cell_len(atom) <= width:
            pieces.append(atom)
        else:
            for mark in atom:
                if pieces[-1] and cell_len(pieces[-1]) + cell_len(mark) > width:
                    pieces.append("")
                pieces[-1] += mark
    return [piece for piece in pieces if piece]


def _fits(columns: Sequence[Column], width: int) -> bool:
    return sum(column.least for column in columns) + GAP * (len(columns) - 1) <= width


def _stacks(columns: Sequence[Column], keys: int, width: int) -> list[list[Column]]:
    """The columns in groups that fit, each with the key columns in front; none where even one does not fit with them."""
    first, others = list(columns[:keys]), columns[keys:]
    if not first or not all(_fits([*first, one], width) for one in others):
        return []
    stacks: list[list[Column]] = []
    for column in others:
        if stacks and _fits([*stacks[-1], column], width):
            stacks[-1].append(column)
        else:
            stacks.append([*first, column])
    return stacks


def _without_empty_rows(columns: Sequence[Column], keys: int) -> list[Column]:
    """The columns without the rows that have nothing but their keys."""
    rows = [row for row in range(len(columns[0].cells)) if any(column.cells[row].strip() for column in columns[keys:])]
    return [replace(column, cells=[column.cells[row] for row in rows]) for column in columns]


def _widths(columns: Sequence[Column], width: int) -> list[int]:
    """A width a column: its natural one, or as much less as is needed, taken from the widest that can give."""
    widths = [column.natural for column in columns]
    least = [column.least for column in columns]
    over = sum(widths) + GAP * (len(widths) - 1) - width
    while over > 0:
        place = max((i for i, one in enumerate(widths) if one > least[i]), key=widths.__getitem__)
        # Down to the next widest at once: a text may be thousands of characters long.
        next_widest = max((one for one in widths if one < widths[place]), default=0)
        step = min(over, max(1, widths[place] - max(next_widest, least[place])))
        widths[place] -= step
        over -= step
    return widths


def _upright(columns: Sequence[Column], width: int) -> Iterator[Text]:
    """A line of headings and a line a row, or more where a text is broken."""
    widths = _widths(columns, width)
    yield from _row([column.name for column in columns], columns, widths, "bold")
    for number in range(len(columns[0].cells) if columns else 0):
        yield from _row([column.cells[number] for column in columns], columns, widths, None)


def _row(cells: Sequence[str], columns: Sequence[Column], widths: Sequence[int], style: str | None) -> Iterator[Text]:
    parts = [wrapped(cell, width) for cell, width in zip(cells, widths, strict=True)]
    for number in range(max(map(len, parts), default=0)):
        line = Text(no_wrap=True)
        for column, part, width in zip(columns, parts, widths, strict=True):
            mark = part[number] if number < len(part) else ""
            room = " " * (width - cell_len(mark))
            line.append(f"{room}{mark}" if column.right else f"{mark}{room}", column.style if style is None else style)
            line.append(" " * GAP)
        line.rstrip()
        yield line


def _on_their_side(columns: Sequence[Column], keys: int, width: int) -> Iterator[Text]:
    """Every row as lines of a name and its value; an empty line between rows."""
    heads = [" ".join(column.name.split()) or "-" for column in columns]
    names = min(max(map(cell_len, heads), default=0), width // 2)
    room, heading = width - names - GAP, Column("", [])
    for number in range(len(columns[0].cells) if columns else 0):
        if number:
            yield Text("")
        for place, (head, column) in enumerate(zip(heads, columns, strict=True)):
            cell = column.cells[number]
            if _longest_word([cell]) > room:
                # A path or a long number has a line of its own rather than a break.
                lines = [*wrapped(head, names), *("  " + line for line in wrapped(cell, width - 2))]
                yield from (Text(line.rstrip(), style="bold", no_wrap=True) for line in lines)
            else:
                sides = replace(heading, style="bold"), replace(heading, style="bold" if place < keys else column.style)
                yield from _row([head, cell], sides, [names, room], None)


def _names(columns: Iterable[Column]) -> str:
    return ", ".join(" ".join(column.name.split()) for column in columns if column.name.strip())


def _widest(*cells: str) -> int:
    return max((cell_len(line) for cell in cells for line in cell.split("\n")), default=0)


def _longest_word(cells: Iterable[str]) -> int:
    return max((cell_len(word) for cell in cells for word in _words(cell)), default=0)
