"""Why this layer: what a run's scores or metrics say about it, and the settings they were taken with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from layerscope.config import ModelSpec
from layerscope.errors import UserError
from layerscope.export.spec import ExportSpec
from layerscope.inputs.identity import model_identity
from layerscope.inputs.models import LoadedModel
from layerscope.picking.choosing import Pick
from layerscope.picking.pick_file import recall_pick
from layerscope.picking.selection import Selection
from layerscope.results.record import read_record
from layerscope.results.run import load_run
from layerscope.tasks.record import TasksRecord

_SETTING = ("readout", "positions", "pooling")


@dataclass(frozen=True)
class Evidence:
    """A run's answer about one setting.

    `revision` is None where results were imported, so that nothing says which weights they are of; `tokenizer`, the
    revision of the tokenizer's files, is empty where it was not recorded. `context` and `dtype` are what the run was
    computed with; dtype is empty where that is not known.
    """

    run: str
    picked: Pick
    selection: Selection | None
    model: ModelSpec
    revision: str | None
    tokenizer: str
    context: int | None
    dtype: str

    @property
    def recommended(self) -> int | None:
        """The layer the run recommends in this setting."""
        return self.picked.layer if self.selection is None else self.picked.layer_in(self.selection)

    def score(self, layer: int) -> dict[str, Any] | None:
        """The row of a layer: average, ci_low, ci_high, in_set, ...; None where it has no score."""
        if self.selection is None:
            return None
        rows = {row["layer"]: row for row in self.selection.layers.iter_rows(named=True)}
        return rows.get(layer)


def read_choice(run: Path, spec: ExportSpec) -> tuple[ExportSpec, Evidence]:
    """What a run says (its pick.json), and the export with what was left open taken from it.

    Args:
        run: a folder that `layerscope tasks`, `measure` or both wrote into.
        spec: the export; fields that were given stay.

    Returns:
        The export with layer, readout, positions, pooling and context filled in, and the evidence.

    Raises:
        UserError: the run has no scores in the setting asked for, or recommends no layer.
        RunFailedError: a file of the run is damaged.
    """
    picked = recall_pick(run)
    selection = _selection(picked, spec, run)
    filled: dict[str, object] = {}
    if selection is not None:
        filled = {name: getattr(selection.scores, name) for name in _SETTING}
    evidence = _evidence(run, picked, selection)
    filled |= {"context": evidence.context}
    filled |= {"layer": evidence.recommended}
    given = spec.model_dump(exclude_unset=True)
    merged = {name: value for name, value in filled.items() if value not in (None, "")} | given
    if merged.get("layer") is None:
        raise UserError(f"{run} recommends no layer ({picked.answer}): say which with --layer")
    return ExportSpec.model_validate(merged), evidence


def require_same_model(evidence: Evidence, model: LoadedModel) -> None:
    """Refuse evidence about other weights.

    Raises:
        UserError: the run is of another revision, its texts were cut by another tokenizer, or the model was run in
            another way.
    """
    if evidence.revision is None:
        return
    if evidence.revision != model.revision:
        raise UserError(
            f"run {evidence.run} is about {evidence.model.name} (revision {evidence.revision}), and the model here is "
            f"{model.spec.name} (revision {model.revision}): give the model that was scored, or leave out --run"
        )
    _require_same_tokenizer(evidence, model)
    for name in ("bidirectional", "part"):
        there, here = getattr(evidence.model, name), getattr(model.spec, name)
        if there != here:
            raise UserError(
                f"run {evidence.run} is about the model with {name}={there}, and here it is {here}: give the same "
                "options, or leave out --run"
            )


def _require_same_tokenizer(evidence: Evidence, model: LoadedModel) -> None:
    # Others are covered by the weights' revision (a commit, one file), or were not read from files.
    if not evidence.tokenizer.startswith("sha256:"):
        return
    here = model_identity(model.spec)["tokenizer_revision"]
    if here != evidence.tokenizer:
        raise UserError(
            f"run {evidence.run} was made with another tokenizer (revision {evidence.tokenizer}) than the one beside the "
            f"weights of {model.spec.name} now (revision {here}): give the model as it was scored, or leave out --run"
        )


def _selection(picked: Pick, spec: ExportSpec, run: Path) -> Selection | None:
    if not picked.selections:
        return None
    asked = {name: getattr(spec, name) for name in _SETTING if name in spec.model_fields_set}
    fitting = [
        one
        for one in picked.selections
        if all(getattr(one.scores, name) in (value, "") for name, value in asked.items())
    ]
    if not fitting:
        has = ", ".join("/".join(getattr(one.scores, name) or "?" for name in _SETTING) for one in picked.selections)
        wanted = ", ".join(f"{name} {value}" for name, value in asked.items())
        raise UserError(
            f"{run} has no scores with {wanted} (it has {has}): export what was scored, score that with "
            "`layerscope tasks`, or leave out --run"
        )
    return next((one for one in fitting if one is picked.selection), fitting[0])


def _evidence(run: Path, picked: Pick, selection: Selection | None) -> Evidence:
    name = run.resolve().name
    if picked.by == "metrics":
        run_record = load_run(run).record
        measured, context = run_record.resolved, run_record.spec.texts.context
        model, revision, dtype = run_record.spec.model, measured.model_revision, measured.dtype
        return Evidence(name, picked, selection, model, revision, measured.tokenizer_revision, context, dtype)
    record = read_record(TasksRecord, picked.scores_path)
    if record.spec is None or record.resolved is None:
        return Evidence(name, picked, selection, record.model, None, "", None, "")
    scored, context = record.resolved, record.spec.context
    revisions = (scored.model_revision, scored.tokenizer_revision)
    return Evidence(name, picked, selection, record.model, *revisions, context, scored.dtype)
