"""mmlu.json: what was asked, what it resolved to, and how it ended."""

from __future__ import annotations

from typing import ClassVar, Literal

from layerscope.inputs.prompts import Skipped
from layerscope.mmlu.spec import MmluSpec
from layerscope.results.contents import Verb
from layerscope.results.record import Record, ResolvedModel


class ResolvedQuestions(ResolvedModel):
    """What the names of a spec turned out to be."""

    questions_revision: str
    shots: int
    examples: Literal["none", "split dev", "other questions"]
    n_subjects: int
    n_questions: int
    n_blocks: int
    prompts_sha256: str


class MmluRecord(Record):
    """The record of a run of questions."""

    FILE: ClassVar[str] = "mmlu.json"
    VERB: ClassVar[Verb] = "mmlu"
    # Where the same data is read from does not change a number.
    FREE: ClassVar[tuple[str, ...]] = ("data_dir",)

    spec: MmluSpec
    resolved: ResolvedQuestions
    skipped: tuple[Skipped, ...] = ()
