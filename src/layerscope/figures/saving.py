"""Figures as files: PNG, SVG, and the data behind them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from layerscope.errors import UserError

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
    """
    import matplotlib as mpl

    files = {ending: stem.with_name(f"{stem.name}.{ending}") for ending in ("png", "svg", "parquet")}
    if data is None:
        del files["parquet"]
    for ending, path in files.items():
        temporary = path.with_name(f".{path.name}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if ending == "parquet" and data is not None:
                data.write_parquet(temporary)
            elif ending == "svg":
                with mpl.rc_context({"svg.hashsalt": "layerscope", "svg.fonttype": "none"}):
                    figure.savefig(temporary, format="svg", metadata={"Date": None, "Creator": None})
            else:
                figure.savefig(temporary, format="png", dpi=160, metadata={"Software": None})
            temporary.replace(path)
        except OSError as error:
            raise UserError(f"cannot write {path} ({error.strerror or error}): choose another folder") from error
        finally:
            if temporary.exists():
                temporary.unlink()
    return tuple(files.values())
