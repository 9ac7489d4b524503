"""How things look in a terminal: progress with the time left, tables, errors."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

import polars as pl
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from layerscope.measuring.progress import Report

WIDTH = 100


def console(*, stderr: bool = False) -> Console:
    """A console that is 100 columns wide where nothing is known about the screen (pipes, logs)."""
    screen = Console(stderr=stderr)
    return screen if screen.is_terminal else Console(stderr=stderr, width=WIDTH)


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


def frame_table(frame: pl.DataFrame, most_rows: int = 200, folded: Collection[str] | None = None) -> Table:
    """Any DataFrame as a terminal table; numbers to the right, at most `most_rows` rows and a line that says so.

    `folded` names the columns that may be broken into lines; all but the first by default.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, kind in frame.schema.items():
        # The first column says what the row is about: it is never broken.
        table.add_column(
            name,
            justify="right" if kind.is_numeric() else "left",
            overflow="fold",
            no_wrap=not table.columns if folded is None else name not in folded,
        )
    for row in frame.head(most_rows).iter_rows():
        table.add_row(*(_cell(value) for value in row))
    if len(frame) > most_rows:
        table.caption = f"{len(frame) - most_rows} more rows: use --format csv or narrow the query"
    return table


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
