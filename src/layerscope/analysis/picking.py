"""pick() and relate(): from a run's folder to the layer to use, and to what goes with its scores."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl

from layerscope.analysis.answers import answer_by_metrics, answer_by_scores
from layerscope.analysis.folder import Evidence, RunFolder, read_evidence
from layerscope.analysis.last_layer import compare_with_last
from layerscope.analysis.relations import relate as relate_tables
from layerscope.analysis.rules import apply_rules
from layerscope.analysis.selection import Selection, select_layers
from layerscope.errors import UserError, unknown
from layerscope.results.files import whole_file

By = Literal["scores", "metrics"]
PICK_FILE = "pick.json"
RELATIONS_FILE = "relations.parquet"
SCHEMA_VERSION = 1
ABOUT_OTHERS = ("curvature_skipped_steps", "infonce_bound", "infonce_chance", "dime_standard_error", "lidar_rank")
"""Readings about another metric (a count, an error, a constant minus it): related only where they are named."""
_SETTING = ("readout", "positions", "pooling")


@dataclass(frozen=True)
class Pick:
    """The layer to use of one run, and what speaks for it.

    `layer` is None where nothing can be chosen. With scores, `selection` is of the setting (readout, positions, pooling)
    that is recommended, `selections` of all that were scored; without, both are empty. `rules` is what each metric would
    choose, empty where the run holds no metrics; `table1` the last layer against the best one.
    """

    path: Path
    by: By
    model: str
    layer: int | None
    answer: str
    selection: Selection | None
    selections: tuple[Selection, ...]
    rules: pl.DataFrame
    table1: pl.DataFrame
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, as in pick.json; NaN is None."""
        scored = self.selection.scores if self.selection else None
        return {
            "schema_version": SCHEMA_VERSION,
            "run": str(self.path),
            "by": self.by,
            "model": self.model,
            "layer": self.layer,
            **{name: getattr(scored, name) or None if scored else None for name in _SETTING},
            "answer": self.answer,
            "notes": list(self.notes),
            "settings": [_setting(selection) for selection in self.selections],
            "rules": _rows(self.rules),
            "table1": _rows(self.table1),
        }


def pick(
    run: RunFolder, *, scores: RunFolder | None = None, by: By | None = None, resamples: int = 2000, seed: int = 0
) -> Pick:
    """Which layer of a run's model to use.

    Args:
        run: a run's folder, or a run that was opened; with scores (`layerscope tasks`), metrics (`measure`), or both.
        scores: the folder of the scores, where it is another one.
        by: scores: what `select_layers` recommends; metrics: what rules without labels choose (`apply_rules`); default:
            scores where there are some.
        resamples: bootstrap samples.
        seed: seed of the resampling.

    Returns:
        The layer, the reasons in words, and the tables behind them.

    Raises:
        UserError: the folder does not hold what is needed.
        RunFailedError: a file is damaged.
    """
    evidence = read_evidence(run, scores)
    by = by or ("metrics" if evidence.scores is None else "scores")
    if by not in ("scores", "metrics"):
        raise unknown("way to pick", by, ("scores", "metrics"))
    table = evidence.need_scores() if by == "scores" else evidence.scores
    layers = evidence.need_layers() if by == "metrics" else evidence.layers
    selections = () if table is None else select_layers(table, resamples=resamples, seed=seed)
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
    return Pick(
        evidence.path, by, model, layer, answer, selection, selections, rules, table1, tuple(dict.fromkeys(notes))
    )


def relate(
    run: RunFolder,
    *,
    scores: RunFolder | None = None,
    metrics: Sequence[str] = (),
    resamples: int = 1000,
    seed: int = 0,
) -> pl.DataFrame:
    """Relate every metric of a run to the scores of its tasks: `layerscope.analysis.relations.relate` on a folder.

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


def write_pick(picked: Pick, folder: Path) -> Path:
    """Write pick.json, whole or not at all."""
    path = folder / PICK_FILE
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(picked.to_dict(), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return path


def _best_setting(selections: Sequence[Selection]) -> tuple[Selection | None, str]:
    """The setting whose choice is worth most, and what it was compared with."""
    usable = [selection for selection in selections if selection.recommended is not None]
    if len(usable) < 2:
        return next(iter(usable or selections), None), ""
    ranked = sorted(usable, key=lambda one: -_value(one))
    words = ", ".join(f"{_words(one)} {_value(one):.3f} (layer {one.recommended})" for one in ranked)
    return ranked[0], f"of the settings scored, the one whose choice is worth most on left-out tasks: {words}"


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


def _setting(selection: Selection) -> dict[str, Any]:
    scores = selection.scores
    return {
        **scores.setting,
        "tasks": list(scores.tasks),
        "best": selection.best,
        "recommended": selection.recommended,
        "indistinguishable": list(selection.indistinguishable),
        "layers": _rows(selection.layers),
        "choices": _rows(selection.choices),
        "notes": list(selection.notes),
    }


def _rows(table: pl.DataFrame) -> list[dict[str, Any]]:
    return [
        {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()}
        for row in table.iter_rows(named=True)
    ]
