"""Verbs that read finished runs: table, query, report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import polars as pl
import typer

from layerscope.cli.show import console, frame_table, print_data, say, say_notes
from layerscope.errors import UserError

if TYPE_CHECKING:
    from layerscope.results.run import Run

Force = Annotated[bool, typer.Option("--force", help="Replace a file that this command did not write.")]
RunFolders = Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of finished runs.")]


def table(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")],
    metrics: Annotated[str | None, typer.Option("--metrics", help="Only these metrics, separated by commas.")] = None,
) -> None:
    """Print a run: every layer, each metric with its interval."""
    from layerscope.figures.table import layer_table
    from layerscope.results.run import load_run

    layers = load_run(run).layers
    if metrics:
        wanted = [name.strip() for name in metrics.split(",")]
        known = layers["metric"].unique().sort().to_list()
        missing = [name for name in wanted if name not in known]
        if missing:
            raise UserError(f"metric {missing[0]!r} is not in {run}: it has {', '.join(known)}")
        layers = layers.filter(pl.col("metric").is_in(wanted))
    screen = console()
    screen.print(layer_table(layers, screen.width))


def query(
    sql: Annotated[str, typer.Argument(help="SQL over the tables layers, prompts, texts and runs.")],
    runs: RunFolders,
    format: Annotated[Literal["table", "csv", "json"], typer.Option("--format", help="How to print.")] = "table",  # noqa: A002
) -> None:
    """Run SQL over one or many runs. Each table has a column `run` in front."""
    from layerscope.results.run import query_runs

    found = query_runs(sql, _open(runs))
    if format == "table":
        console().print(frame_table(found, keys=0))
    else:
        print_data(found, format)


def report(
    runs: RunFolders,
    out: Annotated[Path, typer.Option("--out", help="The HTML file to write.")] = Path("report.html"),
    force: Force = False,
) -> None:
    """Write one self-contained HTML page about one or many runs."""
    from layerscope.report.page import write_report

    written = write_report(_open(runs), out, force=force)
    say(console(), f"report written to {written}")


def _open(folders: list[Path]) -> list[Run]:
    """The finished runs among the folders; what the others lack is said, unless none is left.

    Raises:
        UserError: no folder is a finished run.
        RunFailedError: a file is damaged: what is shown would be less than was asked for.
    """
    from layerscope.results.measurement import same_weights_notes
    from layerscope.results.run import load_run

    opened, lacking = [], []
    for folder in folders:
        try:
            opened.append(load_run(folder))
        except UserError as error:
            lacking.append(error)
    if not opened:
        raise lacking[0]
    say_notes([*(f"left out: {error}" for error in lacking), *same_weights_notes(run.record for run in opened)])
    return opened
