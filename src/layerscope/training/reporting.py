"""A run's values as scalars, and the way to TensorBoard, W&B, MLflow and whatever else a Trainer reports to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl
from transformers import TrainerControl, TrainerState, TrainingArguments

# What tells two curves of one metric apart; the first value of each, the default, stays out of the name.
_KEYS = ("variant", "alpha", "readout", "positions", "pooling", "normalization")


def scalars(layers: pl.DataFrame) -> dict[str, float]:
    """The values of layers.parquet by name: layerscope/METRIC/layer_03, and layerscope/METRIC/max/layer_03 where a
    metric has more than one curve. Values that are not a number are left out.
    """
    found: dict[str, float] = {}
    for metric in layers["metric"].unique(maintain_order=True):
        rows = layers.filter(pl.col("metric") == metric)
        firsts = {key: rows[key][0] for key in _KEYS}
        for row in rows.filter(pl.col("value").is_finite()).iter_rows(named=True):
            others = [str(row[key]) for key in _KEYS if row[key] != firsts[key]]
            found["/".join(["layerscope", metric, *others, f"layer_{row['layer']:02d}"])] = row["value"]
    return found


class Reporters:
    """The integrations named by TrainingArguments.report_to, once more.

    A Trainer gives its callbacks no way to its own log, and its integrations have been called by the time a callback
    sees what is logged. So each is made again: W&B and MLflow join the run that is active, TensorBoard writes a second
    file into the same folder. They are only ever told to log.
    """

    def __init__(self, report_to: str | Sequence[str] | None) -> None:
        self._report_to = report_to
        self._made: list[Any] | None = None

    def log(
        self,
        logs: dict[str, float],
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: object,
    ) -> None:
        """Log to all of them, at the step the state is at."""
        if self._made is None:
            from transformers.integrations import get_reporting_integration_callbacks

            self._made = [integration() for integration in get_reporting_integration_callbacks(self._report_to)]
        for reporter in self._made:
            reporter.on_log(args, state, control, model=model, logs=dict(logs))

    def close(self) -> None:
        """Close the files that were opened here; runs that were only joined stay open."""
        for reporter in self._made or ():
            writer = getattr(reporter, "tb_writer", None)
            if writer is not None:
                writer.close()
