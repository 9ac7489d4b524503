"""Which tables may be compared: metrics of N vectors depend on N, so N must be equal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import polars as pl

from layerscope.errors import UserError

Size = Literal["n_prompts", "n_tokens", "dim"]
NAMES: dict[Size, str] = {"n_prompts": "N (prompts)", "n_tokens": "T (mean tokens a prompt)", "dim": "D (dimensions)"}


def same_size(tables: Mapping[str, pl.DataFrame], *, sizes: tuple[Size, ...] = ("n_prompts",)) -> None:
    """Refuse to compare metrics whose value depends on a size that differs between the runs.

    N is compared for pooled metrics only (those with a pooling): a metric of one prompt at a time is averaged over
    prompts, which more prompts make surer but not larger. T and D are compared for every metric where asked for.

    Args:
        tables: layers tables by the name of their run.
        sizes: which sizes must agree; by default N.

    Raises:
        UserError: some metric has different sizes in the runs; the message names the runs and their values.
    """
    for size in sizes:
        found: dict[str, dict[str, list[float]]] = {}
        for run, table in tables.items():
            rows = table.filter(pl.col("pooling").is_not_null()) if size == "n_prompts" else table
            for part in rows.drop_nulls(size).partition_by("metric", maintain_order=True):
                values = sorted({float(value) for value in part[size].to_list()})
                found.setdefault(part["metric"][0], {})[run] = values
        for metric, by_run in found.items():
            if len({value for values in by_run.values() for value in values}) > 1:
                named = ", ".join(f"{run}: {' and '.join(f'{v:g}' for v in vs)}" for run, vs in by_run.items())
                raise UserError(
                    f"expected equal {NAMES[size]} to compare {metric}, got {named}; "
                    "its value depends on it: measure again with equal sizes (--n), or compare other metrics"
                )
