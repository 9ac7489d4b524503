"""How things look in a terminal: progress with the time left, tables, errors."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import polars as pl
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from layerscope.figures.terminal import Column, TerminalTable, wrapped
from layerscope.measuring.progress import Report
from layerscope.wording import counted

UNBROKEN = 1_000_000
"""The width of a pipe or a file: nothing there is broken into lines, so that a row stays a line for grep and awk."""


def console(*, stderr: bool = False) -> Console:
    """The screen, as wide as it is; without one (a pipe, a file) as wide as COLUMNS says, or without an end."""
    screen = Console(stderr=stderr)
    if screen.is_terminal or _columns() is not None:
        return screen
    return Console(stderr=stderr, width=UNBROKEN)


def say(screen: Console, text: str, style: str = "") -> None:
    """Print a text as it is, broken into lines at spaces outside brackets: an interval stays in one piece."""
    for line in wrapped(text, screen.width):
        screen.print(Text(line, style=style, no_wrap=True), highlight=False)


def _columns() -> int | None:
    given = os.environ.get("COLUMNS", "")
    return int(given) if given.isdigit() and int(given) else None


@contextmanager
def progress_bars() -> Iterator[Report]:
    """Show each stage of a long job as a bar with the time left, on stderr; plain lines where there is no screen."""
    screen = console(stderr=True)
    if not screen.is_terminal:
        seen: dict[str, int] = {}

        def lines(stage: str, done: float, total: float) -> None:
            tenth = int(10 * done / total) if total else 10
            if seen.get(stage) != tenth:
                seen[stage] = tenth
                screen.print(f"{stage}: {10 * tenth} %", highlight=False)

        yield lines
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    with Progress(*columns, TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), console=screen) as bars:
        tasks: dict[str, object] = {}

        def draw(stage: str, done: float, total: float) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
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
    shown = frame.head(most_rows)
    columns = []
    for number, (name, kind) in enumerate(shown.schema.items()):
        cells = [_cell(value) for value in shown[name].to_list()]
        # The first column says what the row is about: it is not broken unless asked for.
        words = not kind.is_numeric() and number >= keys and any(re.search(r"[^\W\d_]{2}", cell) for cell in cells)
        text = words if folded is None else name in folded
        columns.append(Column(name, cells, right=kind.is_numeric(), text=text, spare=name in spare))
    more = len(frame) - most_rows
    caption = f"{counted(more, 'more row')}: use --format csv or narrow the query" if more > 0 else ""
    return TerminalTable(columns, keys=keys, caption=caption)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        # Whole numbers of five digits and more would be written with an exponent.
        return f"{value:.0f}" if 1e4 <= abs(value) < 1e7 else f"{value:.4g}"
    return " ".join(str(value).split())
