"""Run: one measurement on disk, its record and its tables."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from layerscope.errors import DamagedError, UserError
from layerscope.figures import plot_layers
from layerscope.results.contents import again
from layerscope.results.measurement import RunRecord
from layerscope.results.record import SCHEMA_VERSION, read_record
from layerscope.results.tables import LAYERS, PROMPTS, TEXTS, read_table
from layerscope.states.state import all_states

if TYPE_CHECKING:
    from jaxtyping import Float32
    from matplotlib.figure import Figure


class Run:
    """A finished run. Tables are read when first asked for.

    `notes` say what was found when it was opened, such as a model that is not there any more.
    """

    def __init__(self, path: Path, record: RunRecord, notes: tuple[str, ...] = ()) -> None:
        self.path = path
        self.record = record
        self.notes = notes

    @cached_property
    def layers(self) -> pl.DataFrame:
        """One row per (layer, metric, variant, alpha, readout, positions, pooling, normalization)."""
        return self._table("layers.parquet", LAYERS)

    @cached_property
    def prompts(self) -> pl.DataFrame:
        """One row per prompt and the same keys, for the metrics that have a value per prompt."""
        return self._table("prompts.parquet", PROMPTS)

    @cached_property
    def texts(self) -> pl.DataFrame | None:
        """One row per prompt: the hash of its text and its first 2,000 characters; None in a run of version 0.1.0."""
        old = self.record.schema_version < SCHEMA_VERSION and not (self.path / "texts.parquet").exists()
        return None if old else self._table("texts.parquet", TEXTS)

    def pooled(
        self, layer: int, *, readout: str | None = None, positions: str | None = None
    ) -> Float32[np.ndarray, "prompts dim"]:
        """Pooled vectors of one layer, memory-mapped; rows in the order of `pooled/prompt_ids.txt`.

        Args:
            layer: 0 (embeddings) to the number of blocks.
            readout: raw, normed or hf; may be left out where the run has one.
            positions: all, no-first or no-sink; may be left out where the run has one.

        Raises:
            UserError: the run did not keep them, has no such layer or state, or has several and none was named.
            RunFailedError: the file is damaged.
        """
        spec = self.record.spec
        folder = self.path / "pooled"
        if not spec.keep_pooled or not folder.is_dir():
            raise UserError(
                f"{self.path} keeps no pooled vectors: measure with keep_pooled (--keep-pooled) to have them"
            )
        states = all_states(spec.readouts, spec.positions)
        wanted = [one for one in states if readout in (None, one.readout) and positions in (None, one.positions)]
        if len(wanted) != 1:
            has = ", ".join(f"readout={one.readout!r}, positions={one.positions!r}" for one in states)
            raise UserError(
                f"{self.path} keeps {'no such' if not wanted else 'several'} pooled vectors: say which of them ({has})"
            )
        name = f"layer_{layer:03d}" + ("" if len(states) == 1 else f"_{wanted[0].slug}")
        path = folder / f"{name}.npy"
        if not path.exists():
            kept = sorted({int(file.name.split("_")[1].removesuffix(".npy")) for file in folder.glob("layer_*.npy")})
            raise UserError(f"{path} does not exist: layers {', '.join(map(str, kept)) or 'none'} are kept")
        self.record.check(self.path, f"pooled/{name}.npy")
        try:
            pooled: Float32[np.ndarray, "prompts dim"] = np.load(path, mmap_mode="r")
        except (OSError, ValueError, EOFError) as error:
            raise DamagedError(f"{path} cannot be read ({error}): {again(self.path, 'measure')}") from error
        return pooled

    def _table(self, name: str, schema: pl.Schema) -> pl.DataFrame:
        return read_table(self.record.check(self.path, name), schema, again(self.path, "measure"))

    def plot(self, metric: str) -> Figure:
        """The curve of one metric over the layers, with its intervals as a band."""
        known = self.layers["metric"].unique().sort().to_list()
        if metric not in known:
            raise UserError(f"metric {metric!r} is not in {self.path}: it has {', '.join(known)}")
        return plot_layers(self.layers, metric)

    def query(self, sql: str) -> pl.DataFrame:
        """Run SQL over this run's tables, `layers`, `prompts` and `texts`."""
        return query_runs(sql, [self])

    def __repr__(self) -> str:
        resolved = self.record.resolved
        return f"Run({str(self.path)!r}, {self.record.spec.model.name}, {resolved.n_prompts} prompts, {self.record.status})"


def load_run(path: str | Path, notes: tuple[str, ...] = ()) -> Run:
    """Open the folder of a finished run.

    Args:
        path: the folder.
        notes: what the run that is returned says about itself.

    Raises:
        UserError: the folder is not a run, or the run is not done.
        RunFailedError: run.json is damaged.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: give the folder of a run")
    record = read_record(RunRecord, folder)
    if record.status != "done":
        why = f" ({record.reason})" if record.reason else ""
        raise UserError(f"{folder} is {record.status}{why}: run the same `layerscope measure` command to finish it")
    return Run(folder, record, notes)


def query_runs(sql: str, runs: Sequence[Run]) -> pl.DataFrame:
    """Run SQL over the tables of one or many runs.

    Tables: `layers`, `prompts` and `texts` with a column `run` in front, and `runs` with one row a run.

    Args:
        sql: a query in the SQL dialect of Polars.
        runs: at least one run.

    Returns:
        The result, read into memory.

    Raises:
        UserError: the query is not valid; the message is that of the SQL parser.
    """
    facts = pl.DataFrame(
        [
            {
                "run": str(run.path),
                "model": run.record.spec.model.name,
                "texts": run.record.spec.texts.source,
                "n_prompts": run.record.resolved.n_prompts,
                "dtype": run.record.resolved.dtype,
                "started": run.record.started,
                "seconds": sum(run.record.timings.values()),
            }
            for run in runs
        ]
    )
    tables = {
        "layers": _stack(runs, [run.layers for run in runs]),
        "prompts": _stack(runs, [run.prompts for run in runs]),
        "texts": _stack(runs, [pl.DataFrame(schema=TEXTS) if run.texts is None else run.texts for run in runs]),
        "runs": facts.lazy(),
    }
    try:
        with pl.SQLContext(tables) as context:
            return context.execute(sql, eager=True)
    except pl.exceptions.PolarsError as error:
        raise UserError(
            f"the query failed: {str(error).splitlines()[0]}; tables are layers, prompts, texts and runs"
        ) from error


def _stack(runs: Sequence[Run], frames: Sequence[pl.DataFrame]) -> pl.LazyFrame:
    # Read through the Run, not scanned: a damaged file is then named instead of failing inside the query.
    labelled = [
        frame.lazy().select(pl.lit(str(run.path)).alias("run"), pl.all())
        for run, frame in zip(runs, frames, strict=True)
    ]
    stacked: pl.LazyFrame = pl.concat(labelled)
    return stacked
