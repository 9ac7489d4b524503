"""study.json: the settings of a study, its grid, what became of each job; and the refusal to mix two settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from layerscope.errors import RunFailedError, UserError
from layerscope.files.writing import whole_file
from layerscope.measuring.resume import differences
from layerscope.studies.spec import StudySpec

RECORD = "study.json"
SCHEMA_VERSION = 1
# Where the same data is read from does not change a number.
FREE = ("data_dir",)


class JobRecord(BaseModel):
    """One job of the grid: its folder under runs/, what it asked for, and why it has no result where it has none."""

    model_config = ConfigDict(frozen=True)

    key: str
    folder: str
    identity: dict[str, Any]
    status: Literal["open", "done", "missing"] = "open"
    reason: str = ""


class StudyRecord(BaseModel):
    """Everything about a study but its numbers."""

    schema_version: int = SCHEMA_VERSION
    study: str
    status: Literal["running", "done", "failed"]
    reason: str = ""
    spec: StudySpec
    jobs: tuple[JobRecord, ...] = ()
    packages: dict[str, str] = {}
    commit: str | None = None
    started: str = ""
    finished: str = ""


def write_study_record(record: StudyRecord, folder: Path) -> None:
    """Write study.json, whole or not at all."""
    with whole_file(folder / RECORD) as temporary:
        temporary.write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")


def read_study_record(folder: Path) -> StudyRecord:
    """Read study.json.

    Raises:
        UserError: the folder holds no study.
        RunFailedError: the file is damaged or of a newer schema.
    """
    path = folder / RECORD
    if not path.exists():
        raise UserError(f"{folder} holds no study: it has no {RECORD}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.get("schema_version", 0) > SCHEMA_VERSION:
            raise RunFailedError(
                f"{path} has schema version {content['schema_version']}, this layerscope reads up to {SCHEMA_VERSION}: "
                "update layerscope"
            )
        return StudyRecord.model_validate(content)
    except (json.JSONDecodeError, UnicodeDecodeError, ValidationError, AttributeError) as error:
        raise RunFailedError(
            f"{path} cannot be read ({type(error).__name__}): the file is damaged; delete the folder {folder}, the runs "
            "beside it are kept"
        ) from error


def earlier_study(folder: Path, spec: StudySpec) -> StudyRecord | None:
    """The record of an earlier start with the same settings, None where there was none.

    Raises:
        UserError: it had other settings; the message names each of them.
    """
    if not (folder / RECORD).exists():
        return None
    record = read_study_record(folder)
    changed = differences(record.spec, spec, FREE)
    if changed:
        raise UserError(
            f"{folder} holds this study with other settings ({'; '.join(changed)}): choose another --out or delete "
            f"{folder} (runs are kept beside it)"
        )
    return record
