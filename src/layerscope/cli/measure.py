"""`layerscope measure`: every metric at every layer of a model, from one pass over the texts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from layerscope.cli.options import MEASURE_SPECS, run_spec, with_options
from layerscope.cli.show import console, progress_bars, say, say_notes
from layerscope.wording import counted


@with_options(*MEASURE_SPECS)
def measure(
    given: dict[str, Any],
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the run. \\[runs/MODEL]", show_default=False)
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress, no table.")] = False,
) -> None:
    """Measure every layer of MODEL on texts and write the run to a folder.

    The same command again goes on after an interruption, and only reads where the run is done.
    """
    # Heavy imports wait, so that --help answers at once.
    from layerscope.figures.table import layer_table
    from layerscope.measuring.measure import measure_spec
    from layerscope.measuring.progress import silent

    spec = run_spec(given)
    folder = out or Path("runs") / spec.model.name.rstrip("/").replace("/", "--")
    if quiet:
        say_notes(measure_spec(spec, folder, silent).notes)
        return
    with progress_bars() as report:
        run = measure_spec(spec, folder, report)
    screen = console()
    screen.print(layer_table(run.layers, screen.width))
    for warning in run.record.warnings:
        say(screen, f"note: {warning}")
    say_notes(run.notes)
    prompts = counted(run.record.resolved.n_prompts, "prompt")
    say(screen, f"{prompts}, {len(run.record.skipped)} skipped; written to {folder}")


EXAMPLE = "Example: layerscope measure smollm2-135m --texts wiki --n 128 --metrics prompt_entropy,curvature --out runs/smollm2"
VERBS = ((measure, EXAMPLE),)
