"""Run: one measurement on disk, its record and its tables."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from layerscope.errors import UserError
from layerscope.figures import plot_layers
from layerscope.files.reading import first_line, read_array
from layerscope.results.contents import again
from layerscope.results.measurement import RunRecord
from layerscope.results.record import SCHEMA_VERSION, read_record
from layerscope.results.tables import LAYERS, PROMPTS, TEXTS, read_table
from layerscope.states.state import all_states

# Polars opens the files of its table functions while it plans, so they have to be seen before: by name, wherever it stands.
_OPENS = re.compile(r"(?<![^\W\d])(?:read|scan|write|sink)_[a-z]\w*")
# And what later versions may have for it: a plan over tables in memory scans nothing.
_SCAN = re.compile(r"^\s*\w+ SCAN \[", re.MULTILINE)

if TYPE_CHECKING:
    from jaxtyping import Float32
    from matplotlib.figure import Figure


@dataclass(eq=False, repr=False)
class Run:
    """A finished run. Tables are read when first asked for.

    `notes` say what was found when it was opened, such as a model that is not there any more.
    """

    path: Path
    record: RunRecord
    notes: tuple[str, ...] = ()

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
            readout, positions: see `RunSpec`; each may be left out where the run has one.

        Raises:
            UserError: the run did not keep them, has no such layer or state, or has several and none was named.
            RunFailedError: the file is damaged.
        """
        spec, folder = self.record.spec, self.path / "pooled"
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
        name = f"layer_{layer:03d}" + ("" if len(states) == 1 else f"_{wanted[0].slug}") + ".npy"
        if not (folder / name).exists():
            kept = sorted({int(file.stem.split("_")[1]) for file in folder.glob("layer_*.npy")})
            raise UserError(f"{folder / name} does not exist: layers {', '.join(map(str, kept)) or 'none'} are kept")
        return read_array(self.record.check(self.path, f"pooled/{name}"), again(self.path, "measure"))

    def plot(self, metric: str) -> Figure:
        """The curve of one metric over the layers, with its intervals as a band."""
        known = self.layers["metric"].unique().sort().to_list()
        if metric not in known:
            raise UserError(f"metric {metric!r} is not in {self.path}: it has {', '.join(known)}")
        return plot_layers(self.layers, metric)

    def query(self, sql: str) -> pl.DataFrame:
        """Run SQL over this run's tables, `layers`, `prompts` and `texts`."""
        return query_runs(sql, [self])

    def _table(self, name: str, schema: pl.Schema) -> pl.DataFrame:
        return read_table(self.record.check(self.path, name), schema, again(self.path, "measure"))

    def __repr__(self) -> str:
        resolved = self.record.resolved
        return f"Run({str(self.path)!r}, {self.record.spec.model.name}, {resolved.n_prompts} prompts, {self.record.status})"


def load_run(path: str | Path, notes: tuple[str, ...] = ()) -> Run:
    """Open the folder of a finished run, which then says `notes` about itself.

    Raises:
        UserError: the folder is not a run, or the run is not done.
        RunFailedError: run.json is damaged.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: give the folder of a run")
    return Run(folder, read_record(RunRecord, folder, done=True), notes)


def query_runs(sql: str, runs: Sequence[Run]) -> pl.DataFrame:
    """Run SQL over the tables of one or many runs.

    Tables: `layers`, `prompts` and `texts` with a column `run` in front, and `runs` with one row a run.

    Args:
        sql: a query in the SQL dialect of Polars; its result is read into memory.
        runs: at least one run.

    Raises:
        UserError: the query is not valid; the message is that of the SQL parser.
    """
    # Read through the Run, not scanned: a damaged file is then named instead of failing inside the query.
    frames = {
        "layers": [run.layers for run in runs],
        "prompts": [run.prompts for run in runs],
        "texts": [pl.DataFrame(schema=TEXTS) if run.texts is None else run.texts for run in runs],
        "runs": [
            pl.DataFrame(
                {
                    "model": run.record.spec.model.name,
                    "texts": run.record.spec.texts.source,
                    "n_prompts": run.record.resolved.n_prompts,
                    "dtype": run.record.resolved.dtype,
                    "started": run.record.started,
                    "seconds": float(sum(run.record.timings.values())),
                }
            )
            for run in runs
        ],
    }
    places = [pl.lit(str(run.path)).alias("run") for run in runs]
    tables = {
        name: pl.concat(frame.lazy().select(place, pl.all()) for place, frame in zip(places, of_runs, strict=True))
        for name, of_runs in frames.items()
    }
    opens = _OPENS.search(sql.casefold())
    try:
        with pl.SQLContext(tables) as context:
            if opens is None:
                plan = context.execute(sql, eager=False)
                opens = _SCAN.search(plan.explain(optimized=False))
            if opens is not None:
                raise UserError(
                    f"a query reads its runs' tables only, layers, prompts, texts and runs, and {opens[0].strip()!r} is "
                    "what opens other files: leave it out (in a pattern, `%` can stand for its underscore)"
                )
            return plan.collect()
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        raise UserError(f"the query failed: {first_line(error)}; tables are layers, prompts, texts and runs") from error
