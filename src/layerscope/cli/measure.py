"""`layerscope measure`: every metric at every layer of a model, from one pass over the texts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from layerscope.cli.options import MEASURE_SPECS, Quiet, given_spec, output_folder, unset, with_options
from layerscope.cli.show import console, progress_bars, say, say_notes
from layerscope.wording import counted


@with_options(*MEASURE_SPECS)
def measure(
    given: dict[str, Any],
    out: Annotated[Path | None, unset("--out", "Folder of the run. \\[runs/MODEL]")] = None,
    quiet: Quiet = False,
) -> None:
    """Measure every layer of MODEL on texts and write the run to a folder.

    The same command again goes on after an interruption, and only reads where the run is done.
    """
    from layerscope.figures.table import layer_table
    from layerscope.measuring.measure import measure_spec

    spec = given_spec(given)
    with progress_bars(quiet=quiet) as report:
        run = measure_spec(spec, output_folder(out, spec.model.name), report)
    say_notes(run.notes)
    if quiet:
        return
    screen = console()
    screen.print(layer_table(run.layers, screen.width))
    prompts = counted(run.record.resolved.n_prompts, "prompt")
    said = f"{prompts}, {len(run.record.skipped)} skipped; written to {run.path}"
    say(screen, *(f"note: {warning}" for warning in run.record.warnings), said)
