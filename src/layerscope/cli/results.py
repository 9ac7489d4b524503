"""Verbs that read finished runs: table, query, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import polars as pl
import typer

from layerscope.cli.show import console, frame_table, say
from layerscope.errors import UserError

RunFolders = Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of finished runs.")]


def table(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")],
    metrics: Annotated[str | None, typer.Option("--metrics", help="Only these metrics, separated by commas.")] = None,
) -> None:
    """Print a run: every layer, each metric with its interval."""
    from layerscope.results.run import load_run
    from layerscope.table import layer_table

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
    sql: Annotated[str, typer.Argument(help="SQL over the tables layers, prompts and runs.")],
    runs: RunFolders,
    format: Annotated[Literal["table", "csv", "json"], typer.Option("--format", help="How to print.")] = "table",  # noqa: A002
) -> None:
    """Run SQL over one or many runs. Each table has a column `run` in front."""
    from layerscope.results.run import load_run, query_runs

    found = query_runs(sql, [load_run(run) for run in runs])
    if format == "csv":
        typer.echo(found.write_csv(), nl=False)
    elif format == "json":
        typer.echo(found.write_json())
    else:
        console().print(frame_table(found, keys=0))


def report(
    runs: RunFolders,
    out: Annotated[Path, typer.Option("--out", help="The HTML file to write.")] = Path("report.html"),
) -> None:
    """Write one self-contained HTML page about one or many runs."""
    from layerscope.errors import LayerscopeError
    from layerscope.inputs.texts import load_texts
    from layerscope.report.page import write_report
    from layerscope.results.run import load_run

    screen = console()
    opened = [load_run(run) for run in runs]
    texts: list[dict[str, str]] = []
    for run in opened:
        # A run holds no texts; where their source has gone since, the page names its example prompts by id.
        try:
            texts.append({text.id: text.text for text in load_texts(run.record.spec.texts).texts})
        except LayerscopeError as error:
            texts.append({})
            say(screen, f"note: {run.path} is shown without its texts: {error}")
    written = write_report(opened, out, texts=texts)
    say(screen, f"report written to {written}")


VERBS = (
    (table, "Example: layerscope table runs/demo --metrics prompt_entropy,curvature"),
    (query, "Example: layerscope query \"select layer, value from layers where metric = 'curvature'\" runs/demo"),
    (report, "Example: layerscope report runs/demo --out report.html"),
)
