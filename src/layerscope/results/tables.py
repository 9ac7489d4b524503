"""The tables of a run: their columns, declared once, and their reading and writing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from layerscope.errors import DamagedError, UserError
from layerscope.files.reading import read_parquet
from layerscope.files.writing import whole_file

KEY = ("layer", "metric", "variant", "alpha", "readout", "positions", "pooling", "normalization")
"""What identifies a number within a run, in the order rows are sorted by."""

LAYERS = pl.Schema(
    {
        "model": pl.String(),
        "revision": pl.String(),
        "texts": pl.String(),
        "layer": pl.Int32(),
        "depth": pl.Float64(),
        "metric": pl.String(),
        "variant": pl.String(),
        "alpha": pl.Float64(),
        "readout": pl.String(),
        "positions": pl.String(),
        "pooling": pl.String(),
        "normalization": pl.String(),
        "value": pl.Float64(),
        "ci_low": pl.Float64(),
        "ci_high": pl.Float64(),
        "unit": pl.String(),
        "n_prompts": pl.Int32(),
        "n_tokens": pl.Float64(),
        "dim": pl.Int32(),
        "note": pl.String(),
    }
)
PROMPTS = pl.Schema(
    {
        "prompt_id": pl.String(),
        "layer": pl.Int32(),
        "metric": pl.String(),
        "variant": pl.String(),
        "alpha": pl.Float64(),
        "readout": pl.String(),
        "positions": pl.String(),
        "normalization": pl.String(),
        "n_tokens": pl.Int32(),
        "value": pl.Float64(),
        "note": pl.String(),
    }
)
TEXTS = pl.Schema(
    {
        "prompt_id": pl.String(),
        "sha256": pl.String(),
        "n_characters": pl.Int64(),
        "text": pl.String(),
        "note": pl.String(),
    }
)

_ROWS = 1 << 16  # in a row group: what is in memory three times while it is written

KEPT_CHARACTERS = 2000
"""How much of a prompt's text a run keeps: enough to see what it was, and bounded whatever the texts."""


def texts_table(prompts: Iterable[tuple[str, str, str]]) -> pl.DataFrame:
    """The texts of prompts (id, text, and a note of what was done to it): the hash of all of each, and its beginning."""
    rows = [
        (name, hashlib.sha256(text.encode()).hexdigest(), len(text), text[:KEPT_CHARACTERS], note)
        for name, text, note in prompts
    ]
    return pl.DataFrame(rows, schema=TEXTS, orient="row")


def write_table(parts: Iterable[pl.DataFrame], schema: pl.Schema, path: Path) -> None:
    """Write a Parquet file part by part (a part one row group or more), whole or not at all."""
    # pyarrow, not Polars: it writes in parts, and a full disk is an OSError with its number.
    layout = schema.to_frame().to_arrow().schema
    with whole_file(path) as temporary, pq.ParquetWriter(temporary, layout, compression="zstd") as writer:
        for part in parts:
            for piece in part.match_to_schema(schema).iter_slices(_ROWS):
                writer.write_table(piece.to_arrow().cast(layout))


def read_table(path: Path, schema: pl.Schema, advice: str) -> pl.DataFrame:
    """Read a table of a run and check its columns; `advice` says what to do where it is damaged.

    Raises:
        UserError: the file is not there or may not be read.
        DamagedError: it is cut off, damaged, or of another schema; the message names it.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist: is {path.parent} a finished run?")
    table = pl.DataFrame(read_parquet(path, advice=advice))
    if table.schema != schema:
        missing = ", ".join(name for name in schema if name not in table.columns)
        reason = f"columns missing: {missing}" if missing else f"found columns {', '.join(table.columns)}"
        raise DamagedError(f"{path} has another layout than this version writes ({reason}): {advice}")
    return table
