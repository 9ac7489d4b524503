"""Run folders made of tables: metrics, scores or both, without a model."""

from pathlib import Path

import polars as pl
from tests.picking.tables import metric_table, score_table
from tests.results.records import save

from layerscope.config import ModelSpec, RunSpec, TextSpec
from layerscope.results.measurement import Resolved, RunRecord
from layerscope.results.record import ResolvedModel
from layerscope.results.tables import LAYERS, write_table
from layerscope.tasks.record import TasksRecord
from layerscope.tasks.scores import SCORES, SCORES_FILE
from layerscope.tasks.spec import TasksSpec


def write_metrics(folder: Path, layers: pl.DataFrame, model: dict | None = None, **record: object) -> Path:
    """What `layerscope measure` leaves."""
    folder.mkdir(parents=True, exist_ok=True)
    depth = int(layers["layer"].max())
    resolved = Resolved(
        model_revision="r", texts_revision="1", n_layers=depth, dim=8, context=64, device="cpu", dtype="float32",
        metrics=("curvature",), n_prompts=6, n_blocks=1, prompts_sha256="00",
    )  # fmt: skip
    spec = RunSpec(model=ModelSpec(**{"name": "m", **(model or {})}), texts=TextSpec(source="wiki"))
    write_table([layers], LAYERS, folder / "layers.parquet")
    save(RunRecord(**{"status": "done", "spec": spec, "resolved": resolved, **record}), folder)
    return folder


def write_scores(folder: Path, scores: pl.DataFrame, model: dict | None = None, **record: object) -> Path:
    """What `layerscope tasks` leaves."""
    folder.mkdir(parents=True, exist_ok=True)
    write_table([scores], SCORES, folder / SCORES_FILE)
    save(
        TasksRecord(
            **{
                "status": "done",
                "model": ModelSpec(**{"name": "m", **(model or {})}),
                "spec": TasksSpec(tasks=("task0",)),
                "resolved": ResolvedModel(model_revision="r", n_layers=int(scores["layer"].max())),
                **record,
            }
        ),
        folder,
    )
    return folder


PEAK = [0.1, 0.5, 0.9, 0.7, 0.5, 0.4, 0.3, 0.3, 0.2, 0.2, 0.15, 0.1]
"""A curve of 12 layers whose layer 2 is by far the best."""


def peaked_scores(n_tasks: int = 6, **other: object) -> pl.DataFrame:
    """Tasks that agree on the peak."""
    shifts = [[0.002 * ((3 * t + 5 * k) % 7) for k in range(len(PEAK))] for t in range(n_tasks)]
    values = [[value + shift for value, shift in zip(PEAK, row, strict=True)] for row in shifts]
    return score_table(values, **other)


def peaked_metrics() -> pl.DataFrame:
    """DiME is least at the peak; the entropy is largest there."""
    return pl.concat(
        [
            metric_table([-value for value in PEAK], metric="dime", alpha=1.0, pooling="mean"),
            metric_table([1 + value for value in PEAK], metric="prompt_entropy", alpha=1.0, normalization="none"),
            metric_table([0.5] * len(PEAK), metric="infonce_chance", pooling="mean"),
        ]
    )
