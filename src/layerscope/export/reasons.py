"""Why this layer: what a run's pick.json says about it, and the settings it was chosen with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from layerscope.errors import UserError
from layerscope.export.spec import ExportSpec
from layerscope.inputs.identity import model_identity
from layerscope.inputs.models import LoadedModel
from layerscope.picking.pick import Pick, recall_pick
from layerscope.picking.scores import HOW_READ
from layerscope.picking.selection import Selection


@dataclass(frozen=True)
class Reasons:
    """A run's answer about one setting; `selection` is None where it has no scores."""

    run: str
    picked: Pick
    selection: Selection | None

    @property
    def recommended(self) -> int | None:
        """The layer the run recommends in this setting."""
        return self.picked.layer if self.selection is None else self.picked.layer_in(self.selection)

    @property
    def words(self) -> Pick | Selection:
        """What has the run's answer about this setting, and the notes on it."""
        return self.picked if self.selection is None or self.picked.by == "metrics" else self.selection

    def score(self, layer: int) -> dict[str, Any] | None:
        """The row of a layer: average, ci_low, ci_high, in_set, ...; None where it has no score."""
        rows = () if self.selection is None else self.selection.layers.iter_rows(named=True)
        return next((row for row in rows if row["layer"] == layer), None)


def read_choice(run: Path, spec: ExportSpec) -> tuple[ExportSpec, Reasons]:
    """What a run says (its pick.json), and the export with what was left open taken from it.

    Args:
        run: a folder that `layerscope tasks`, `measure` or both wrote into.
        spec: the export; fields that were given stay.

    Returns:
        The export with layer, readout, positions, pooling and context filled in, and the reasons.

    Raises:
        UserError: the run has no scores in the setting asked for, or recommends no layer.
        RunFailedError: a file of the run is damaged.
    """
    picked = recall_pick(run)
    selection = _selection(picked, spec, run)
    reasons = Reasons(run.resolve().name, picked, selection)
    filled: dict[str, object] = {"layer": reasons.recommended, "context": picked.origin.context}
    filled |= {name: getattr(selection, name, None) for name in HOW_READ}
    given = spec.model_dump(exclude_unset=True)
    merged = {name: value for name, value in filled.items() if value not in (None, "")} | given
    if merged.get("layer") is None:
        raise UserError(f"{run} recommends no layer ({picked.answer}): say which with --layer")
    return ExportSpec.model_validate(merged), reasons


def require_same_model(reasons: Reasons, model: LoadedModel) -> None:
    """Refuse reasons that are about other weights.

    Raises:
        UserError: the run is of another revision, its texts were cut by another tokenizer, or the model was run in
            another way.
    """
    run, origin = reasons.run, reasons.picked.origin
    if origin.revision is None:
        return
    if origin.revision != model.revision:
        raise UserError(
            f"run {run} is about {origin.name} (revision {origin.revision}), and the model here is "
            f"{model.spec.name} (revision {model.revision}): give the model that was scored, or leave out --run"
        )
    # Other tokenizers are covered by the weights' revision (a commit, one file), or were not read from files.
    if origin.tokenizer.startswith("sha256:"):
        here = model_identity(model.spec)["tokenizer_revision"]
        if here != origin.tokenizer:
            raise UserError(
                f"run {run} was made with another tokenizer (revision {origin.tokenizer}) than the one beside the "
                f"weights of {model.spec.name} now (revision {here}): give the model as it was scored, or leave out --run"
            )
    for name in ("bidirectional", "part"):
        there, now = getattr(origin, name), getattr(model.spec, name)
        if there != now:
            raise UserError(
                f"run {run} is about the model with {name}={there}, and here it is {now}: give the same "
                "options, or leave out --run"
            )


def _selection(picked: Pick, spec: ExportSpec, run: Path) -> Selection | None:
    asked = {name: getattr(spec, name) for name in HOW_READ if name in spec.model_fields_set}
    fitting = [
        one for one in picked.selections if all(getattr(one, name) in (value, "") for name, value in asked.items())
    ]
    if picked.selections and not fitting:
        has = ", ".join(one.state for one in picked.selections)
        wanted = ", ".join(f"{name} {value}" for name, value in asked.items())
        raise UserError(
            f"{run} has no scores with {wanted} (it has {has}): export what was scored, score that with "
            "`layerscope tasks`, or leave out --run"
        )
    return next((one for one in fitting if one is picked.selection), next(iter(fitting), None))
