"""Figures as files: PNG, SVG, and the data behind them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from layerscope.files.writing import make_folder, whole_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def save_figure(figure: Figure, stem: Path, data: pl.DataFrame | None = None) -> tuple[Path, ...]:
    """Write a figure as PNG and SVG, and the table it was drawn from as Parquet beside them.

    The same figure gives the same bytes: no dates, no random ids. Text in the SVG stays text.

    Args:
        figure: what to write.
        stem: the files' path without their ending.
        data: the rows that the figure shows.

    Returns:
        The files written.

    Raises:
        UserError: a file cannot be written.
        RunFailedError: the disk is full.
    """
    import matplotlib as mpl

    png, svg, parquet = (stem.with_name(f"{stem.name}.{ending}") for ending in ("png", "svg", "parquet"))
    make_folder(stem.parent)
    with whole_file(png) as path:
        figure.savefig(path, format="png", dpi=160, metadata={"Software": None})
    with whole_file(svg) as path, mpl.rc_context({"svg.hashsalt": "layerscope", "svg.fonttype": "none"}):
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
    if data is None:
        return png, svg
    with whole_file(parquet) as path:
        data.write_parquet(path)
    return png, svg, parquet
