"""Pick: the layer to use of one run and what speaks for it, which is also what pick.json holds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from layerscope.picking.answers import answer_by_metrics
from layerscope.picking.folder import Evidence, Origin
from layerscope.picking.last_layer import TABLE1, compare_with_last
from layerscope.picking.resampling import resample
from layerscope.picking.rules import RULE_TABLE, apply_rules
from layerscope.picking.scores import HOW_READ
from layerscope.picking.selection import AS_ROWS, Selection, rows_of, select_layer
from layerscope.picking.spec import By, PickSpec

SCHEMA_VERSION: Final = 3


class Pick(BaseModel):
    """The layer to use of one run, and what speaks for it. `model_dump(mode="json")` is what pick.json holds.

    `layer` is None where nothing can be chosen. `selections` has one for each setting (readout, positions, pooling) that
    was scored, and `selection` is the one that is recommended; without scores there is none. `rules` is what each metric
    would choose, empty where the run holds no metrics; `table1` the last layer against the best one. `made_from` has a
    hash of each table and `origin` is the model that was chosen for. `notes` has one line for each kind of thing to know,
    `details` the lines that a note sums up; `news` is what this call did to pick.json that a reader has to know, and is
    not kept there.
    """

    model_config = ConfigDict(frozen=True, serialize_by_alias=True)

    schema_version: Literal[3] = SCHEMA_VERSION
    path: Path = Field(alias="run")
    scores_from: Path | None
    made_from: dict[str, str | None]
    origin: Origin
    asked: PickSpec
    by: By
    model: str
    layer: int | None
    readout: str | None = None
    positions: str | None = None
    pooling: str | None = None
    answer: str
    notes: tuple[str, ...]
    details: tuple[str, ...]
    chosen_setting: int | None
    selections: tuple[Selection, ...] = Field(alias="settings")
    rules: Annotated[pl.DataFrame, rows_of(RULE_TABLE), AS_ROWS]
    table1: Annotated[pl.DataFrame, rows_of(TABLE1), AS_ROWS]
    news: tuple[str, ...] = Field((), exclude=True)

    @property
    def selection(self) -> Selection | None:
        """Of the setting that is recommended."""
        return None if self.chosen_setting is None else self.selections[self.chosen_setting]

    @property
    def scores_path(self) -> Path:
        """The folder of the scores."""
        return self.scores_from or self.path

    def layer_in(self, selection: Selection) -> int | None:
        """The layer to use in one of the settings: chosen by metrics, it is the same in all."""
        return self.layer if self.by == "metrics" else selection.recommended


def choose_layer(evidence: Evidence, asked: PickSpec) -> Pick:
    """Which layer of a run's model to use, from what was read; the scores are resampled here, once for everything.

    Raises UserError where there is not what is needed.
    """
    by: By = asked.by or ("metrics" if evidence.scores is None else "scores")
    scores = evidence.need_scores() if by == "scores" else evidence.scores or ()
    layers = evidence.need_layers() if by == "metrics" else evidence.layers
    drawn = [resample(one, asked.resamples, asked.seed) for one in scores]
    selections = tuple(select_layer(one, asked.margin) for one in drawn)
    chosen, compared = _best_setting(selections)
    selection = None if chosen is None else selections[chosen]
    of_scores = () if chosen is None else selections[chosen].notes if by == "scores" else scores[chosen].left_out
    notes = [*evidence.notes, *([compared] if compared else []), *of_scores]
    if layers is None:
        notes.append(f"no metrics in {evidence.path}: `layerscope measure MODEL --out {evidence.path}` adds what rules "
                     "without labels would choose")  # fmt: skip
    rules = pl.DataFrame(schema=RULE_TABLE) if layers is None else apply_rules(layers, drawn)
    if by == "scores" and selection is not None:
        model, layer, answer = selection.model, selection.recommended, selection.answer
    else:
        mine = rules if selection is None else _rules_of(rules, selection)
        layer, answer = answer_by_metrics(mine)
        model = str(mine["model"][0])
        if selection is not None and mine["average"].null_count() == len(mine):
            notes.append(f"the scores in {evidence.scores_path} are of another model than the metrics")
        elif selection is not None and selection.recommended not in (None, layer):
            notes.append(f"by its scores the layer to use is {selection.recommended} (`layerscope pick --by scores`)")
    origin = evidence.scored if by == "scores" else evidence.measured
    assert origin is not None  # what is chosen by was read
    return Pick(
        run=evidence.path,
        scores_from=None if evidence.scores_path == evidence.path else evidence.scores_path.resolve(),
        made_from=dict(evidence.made_from),
        origin=origin,
        asked=asked,
        by=by,
        model=model,
        layer=layer,
        **{name: getattr(selection, name, None) or None for name in HOW_READ},
        answer=answer,
        notes=tuple(dict.fromkeys(notes)),
        details=(*evidence.details, *dict.fromkeys(line for one in scores for line in one.details)),
        chosen_setting=chosen,
        settings=selections,
        rules=rules,
        table1=compare_with_last(drawn),
    )


def _best_setting(selections: Sequence[Selection]) -> tuple[int | None, str]:
    """The setting whose choice is worth most, and what it was compared with."""
    usable = [place for place, one in enumerate(selections) if one.recommended is not None]
    if len(usable) < 2:
        return next(iter(usable or range(len(selections))), None), ""
    usable.sort(key=lambda place: -_value(selections[place]))
    ranked = [selections[place] for place in usable]
    words = ", ".join(f"{one.state} {_value(one):.3f} (layer {one.recommended})" for one in ranked)
    same = len({one.tasks for one in ranked}) == 1
    caution = "" if same else "; they are not of the same tasks, so which is worth most is not known"
    return usable[0], f"of the settings scored, the one whose choice is worth most on left-out tasks: {words}{caution}"


def _value(selection: Selection) -> float:
    """The average on left-out tasks; with one task, the average at the layer."""
    values = dict(selection.choices.select("choice", "average").iter_rows())
    left_out = values["recommended, left-out task"]
    return float(left_out if math.isfinite(left_out) else values["recommended"])


def _rules_of(rules: pl.DataFrame, selection: Selection) -> pl.DataFrame:
    """The rules as scored in one setting; as they are where there are no scores of this model."""
    same = rules.filter(*(pl.col(name).fill_null("") == getattr(selection, name) for name in HOW_READ))
    return rules if same.is_empty() else same
