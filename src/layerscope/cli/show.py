"""How things look in a terminal: progress with the time left, sentences, tables; and what programs read."""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Literal

import polars as pl
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from layerscope.errors import UserError
from layerscope.figures.numbers import NumberFormat
from layerscope.figures.terminal import Column, TerminalTable, wrapped
from layerscope.measuring.progress import Report, silent
from layerscope.wording import counted, in_csv, on_screen

UNBROKEN = 1_000_000
"""The width of a pipe or a file: nothing there is broken into lines, so that a row stays a line for grep and awk."""


def console(*, stderr: bool = False) -> Console:
    """The screen, as wide as it is; without one (a pipe, a file) as wide as COLUMNS says, or without an end."""
    given = os.environ.get("COLUMNS", "")
    wide = given.isdigit() and int(given) > 0
    # Data is never markup: nothing in brackets, between colons or in quotes is more than text.
    screen = Console(stderr=stderr, markup=False, emoji=False, highlight=False)
    if not screen.is_terminal and not wide:
        screen.width = UNBROKEN
    return screen


def say(screen: Console, *texts: str, style: str = "") -> None:
    """Print texts as they are, broken into lines at spaces outside brackets: an interval stays in one piece."""
    for line in (line for text in texts for line in wrapped(on_screen(text), screen.width)):
        screen.print(Text(line, style=style, no_wrap=True))


def say_notes(notes: Iterable[str]) -> None:
    """Print what a reader has to know beside what was asked for on stderr: it is seen with --quiet and in a pipe."""
    say(console(stderr=True), *(f"note: {note}" for note in notes))


@contextmanager
def progress_bars(*, quiet: bool = False) -> Iterator[Report]:
    """Show each stage of a long job as a bar with the time left, on stderr; plain lines where there is no screen."""
    screen = console(stderr=True)
    if quiet:
        yield silent
        return
    if not screen.is_terminal:
        seen: dict[str, int] = {}

        def lines(stage: str, done: float, total: float) -> None:
            tenth = int(10 * done / total) if total else 10
            if seen.get(stage) != tenth:
                seen[stage] = tenth
                say(screen, f"{stage}: {10 * tenth} %")

        yield lines
        return
    name, share = (TextColumn(part, markup=False) for part in ("{task.description}", "{task.percentage:>3.0f} %"))
    columns = (
        SpinnerColumn(),
        name,
        BarColumn(),
        share,
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=screen) as bars:
        tasks: dict[str, object] = {}

        def draw(stage: str, done: float, total: float) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(on_screen(stage), total=total)
            bars.update(tasks[stage], completed=done, total=total)  # type: ignore[arg-type]

        yield draw


def frame_table(
    frame: pl.DataFrame,
    most_rows: int = 200,
    folded: Collection[str] | None = None,
    *,
    keys: int = 1,
    spare: Collection[str] = (),
) -> TerminalTable:
    """Any DataFrame as a terminal table; numbers to the right, at most `most_rows` rows and a line that says so.

    Args:
        frame: what to show.
        most_rows: rows shown.
        folded: the columns that may be broken into lines; by default those of words, but the first.
        keys: how many of the first columns say what a row is about; 0 where that is not known.
        spare: columns that a narrow terminal leaves out first.

    Returns:
        What `console().print` shows.
    """
    columns = []
    for number, series in enumerate(frame.head(most_rows)):
        name, cells, right = series.name, _cells(series), series.dtype.is_numeric()
        # The first column says what the row is about: it is not broken unless asked for.
        words = not right and number >= keys and any(re.search(r"[^\W\d_]{2}", cell) for cell in cells)
        text = words if folded is None else name in folded
        columns.append(Column(on_screen(name), cells, right=right, text=text, spare=name in spare))
    more = len(frame) - most_rows
    caption = f"{counted(more, 'more row')}: use --format csv or narrow the query" if more > 0 else ""
    return TerminalTable(columns, keys=keys, caption=caption)


def print_data(frame: pl.DataFrame, form: Literal["csv", "json"]) -> None:
    """Print a DataFrame for programs: CSV that no spreadsheet computes, or JSON, with null where there is no number.

    Raises:
        UserError: it has a column that CSV cannot hold.
    """
    nested = [name for name, kind in frame.schema.items() if kind.is_nested()]
    if form == "json":
        text = json.dumps(json.loads(frame.fill_nan(None).write_json())) + "\n"
    elif nested:
        raise UserError(f"CSV has no lists, and column {nested[0]!r} is one: use --format json")
    else:
        safe = frame.with_columns(pl.col(pl.String).map_elements(in_csv, return_dtype=pl.String))
        text = safe.rename(in_csv).write_csv()
    if sys.stdout.isatty():
        text = "\n".join(map(on_screen, text.split("\n")))
    sys.stdout.write(text)


def _cells(series: pl.Series) -> list[str]:
    """One column, one number of decimals: a reader compares digits that stand below each other."""
    if not series.dtype.is_float():
        return ["-" if value is None else on_screen(" ".join(str(value).split())) for value in series.to_list()]
    style = NumberFormat.of_values(series.drop_nulls().to_numpy())
    return [
        "-" if value is None else style.value(value) if math.isfinite(value) else f"{value:g}"
        for value in series.to_list()
    ]
