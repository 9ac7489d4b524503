"""From a run's tables to the layer to use, and to what goes with its scores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl

from layerscope.errors import UserError, unknown
from layerscope.picking.answers import answer_by_metrics, answer_by_scores
from layerscope.picking.evidence import Evidence, RunFolder, read_evidence
from layerscope.picking.last_layer import compare_with_last
from layerscope.picking.relations import relate as relate_tables
from layerscope.picking.rules import apply_rules
from layerscope.picking.selection import MARGIN, Selection, select_layers

By = Literal["scores", "metrics"]
RELATIONS_FILE = "relations.parquet"
ABOUT_OTHERS = ("curvature_skipped_steps", "infonce_bound", "infonce_chance", "dime_standard_error", "lidar_rank")
"""Readings about another metric (a count, an error, a constant minus it): related only where they are named."""
_SETTING = ("readout", "positions", "pooling")


@dataclass(frozen=True)
class Asked:
    """How a layer is chosen: `by` None is by scores where there are some; the rest as for `pick`."""

    by: By | None = None
    margin: float = MARGIN
    resamples: int = 2000
    seed: int = 0


@dataclass(frozen=True)
class Pick:
    """The layer to use of one run, and what speaks for it.

    `layer` is None where nothing can be chosen. With scores, `selection` is of the setting (readout, positions, pooling)
    that is recommended, `selections` of all that were scored; without, both are empty. `rules` is what each metric would
    choose, empty where the run holds no metrics; `table1` the last layer against the best one. `made_from` has a hash of
    each table. `notes` has one line for
    each kind of thing to know, `details` the lines that a note sums up; `news` is what this call did to pick.json that a
    reader has to know, and is not kept there.
    """

    path: Path
    scores_path: Path
    made_from: Mapping[str, str | None]
    asked: Asked
    by: By
    model: str
    layer: int | None
    answer: str
    selection: Selection | None
    selections: tuple[Selection, ...]
    rules: pl.DataFrame
    table1: pl.DataFrame
    notes: tuple[str, ...]
    details: tuple[str, ...]
    news: tuple[str, ...] = ()

    def layer_in(self, selection: Selection) -> int | None:
        """The layer to use in one of the settings: chosen by metrics, it is the same in all."""
        return self.layer if self.by == "metrics" else selection.recommended


def choose_layer(evidence: Evidence, asked: Asked) -> Pick:
    """Which layer of a run's model to use, from the tables that were read.

    Raises:
        UserError: there is not what is needed, or no such way to choose.
    """
    by = asked.by or ("metrics" if evidence.scores is None else "scores")
    if by not in ("scores", "metrics"):
        raise unknown("way to pick", by, ("scores", "metrics"))
    if not asked.margin >= 0:
        raise UserError(f"expected a margin of at least 0, in the scores' unit, got {asked.margin}")
    resamples, seed = asked.resamples, asked.seed
    table = evidence.need_scores() if by == "scores" else evidence.scores
    layers = evidence.need_layers() if by == "metrics" else evidence.layers
    selections = () if table is None else select_layers(table, margin=asked.margin, resamples=resamples, seed=seed)
    selection, compared = _best_setting(selections)
    of_scores = () if selection is None else selection.notes if by == "scores" else selection.scores.left_out
    notes = [*evidence.notes, *([compared] if compared else []), *of_scores]
    rules = pl.DataFrame() if layers is None else apply_rules(layers, table, resamples=resamples, seed=seed)
    table1 = pl.DataFrame() if table is None else compare_with_last(table, resamples=resamples, seed=seed)
    if layers is None:
        notes.append(f"no metrics in {evidence.path}: `layerscope measure MODEL --out {evidence.path}` adds what rules "
                     "without labels would choose")  # fmt: skip
    if by == "scores" and selection is not None:
        model, layer, answer = selection.scores.model, selection.recommended, answer_by_scores(selection)
    else:
        mine = _rules_of(rules, selection)
        layer, answer = answer_by_metrics(mine)
        model = str(mine["model"][0])
        if table is not None and mine["average"].null_count() == len(mine):
            notes.append(f"the scores in {evidence.scores_path} are of another model than the metrics")
        elif selection is not None and selection.recommended not in (None, layer):
            notes.append(f"by its scores the layer to use is {selection.recommended} (`layerscope pick --by scores`)")
    return Pick(
        path=evidence.path,
        scores_path=evidence.scores_path,
        made_from=evidence.digests(),
        asked=asked,
        by=by,
        model=model,
        layer=layer,
        answer=answer,
        selection=selection,
        selections=selections,
        rules=rules,
        table1=table1,
        notes=tuple(dict.fromkeys(notes)),
        details=(*evidence.details, *dict.fromkeys(line for one in selections for line in one.scores.details)),
    )


def relate(
    run: RunFolder,
    *,
    scores: RunFolder | None = None,
    metrics: Sequence[str] = (),
    resamples: int = 1000,
    seed: int = 0,
) -> pl.DataFrame:
    """Relate every metric of a run to the scores of its tasks: `layerscope.picking.relations.relate` on a folder.

    Args:
        run: a run's folder, or a run that was opened, with metrics.
        scores: the folder of the scores, where it is another one.
        metrics: only these metrics, since p-values are adjusted for what is in the table; default: all but ABOUT_OTHERS.
        resamples: bootstrap samples for the intervals.
        seed: seed of the resampling.

    Returns:
        The table `relations` (docs/statistics.md).

    Raises:
        UserError: metrics or scores are missing, or of different models.
        RunFailedError: a file is damaged.
    """
    return relate_evidence(read_evidence(run, scores), metrics, resamples=resamples, seed=seed)


def relate_evidence(
    evidence: Evidence, metrics: Sequence[str], *, resamples: int = 1000, seed: int = 0
) -> pl.DataFrame:
    """`relate` for tables that were read. Raises what `relate` raises."""
    layers, table = evidence.need_layers(), evidence.need_scores()
    known = layers["metric"].unique().sort().to_list()
    absent = [name for name in metrics if name not in known]
    if absent:
        raise UserError(f"metric {absent[0]!r} is not in {evidence.path}: it has {', '.join(known)}")
    wanted = list(metrics) or [name for name in known if name not in ABOUT_OTHERS]
    return relate_tables(layers.filter(pl.col("metric").is_in(wanted)), table, resamples=resamples, seed=seed)


def _best_setting(selections: Sequence[Selection]) -> tuple[Selection | None, str]:
    """The setting whose choice is worth most, and what it was compared with."""
    usable = [selection for selection in selections if selection.recommended is not None]
    if len(usable) < 2:
        return next(iter(usable or selections), None), ""
    ranked = sorted(usable, key=lambda one: -_value(one))
    words = ", ".join(f"{_words(one)} {_value(one):.3f} (layer {one.recommended})" for one in ranked)
    same = len({one.scores.tasks for one in ranked}) == 1
    caution = "" if same else "; they are not of the same tasks, so which is worth most is not known"
    return ranked[0], f"of the settings scored, the one whose choice is worth most on left-out tasks: {words}{caution}"


def _value(selection: Selection) -> float:
    """The average on left-out tasks; with one task, the average at the layer."""
    values = dict(selection.choices.select("choice", "average").iter_rows())
    left_out = values["recommended, left-out task"]
    return float(left_out if math.isfinite(left_out) else values["recommended"])


def _words(selection: Selection) -> str:
    return "/".join(getattr(selection.scores, name) or "?" for name in _SETTING)


def _rules_of(rules: pl.DataFrame, selection: Selection | None) -> pl.DataFrame:
    """The rules as scored in one setting; as they are where there are no scores of this model."""
    if selection is None:
        return rules
    same = rules.filter(*(pl.col(name).fill_null("") == getattr(selection.scores, name) for name in _SETTING))
    return rules if same.is_empty() else same
