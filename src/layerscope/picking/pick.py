"""Pick: the layer to use of one run and what speaks for it, kept in pick.json. Who asks first writes it, others read it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from layerscope.errors import LayerscopeError, UserError
from layerscope.files.reading import read_json, read_sealed, write_sealed
from layerscope.picking.answers import answer_by_metrics
from layerscope.picking.folder import Evidence, Origin, RunFolder, digests, read_evidence, run_folder
from layerscope.picking.last_layer import TABLE1, compare_with_last
from layerscope.picking.resampling import resample
from layerscope.picking.rules import RULE_TABLE, apply_rules
from layerscope.picking.scores import HOW_READ
from layerscope.picking.selection import AS_ROWS, Selection, rows_of, select_layer
from layerscope.picking.spec import MARGIN, By, PickSpec

SCHEMA_VERSION: Final = 3
PICK_FILE = "pick.json"
_WORDS = {"scores": "scores", "layers": "metrics"}
_ADVICE = "run `layerscope pick` again"


class Pick(BaseModel):
    """The layer to use of one run, and what speaks for it. `model_dump(mode="json")` is what pick.json holds.

    `layer` is None where nothing can be chosen. `selections` has one for each setting (readout, positions, pooling)
    that was scored, and `selection` is the one that is recommended; without scores there is none. `rules` is what each
    metric would choose, empty where the run holds no metrics; `table1` the last layer against the best one. `made_from`
    has a hash of each table and `origin` is the model that was chosen for. `notes` has one line for each kind of thing
    to know, `details` the lines that a note sums up; `news` is what this call did to pick.json that a reader has to
    know, and is not kept there.
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
        notes.append(
            f"no metrics in {evidence.path}: `layerscope measure MODEL --out {evidence.path}` adds what rules "
            "without labels would choose"
        )
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


class _Head(BaseModel):
    """What every version of the file holds: of what is asked, version 0.1.0 kept `by` alone."""

    schema_version: int
    by: By
    layer: int | None
    asked: PickSpec | None = None
    scores_from: Path | None = None


def pick(
    run: RunFolder,
    *,
    scores: RunFolder | None = None,
    by: By | None = None,
    margin: float = MARGIN,
    resamples: int = 2000,
    seed: int = 0,
) -> Pick:
    """Which layer of a run's model to use. The answer is written to RUN/pick.json, which export and report read.

    Args:
        run: a run's folder, or a run that was opened; with scores (`layerscope tasks`), metrics (`measure`), or both.
        scores: the folder of the scores, where it is another one.
        by: scores: what `select_layer` recommends; metrics: what rules without labels choose (`apply_rules`); default:
            scores where there are some.
        margin: what the layer may lose against the best one, in the scores' unit: the earliest that is shown to lose no
            more is recommended, else the one with the highest average.
        resamples: bootstrap samples, at least 100.
        seed: seed of the resampling.

    Returns:
        The layer, the reasons in words, and the tables behind them.

    Raises:
        UserError: the folder does not hold what is needed, or it is asked for what there is not.
        RunFailedError: a file is damaged.
    """
    asked = PickSpec.of({"by": by, "margin": margin, "resamples": resamples, "seed": seed})
    return _write(choose_layer(read_evidence(run, scores), asked))


def recall_pick(run: RunFolder) -> Pick:
    """The answer in RUN/pick.json; where there is none yet, or it is about other tables, the layer is chosen and written.

    Chosen again it is with what was asked then, and a note says that it was, and whether the layer changed.

    Raises:
        UserError: the folder does not hold what is needed, or the folder of scores that was named is gone.
        RunFailedError: a file is damaged.
    """
    folder = run_folder(run)
    path = folder / PICK_FILE
    if not path.exists():
        return pick(folder)
    head = read_json(path, _Head, advice=_ADVICE, follow=False)
    if head.scores_from is not None and not head.scores_from.is_dir():
        raise UserError(f"{path} was made from the scores in {head.scores_from}, which is gone: {_ADVICE}")
    if head.schema_version < SCHEMA_VERSION:
        asked, why = head.asked or PickSpec(by=head.by), "was written by an earlier version"
    else:
        kept = read_sealed(path, Pick, version=SCHEMA_VERSION, since=SCHEMA_VERSION, advice=_ADVICE)
        kept = kept.model_copy(update={"path": folder})
        now = digests(folder, kept.scores_path)
        changed = [word for name, word in _WORDS.items() if now[name] != kept.made_from.get(name)]
        if not changed:
            return kept
        asked, why = kept.asked, f"was made before the {' and '.join(changed)} changed"
    again = choose_layer(read_evidence(folder, head.scores_from), asked)
    moved = "" if again.layer == head.layer else f" instead of {head.layer}"
    return _write(again, f"{path} {why}: chosen again, layer {again.layer}{moved}")


def _write(picked: Pick, *news: str) -> Pick:
    """Write pick.json, whole or not at all; a folder that cannot be written is answered about all the same."""
    try:
        write_sealed(picked, picked.path / PICK_FILE)
    except LayerscopeError as error:
        cause = error.__cause__
        reason = cause.strerror if isinstance(cause, OSError) and cause.strerror else error
        lost = f"{picked.path / PICK_FILE} was not written ({reason}): export and report choose the layer again"
        news = (*news, lost)
    return picked.model_copy(update={"news": news})
