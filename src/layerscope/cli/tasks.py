"""`layerscope tasks`: the score of every layer on MTEB tasks, from one encoding."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import polars as pl
import typer

from layerscope.cli.options import Quiet, build, output_folder, unset, with_options
from layerscope.cli.show import console, frame_table, progress_bars, say, say_notes
from layerscope.config import ModelSpec
from layerscope.errors import UserError
from layerscope.tasks.spec import TasksSpec
from layerscope.wording import counted

if TYPE_CHECKING:
    from layerscope.tasks.run import TasksRun


@with_options(ModelSpec, TasksSpec)
def tasks(
    given: dict[str, Any],
    name: Annotated[
        str | None,
        typer.Argument(metavar="[MODEL]", help=ModelSpec.model_fields["name"].description, show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder of the run; a measured run may be in it.", show_default="runs/MODEL"),
    ] = None,
    import_folder: Annotated[
        Path | None,
        typer.Option("--import", help="Take in a folder of MTEB results, layer_K/TASK.json, instead of scoring."),
    ] = None,
    blocks: Annotated[int | None, unset("--blocks", "With --import: how many blocks the model has.")] = None,
    quiet: Quiet = False,
) -> None:
    """Score every layer of MODEL on MTEB tasks; each text is encoded once for all layers.

    The same command again goes on after an interruption; more tasks and layers are added to what is there.
    """
    from layerscope.tasks.run import score_spec

    if import_folder is not None:
        _end(_import(given, import_folder, out, blocks), quiet=quiet)
        return
    if not name:
        raise UserError("no model: give MODEL, or --import DIR for results that are there already")
    model, spec = build(ModelSpec, given), build(TasksSpec, given)
    with progress_bars(quiet=quiet) as report:
        run = score_spec(model, spec, output_folder(out, model.name), report)
    _end(run, quiet=quiet)


def _import(given: dict[str, Any], folder: Path, out: Path | None, blocks: int | None) -> TasksRun:
    from layerscope.tasks.importing import import_results

    subsets = tuple(part.strip() for part in (given.get("subsets") or "english").split(",") if part.strip())
    name = given.get("name") or folder.resolve().name
    return import_results(folder, output_folder(out, name), model=name, subsets=subsets, blocks=blocks)


def _end(run: TasksRun, *, quiet: bool) -> None:
    """Print what there is and what is missing; the exit code is 1 where something failed, so that a script notices."""
    from layerscope.tasks.scores import summarize

    if not quiet:
        screen = console()
        for title, table in summarize(run.scores):
            say(screen, title)
            screen.print(frame_table(table))
        scored = run.scores.filter(pl.col("score").is_finite())
        tasks, layers = (counted(scored[name].n_unique(), name) for name in ("task", "layer"))
        say(screen, *(f"note: {one}" for one in run.record.warnings), f"{tasks}, {layers}; in {run.path}")
    say_notes(run.notes)
    failed = dict.fromkeys(f"failed: {failure.task}: {failure.reason}" for failure in run.failures)
    say(console(stderr=True), *failed)
    if failed:
        raise typer.Exit(1)
