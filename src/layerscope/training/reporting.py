"""A run's values as scalars, and the way to TensorBoard, W&B, MLflow and whatever else a Trainer reports to."""

from __future__ import annotations

import polars as pl
from transformers import Trainer

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


def log_to_reporters(trainer: Trainer, logs: dict[str, float]) -> None:
    """Give values to everything that listens to a Trainer's log, but not to what prints it.

    Not by `trainer.log`: subclasses flush metrics of their own in it, and it would count as the step's log, so that a
    loss that was due at this step would be lost.
    """
    from transformers.trainer_callback import PrinterCallback, ProgressCallback

    for callback in trainer.callback_handler.callbacks:
        if not isinstance(callback, (PrinterCallback, ProgressCallback)):
            callback.on_log(trainer.args, trainer.state, trainer.control, model=trainer.model, logs=dict(logs))
