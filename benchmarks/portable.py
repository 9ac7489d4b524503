"""How far a run's numbers move when the processor's libraries compute with other instructions: `python -m benchmarks.portable`.

SmolLM2-135M, float32, on Wikipedia leads, each setting in a process of its own against this processor as it is. Prints
for each metric the largest difference of a layer's value, over the largest value of that metric. MKL_ENABLE_INSTRUCTIONS
does nothing on a processor that is not Intel's; "other maker" has MKL take what it keeps for those (.ci/not_intel.c, needs a
C compiler).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import polars as pl

from benchmarks.run import spec_of
from layerscope.measuring.measure import measure_spec
from layerscope.results.tables import KEY

SETTINGS = {
    "AVX2": {"MKL_ENABLE_INSTRUCTIONS": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"},
    "SSE4.2": {"MKL_ENABLE_INSTRUCTIONS": "SSE4_2", "ONEDNN_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "default"},
    "any x86": {"MKL_CBWR": "COMPATIBLE", "ONEDNN_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "default"},
}
SHIM = Path(__file__).parent.parent / ".ci" / "not_intel.c"
METRICS = ("entropy", "logdet", "rank", "curvature", "sink", "alpha_req", "anisotropy")


def measured(n: int, layers: str, folder: Path, setting: dict[str, str]) -> pl.DataFrame:
    """layers.parquet of a run in a process with these variables."""
    command = [sys.executable, "-m", "benchmarks.portable", "--n", str(n), "--layers", layers, "--out", str(folder)]
    subprocess.run(command, env={**os.environ, **setting}, check=True)
    return pl.read_parquet(folder / "layers.parquet")


def difference(found: pl.DataFrame, plain: pl.DataFrame) -> pl.DataFrame:
    """The largest difference of each metric, over the largest value of that metric."""
    both = plain.select(*KEY, "value").join(
        found.select(*KEY, pl.col("value").alias("other")), on=KEY, nulls_equal=True
    )
    moved = (pl.col("value") - pl.col("other")).abs().max() / pl.col("value").abs().max()
    return both.filter(pl.col("value").is_finite()).group_by("metric", maintain_order=True).agg(moved.alias("moved"))


def main() -> None:
    """Measure under each setting and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=16)
    parser.add_argument("--layers", default="0,9,15,24,30")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.out:
        layers = tuple(int(layer) for layer in given.layers.split(","))
        measure_spec(spec_of(given.n, metrics=METRICS, normalizations="none", layers=layers), given.out)
        return
    with tempfile.TemporaryDirectory() as folder:
        shim = Path(folder) / "not_intel.so"
        subprocess.run(["cc", "-shared", "-fPIC", "-o", str(shim), str(SHIM)], check=True)
        settings = SETTINGS | {"other maker": SETTINGS["AVX2"] | {"LD_PRELOAD": str(shim)}}
        plain = measured(given.n, given.layers, Path(folder) / "plain", {})
        table: pl.DataFrame | None = None
        for name, setting in settings.items():
            found = difference(measured(given.n, given.layers, Path(folder) / name, setting), plain)
            found = found.rename({"moved": name})
            table = found if table is None else table.join(found, on="metric", maintain_order="left")
    for row in [] if table is None else table.iter_rows(named=True):
        print(f"{row['metric']:26}" + "".join(f"{name}: {row[name]:.0e}   " for name in settings))


if __name__ == "__main__":
    main()
