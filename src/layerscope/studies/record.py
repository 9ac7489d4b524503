"""study.json: the settings of a study, its grid, what became of each job; and the refusal to mix two settings."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from layerscope.results.contents import Verb
from layerscope.results.record import Frozen, Record
from layerscope.studies.spec import StudySpec


class JobRecord(Frozen):
    """One job of the grid: its folder under runs/, what it asked for, and why it has no result where it has none."""

    key: str
    folder: str
    identity: dict[str, Any]
    status: Literal["open", "done", "missing"] = "open"
    reason: str = ""


class StudyRecord(Record):
    """The record of a study."""

    FILE: ClassVar[str] = "study.json"
    VERB: ClassVar[Verb] = "study"
    BESIDE: ClassVar[tuple[Verb, ...] | None] = None
    # Where the same data is read from does not change a number.
    FREE: ClassVar[tuple[str, ...]] = ("data_dir",)

    study: str
    spec: StudySpec
    jobs: tuple[JobRecord, ...] = ()
