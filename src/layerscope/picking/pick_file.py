"""pick.json: a run's one answer. Who asks first writes it, and whoever speaks of the run's layer reads it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from layerscope.errors import LayerscopeError, RunFailedError, UserError
from layerscope.files.writing import whole_file
from layerscope.picking.choosing import Asked, By, Pick, choose_layer
from layerscope.picking.evidence import Evidence, RunFolder, read_evidence, run_folder
from layerscope.picking.last_layer import TABLE1
from layerscope.picking.rules import RULE_TABLE
from layerscope.picking.scores import SETTING, TaskScores, read_scores
from layerscope.picking.selection import CHOICE_TABLE, LAYER_TABLE, MARGIN, Choice, Selection

PICK_FILE = "pick.json"
SCHEMA_VERSION = 2
_STATE = ("readout", "positions", "pooling")


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
        by: scores: what `select_layers` recommends; metrics: what rules without labels choose (`apply_rules`); default:
            scores where there are some.
        margin: what the layer may lose against the best one, in the scores' unit: the earliest that is shown to lose no
            more is recommended, else the one with the highest average.
        resamples: bootstrap samples.
        seed: seed of the resampling.

    Returns:
        The layer, the reasons in words, and the tables behind them.

    Raises:
        UserError: the folder does not hold what is needed.
        RunFailedError: a file is damaged.
    """
    evidence = read_evidence(run, scores)
    return _write(choose_layer(evidence, Asked(by, margin, resamples, seed)))


def recall_pick(run: RunFolder) -> Pick:
    """The answer in RUN/pick.json; where there is none yet, or it is about other tables, the layer is chosen and written.

    Chosen again it is with what was asked then, and a note says that it was, and whether the layer changed.

    Args:
        run: a run's folder, or a run that was opened.

    Returns:
        What `pick` returned, or would return.

    Raises:
        UserError: the folder does not hold what is needed, or the folder of scores that was named is gone.
        RunFailedError: a file is damaged.
    """
    path = run_folder(run) / PICK_FILE
    if not path.exists():
        return pick(run)
    content = _read(path)
    elsewhere = content.get("scores_from")
    if elsewhere is not None and not Path(elsewhere).is_dir():
        raise UserError(f"{path} was made from the scores in {elsewhere}, which is gone: run `layerscope pick` again")
    evidence = read_evidence(run, elsewhere)
    if content["schema_version"] < SCHEMA_VERSION:
        known, why = Asked(by=content["by"]), "was written by an earlier version"
    elif content["made_from"] != evidence.digests():
        known, why = Asked(**content["asked"]), f"was made before the {_changed(content, evidence)} changed"
    else:
        return _restored(content, evidence)
    again = choose_layer(evidence, known)
    moved = "" if again.layer == content["layer"] else f" instead of {content['layer']}"
    return _write(replace(again, news=(f"{path} {why}: chosen again, layer {again.layer}{moved}",)))


def to_dict(picked: Pick) -> dict[str, Any]:
    """Everything as plain values, as in pick.json; NaN is None."""
    scored = picked.selection.scores if picked.selection else None
    return {
        "schema_version": SCHEMA_VERSION,
        "run": str(picked.path),
        "scores_from": None if picked.scores_path == picked.path else str(picked.scores_path.resolve()),
        "made_from": dict(picked.made_from),
        "asked": vars(picked.asked),
        "by": picked.by,
        "model": picked.model,
        "layer": picked.layer,
        **{name: getattr(scored, name) or None if scored else None for name in _STATE},
        "answer": picked.answer,
        "notes": list(picked.notes),
        "details": list(picked.details),
        "chosen_setting": None
        if scored is None
        else [one is picked.selection for one in picked.selections].index(True),
        "settings": [_setting(selection) for selection in picked.selections],
        "rules": _rows(picked.rules),
        "table1": _rows(picked.table1),
    }


def _write(picked: Pick) -> Pick:
    """Write pick.json, whole or not at all; a folder of someone else's can be read all the same."""
    try:
        with whole_file(picked.path / PICK_FILE) as temporary:
            temporary.write_text(json.dumps(to_dict(picked), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    except LayerscopeError as error:
        return replace(picked, news=(*picked.news, f"{PICK_FILE} was not written: {error}"))
    return picked


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version = content["schema_version"]
        if version > SCHEMA_VERSION:
            raise RunFailedError(
                f"{path} has schema version {version}, this layerscope reads up to {SCHEMA_VERSION}: update layerscope"
            )
        needed = ("by", "layer") if version < SCHEMA_VERSION else ("asked", "made_from", "settings", "answer")
        missing = [name for name in needed if name not in content]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunFailedError(
            f"{path} cannot be read ({type(error).__name__}): the file is damaged, run `layerscope pick` again"
        ) from error
    if missing:
        raise RunFailedError(f"{path} lacks {', '.join(missing)}: the file is damaged, run `layerscope pick` again")
    return content


def _changed(content: dict[str, Any], evidence: Evidence) -> str:
    words = {"scores": "scores", "layers": "metrics"}
    now = evidence.digests()
    return " and ".join(word for name, word in words.items() if content["made_from"].get(name) != now[name])


def _restored(content: dict[str, Any], evidence: Evidence) -> Pick:
    read = () if evidence.scores is None else read_scores(evidence.scores)
    of_setting = {tuple(one.setting.values()): one for one in read}
    try:
        selections = tuple(
            _selection(one, of_setting[tuple(one[name] for name in SETTING)], content["asked"]["margin"])
            for one in content["settings"]
        )
        chosen = content["chosen_setting"]
        return Pick(
            path=evidence.path,
            scores_path=evidence.scores_path,
            made_from=content["made_from"],
            asked=Asked(**content["asked"]),
            by=content["by"],
            model=content["model"],
            layer=content["layer"],
            answer=content["answer"],
            selection=None if chosen is None else selections[chosen],
            selections=selections,
            rules=_table(content["rules"], RULE_TABLE),
            table1=_table(content["table1"], TABLE1),
            notes=tuple(content["notes"]),
            details=tuple(content["details"]),
        )
    except (KeyError, IndexError, TypeError, pl.exceptions.PolarsError) as error:
        raise RunFailedError(
            f"{evidence.path / PICK_FILE} is not as it was written ({type(error).__name__}: {error}): run `layerscope "
            "pick` again"
        ) from error


def _setting(selection: Selection) -> dict[str, Any]:
    scores, choice = selection.scores, selection.choice
    return {
        **scores.setting,
        "tasks": list(scores.tasks),
        "best": selection.best,
        "recommended": selection.recommended,
        "shown": choice.shown if choice else None,
        "most_lost": _value(choice.most_lost) if choice else None,
        "indistinguishable": list(selection.indistinguishable),
        "layers": _rows(selection.layers),
        "choices": _rows(selection.choices),
        "notes": list(selection.notes),
    }


def _selection(one: dict[str, Any], scores: TaskScores, margin: float) -> Selection:
    choice = None
    if one["recommended"] is not None:
        lost = math.nan if one["most_lost"] is None else one["most_lost"]
        choice = Choice(one["best"], one["recommended"], one["shown"], lost, margin)
    return Selection(
        scores=scores,
        choice=choice,
        indistinguishable=tuple(one["indistinguishable"]),
        layers=_table(one["layers"], LAYER_TABLE),
        choices=_table(one["choices"], CHOICE_TABLE),
        notes=tuple(one["notes"]),
    )


def _rows(table: pl.DataFrame) -> list[dict[str, Any]]:
    return [{name: _value(value) for name, value in row.items()} for row in table.iter_rows(named=True)]


def _value(value: Any) -> Any:  # noqa: ANN401
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _table(rows: Sequence[dict[str, Any]], schema: pl.Schema) -> pl.DataFrame:
    """Rows of the file as a table. JSON has no NaN, so a number that could not be had is null here as one that does not apply."""
    return pl.DataFrame(rows, schema=schema) if rows else pl.DataFrame()
