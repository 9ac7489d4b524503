"""`layerscope export`: a layer as a sentence-transformers model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from layerscope.cli.options import Quiet, build, unset, with_options
from layerscope.cli.show import console, progress_bars, say
from layerscope.config import ModelSpec
from layerscope.export.spec import ExportSpec
from layerscope.wording import counted

if TYPE_CHECKING:
    from layerscope.export.card import Export


@with_options(ModelSpec, ExportSpec)
def export(
    given: dict[str, Any],
    out: Annotated[Path, typer.Option("--out", help="Folder to write; it must be new or empty.")],
    run: Annotated[
        Path | None,
        unset("--run", "Run of `layerscope tasks` or `measure`: its pick is the default and the card's evidence."),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Write MODEL up to a layer as a model that SentenceTransformer(DIR) loads.

    The folder is loaded again and compared with the layer's own vectors before it gets its name; its card says how much
    smaller and faster it is, and why this layer.
    """
    from layerscope.export.export import export_spec

    model, spec = build(ModelSpec, given), build(ExportSpec, given)
    with progress_bars(quiet=quiet) as report:
        made = export_spec(model, spec, out, run=run, report=report)
    if not quiet:
        say(console(), *_summary(made))


def _summary(made: Export) -> list[str]:
    state = f"readout {made.spec.readout}, positions {made.spec.positions}, pooling {made.spec.pooling}"
    speed = made.speed
    moved = [f"its precision moves vectors by up to {made.rounding:.1e}"] if made.rounding is not None else []
    return [
        f"layer {made.layer} of {made.n_layers}, {state}: {counted(made.blocks, 'block')} kept",
        f"equal to the layer's own vectors to {made.error:.1e} (relative, {counted(made.n_texts, 'text')})",
        *moved,
        f"{made.size / 1e6:.1f} MB instead of {made.whole_size / 1e6:.1f} MB, {speed.ratio:.1f} times as fast "
        f"({speed.slowest:.1f} to {speed.fastest:.1f})",
        *(f"note: {warning}" for warning in made.warnings),
        f"written to {made.path}; load it with SentenceTransformer({str(made.path)!r})",
    ]
