"""What a run's folder holds for an analysis: metrics, scores of tasks, or both."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import polars as pl

from layerscope.config import ModelSpec
from layerscope.errors import UserError
from layerscope.results.measurement import RunRecord
from layerscope.results.record import read_record
from layerscope.results.resume import differences
from layerscope.results.run import load_run
from layerscope.tasks.record import TasksRecord
from layerscope.tasks.scores import SCORES_FILE, load_scores


class Opened(Protocol):
    """A run that was opened or made: a Run, a TasksRun."""

    @property
    def path(self) -> Path: ...  # noqa: D102


RunFolder = str | Path | Opened
"""A run's folder, or a run that was opened."""

# Where the weights come from and where they are computed says nothing about which model it is.
_FREE = ("name", "device", "device_map", "fast_matmul", "trust_remote_code", "allow_pickle")


@dataclass(frozen=True)
class Evidence:
    """The tables of a run; None where the folder holds none of that kind.

    `notes` say what a reader should know, a line a kind; `details` are the lines that a note sums up.
    """

    path: Path
    scores_path: Path
    layers: pl.DataFrame | None
    scores: pl.DataFrame | None
    notes: tuple[str, ...]
    details: tuple[str, ...] = ()

    def digests(self) -> dict[str, str | None]:
        """A hash of each table's content, None where there is none: equal digests, equal tables."""
        return {"scores": _digest(self.scores), "layers": _digest(self.layers)}

    def need_layers(self) -> pl.DataFrame:
        """The metrics.

        Raises:
            UserError: there are none.
        """
        if self.layers is None:
            raise UserError(
                f"{self.path} holds no metrics: make them with `layerscope measure MODEL --out {self.path}` "
                f"(its scores may stay in the same folder)"
            )
        return self.layers

    def need_scores(self) -> pl.DataFrame:
        """The scores.

        Raises:
            UserError: there are none.
        """
        return load_scores(self.scores_path) if self.scores is None else self.scores


def read_evidence(run: RunFolder, scores: RunFolder | None = None) -> Evidence:
    """Read what a folder holds.

    Args:
        run: a folder that `layerscope measure`, `layerscope tasks` or both wrote into.
        scores: the folder of the scores, where it is another one.

    Returns:
        The tables that are there.

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
    details: tuple[str, ...] = ()
    layers, measured = _layers(path, notes, needed=not has_scores) if has_metrics else (None, None)
    if has_scores:
        record = read_record(TasksRecord, scores_path)
        notes += _score_notes(record, scores_path)
        details = record.details
        if measured is not None and record.spec is not None:
            apart = differences(measured, record.model, _FREE)
            notes += [f"metrics and scores are not of quite the same model: {'; '.join(apart)}"] if apart else []
    table = load_scores(scores_path) if has_scores else None
    return Evidence(path, scores_path, layers, table, tuple(dict.fromkeys(notes)), details)


def _digest(table: pl.DataFrame | None) -> str | None:
    return None if table is None else f"sha256:{hashlib.sha256(table.write_csv().encode()).hexdigest()}"


def run_folder(run: RunFolder) -> Path:
    """The folder that is meant.

    Raises:
        UserError: it is not there.
    """
    path = Path(run) if isinstance(run, str | Path) else run.path
    if not path.is_dir():
        raise UserError(f"{path} is not a folder: give the folder of a run")
    return path


def _layers(path: Path, notes: list[str], *, needed: bool) -> tuple[pl.DataFrame | None, ModelSpec | None]:
    try:
        run = load_run(path)
    except UserError as error:
        # A measurement that is not done: scores beside it can be read all the same.
        if needed:
            raise
        notes.append(f"no metrics: {error}")
        return None, None
    return run.layers, run.record.spec.model


def _score_notes(record: TasksRecord, path: Path) -> list[str]:
    notes = list(record.warnings)
    if record.status != "done":
        why = f" ({record.reason})" if record.reason else ""
        notes.append(f"the scores in {path} are not complete: {record.status}{why}")
    return notes
