"""Prompt entropy against accuracy over the subjects of MMLU (figures 5 and 6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from layerscope.errors import UserError
from layerscope.figures import FacetLook
from layerscope.measuring.progress import Report
from layerscope.mmlu.run import MmluRun
from layerscope.mmlu.spec import MmluSpec
from layerscope.studies.curves import chart_line
from layerscope.studies.estimates import Estimate, no_estimate, size
from layerscope.studies.grid import READOUT, file_name, model_spec, model_title, short
from layerscope.studies.study import CLAIMS, Drawing, Job, Outcome, Results, Study, StudySpec, Test


@dataclass(frozen=True)
class Ask:
    """Answers and entropies as `layerscope mmlu` makes them. Its result is an MmluRun."""

    key: str
    spec: MmluSpec

    @property
    def slug(self) -> str:
        """The model and the questions."""
        return f"{self.spec.model.name}-mmlu-{Path(self.spec.questions).name}"

    @property
    def identity(self) -> dict[str, Any]:
        """The spec; where the same questions are read from does not matter."""
        return {"mmlu": self.spec.model_dump(mode="json", exclude={"data_dir"})}

    def start(self, folder: Path, report: Report) -> MmluRun:
        """Ask."""
        from layerscope.mmlu.run import mmlu_spec

        return mmlu_spec(self.spec, folder, report)


def jobs(spec: StudySpec) -> Sequence[Job]:
    """One run a model."""
    common = {"questions": spec.questions or "mmlu", "shots": spec.shots, "data_dir": spec.data_dir, "seed": spec.seed}
    return [
        Ask(model, MmluSpec.of({"model": model_spec(spec, model), "readouts": (READOUT,), **common}))
        for model in spec.models
    ]


def analyse(spec: StudySpec, results: Results) -> Outcome:
    """The strongest layer's correlation, with a p-value that pays for having looked at all layers."""
    tests, lines, notes = [], [], []
    tables: dict[str, pl.DataFrame] = {}
    for model, run in results.every(MmluRun).items():
        label = short(spec, model)
        for claim, statistic, words in (
            (CLAIMS["entropy-goes-with-accuracy"], "spearman", ""),
            (CLAIMS["beyond-length"], "partial", ", length taken out"),
        ):
            rows = run.relations.filter(pl.col("statistic") == statistic).sort("layer")
            tests.append(Test(claim, model_title(spec, model), _strongest(rows)))
            depth = rows["layer"].to_numpy() / run.record.resolved.n_layers
            ends = rows["ci_low"], rows["ci_high"]
            lines.append(chart_line(("correlation", "", label + words), depth, rows["value"], ends))
        tables |= {
            f"relations-{file_name(spec, model)}": run.relations,
            f"subjects-{file_name(spec, model)}": run.scores,
        }
        total = run.scores["n_questions"].sum()
        accuracy = int(run.scores["n_correct"].sum()) / max(1, int(total))
        notes.append(f"{label}: {accuracy:.1%} of {total:,} questions right, in {len(run.scores)} subjects.")
        notes += [f"{label}: {sentence}" for sentence in run.guessing.sentences()]
    if not tests:
        raise UserError("no model has answers, so there is nothing to relate")
    look = FacetLook(
        title="Prompt entropy and MMLU accuracy over subjects",
        about="rank correlation over subjects, with a 95 % interval; entropy of the very prompts that were answered",
        y_labels={"correlation": "Spearman correlation"},
        reference={"correlation": 0.0},
    )
    return Outcome(tests, [Drawing.of_lines("mmlu", lines, look)], tables, notes)


def _strongest(rows: pl.DataFrame) -> Estimate:
    known = rows.filter(pl.col("value").is_not_nan())
    if known.is_empty():
        reason = str(rows["note"][0]) if len(rows) else "it was not computed"
        return no_estimate(reason, over="subjects")
    row = known.sort("p_max", "p", "layer").row(0, named=True)
    signed = f"layer {row['layer']}, correlation {row['value']:+.2f}; p pays for looking at {len(rows)} layers"
    numbers = (row["value"], row["ci_low"], row["ci_high"], row["p_max"], row["n_subjects"])
    return size(Estimate(*numbers, over="subjects", note=signed))


STUDY = Study.written("mmlu", jobs, analyse)
