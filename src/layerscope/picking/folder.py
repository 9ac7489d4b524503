"""What a run's folder holds for choosing a layer: metrics, scores of tasks, or both, read once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import polars as pl
from pydantic import BaseModel, ConfigDict

from layerscope.config import ModelSpec
from layerscope.errors import UserError
from layerscope.files.reading import sum_of
from layerscope.picking.scores import TaskScores, read_scores
from layerscope.results.measurement import RunRecord
from layerscope.results.record import ResolvedModel, read_record
from layerscope.results.resume import differences
from layerscope.results.run import load_run
from layerscope.tasks.record import TasksRecord
from layerscope.tasks.scores import SCORES_FILE, load_scores


class OpenedRun(Protocol):
    """A run that was opened or made: a Run, a TasksRun."""

    @property
    def path(self) -> Path: ...  # noqa: D102


RunFolder = str | Path | OpenedRun
"""A run's folder, or a run that was opened."""

LAYERS_FILE = "layers.parquet"
# Where the weights come from and where they are computed says nothing about which model it is.
_FREE = ("name", "device", "device_map", "fast_matmul", "trust_remote_code", "allow_pickle")


class Origin(BaseModel):
    """The model that a table is of, as it was run.

    `revision` is None where results were imported, so that nothing says which weights they are of; `tokenizer`, the
    revision of the tokenizer's files, is empty where it was not recorded, and so is `dtype`.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    bidirectional: bool
    part: str | None
    revision: str | None = None
    tokenizer: str = ""
    context: int | None = None
    dtype: str = ""


@dataclass(frozen=True)
class Evidence:
    """What was read from a folder; None where it holds none of that kind.

    `scores` has one entry for each setting. `made_from` has a hash of the file of each table, so that equal hashes mean
    equal tables. `notes` say what a reader should know, a line a kind; `details` are the lines that a note sums up.
    """

    path: Path
    scores_path: Path
    layers: pl.DataFrame | None
    scores: tuple[TaskScores, ...] | None
    measured: Origin | None
    scored: Origin | None
    made_from: Mapping[str, str | None]
    notes: tuple[str, ...]
    details: tuple[str, ...] = ()

    def need_layers(self) -> pl.DataFrame:
        """The metrics. Raises UserError where there are none."""
        if self.layers is None:
            raise UserError(
                f"{self.path} holds no metrics: make them with `layerscope measure MODEL --out {self.path}` "
                f"(its scores may stay in the same folder)"
            )
        return self.layers

    def need_scores(self) -> tuple[TaskScores, ...]:
        """The scores. Raises UserError where there are none."""
        return read_scores(load_scores(self.scores_path)) if self.scores is None else self.scores


def read_evidence(run: RunFolder, scores: RunFolder | None = None) -> Evidence:
    """Read the tables in a folder that `layerscope measure`, `layerscope tasks` or both wrote into.

    Args:
        run: the folder.
        scores: the folder of the scores, where it is another one.

    Raises:
        UserError: a folder is not there, or there are neither metrics nor scores.
        RunFailedError: a file is damaged.
    """
    path = run_folder(run)
    scores_path = path if scores is None else run_folder(scores)
    has_metrics, has_scores = (path / RunRecord.FILE).exists(), (scores_path / SCORES_FILE).exists()
    if not has_metrics and not has_scores:
        raise UserError(
            f"{path} holds neither metrics nor scores: make them with `layerscope measure MODEL --out {path}` and "
            f"`layerscope tasks MODEL --tasks ... --out {path}`"
        )
    notes: list[str] = []
    opened = layers = record = scored = measured = None
    if has_metrics:
        try:
            opened = load_run(path)
            layers = opened.layers
            asked = opened.record.spec
            measured = _origin(asked.model, opened.record.resolved, asked.texts.context)
        except UserError as error:
            # A measurement that is not done: scores beside it can be read all the same.
            if not has_scores:
                raise
            opened = None
            notes.append(f"no metrics: {error}")
    if has_scores:
        record = read_record(TasksRecord, scores_path)
        resolved, context = (None, None) if record.spec is None else (record.resolved, record.spec.context)
        scored = _origin(record.model, resolved, context)
        notes += record.warnings
        if record.status != "done":
            why = f" ({record.reason})" if record.reason else ""
            notes.append(f"the scores in {scores_path} are not complete: {record.status}{why}")
        if opened is not None and record.spec is not None:
            apart = differences(opened.record.spec.model, record.model, _FREE)
            notes += [f"metrics and scores are not of quite the same model: {'; '.join(apart)}"] if apart else []
    return Evidence(
        path=path,
        scores_path=scores_path,
        layers=layers,
        scores=None if record is None else read_scores(load_scores(scores_path)),
        measured=measured,
        scored=scored,
        made_from=digests(path, scores_path) | ({"layers": None} if opened is None else {}),
        notes=tuple(dict.fromkeys(notes)),
        details=() if record is None else record.details,
    )


def digests(path: Path, scores_path: Path) -> dict[str, str | None]:
    """A hash of the file of each table, None where there is none."""
    files = {"scores": scores_path / SCORES_FILE, "layers": path / LAYERS_FILE}
    return {name: f"sha256:{sum_of(file)}" if file.exists() else None for name, file in files.items()}


def run_folder(run: RunFolder) -> Path:
    """The folder that is meant. Raises UserError where it is not there."""
    path = Path(run) if isinstance(run, str | Path) else run.path
    if not path.is_dir():
        raise UserError(f"{path} is not a folder: give the folder of a run")
    return path


def _origin(model: ModelSpec, resolved: ResolvedModel | None, context: int | None) -> Origin:
    as_run: dict[str, Any] = {"name": model.name, "bidirectional": model.bidirectional, "part": model.part}
    if resolved is not None:
        as_run |= {
            "revision": resolved.model_revision,
            "tokenizer": resolved.tokenizer_revision,
            "dtype": resolved.dtype,
        }
    return Origin(**as_run, context=context)
