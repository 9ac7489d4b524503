"""mmlu.json: what was asked, what it resolved to, and how it ended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from layerscope.errors import RunFailedError, UserError
from layerscope.files.writing import whole_file
from layerscope.measuring.resume import differences
from layerscope.mmlu.spec import MmluSpec
from layerscope.results.contents import contents, way_out
from layerscope.results.record import Skipped

SCHEMA_VERSION = 1
RECORD = "mmlu.json"
TABLES = "mmlu"
BLOCKS = "blocks"
# Where the same data is read from does not change a number, nor does what is computed from the tables at the end.
FREE = ("data_dir",)


class ResolvedQuestions(BaseModel):
    """What the names of a spec turned out to be."""

    model_config = ConfigDict(frozen=True)

    model_revision: str
    questions_revision: str
    shots: int
    examples: Literal["none", "split dev", "other questions"]
    n_subjects: int
    n_questions: int
    n_layers: int
    dim: int
    context: int | None
    device: str
    dtype: str
    n_blocks: int
    prompts_sha256: str
    tokenizer_revision: str = ""
    """Empty in runs of version 0.1.0, which did not record it."""


class MmluRecord(BaseModel):
    """Everything about a run of questions but its numbers."""

    schema_version: int = SCHEMA_VERSION
    status: Literal["running", "done", "failed"]
    reason: str = ""
    spec: MmluSpec
    resolved: ResolvedQuestions
    skipped: tuple[Skipped, ...] = ()
    warnings: tuple[str, ...] = ()
    timings: dict[str, float] = {}
    packages: dict[str, str] = {}
    commit: str | None = None
    machine: str = ""
    started: str = ""
    finished: str = ""


def write_mmlu_record(record: MmluRecord, folder: Path) -> None:
    """Write mmlu.json, whole or not at all."""
    with whole_file(folder / RECORD) as temporary:
        temporary.write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")


def read_mmlu_record(folder: Path) -> MmluRecord:
    """Read the mmlu.json of a folder.

    Raises:
        UserError: the folder holds none.
        RunFailedError: it is damaged or of a newer schema.
    """
    path = folder / RECORD
    if not path.exists():
        raise UserError(f"{folder} is no run of questions: it has no {RECORD}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.get("schema_version", 0) > SCHEMA_VERSION:
            raise RunFailedError(
                f"{path} has schema version {content['schema_version']}, this layerscope reads up to {SCHEMA_VERSION}: "
                "update layerscope"
            )
        return MmluRecord.model_validate(content)
    except (json.JSONDecodeError, UnicodeDecodeError, ValidationError, AttributeError) as error:
        raise RunFailedError(
            f"{path} cannot be read ({type(error).__name__}): the file is damaged; {way_out(folder, 'mmlu')}"
        ) from error


def earlier_questions(folder: Path, spec: MmluSpec) -> MmluRecord | None:
    """The record of an earlier start of the same run in `folder`; None where the folder is new.

    Raises:
        UserError: the folder holds a run with another spec (named field by field), or other files.
    """
    if not (folder / RECORD).exists():
        others = contents(folder)
        if others:
            raise UserError(
                f"{folder} is not empty and no run of questions (it holds {', '.join(others[:3])}): choose another --out"
            )
        return None
    record = read_mmlu_record(folder)
    changed = differences(record.spec, spec, FREE)
    if changed:
        raise UserError(f"{folder} holds a run with other settings ({'; '.join(changed)}): {way_out(folder, 'mmlu')}")
    return record


def refuse_other_inputs(folder: Path, before: ResolvedQuestions, now: ResolvedQuestions) -> None:
    """Refuse to mix blocks of two different models or sets of prompts.

    Raises:
        UserError: naming what differs.
    """
    # What version 0.1.0 did not record cannot differ.
    changed = differences(before, now, () if before.tokenizer_revision else ("tokenizer_revision",))
    if changed:
        raise UserError(f"{folder} was started with other inputs ({'; '.join(changed)}): {way_out(folder, 'mmlu')}")
