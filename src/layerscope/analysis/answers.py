"""The choice of a layer in words: what to use, what it is worth, and against what."""

from __future__ import annotations

import math
from typing import Any

import polars as pl

from layerscope.analysis.resampling import MIN_UNITS
from layerscope.analysis.rules import BETTER
from layerscope.analysis.selection import Selection
from layerscope.curves import spans


def answer_by_scores(selection: Selection) -> str:
    """What the scores say about one setting, in three sentences at most."""
    if selection.recommended is None:
        return f"No layer can be chosen: {selection.notes[-1].removeprefix('nothing can be chosen: ')}."
    rows = {row["choice"]: row for row in selection.choices.iter_rows(named=True)}
    return " ".join(
        filter(
            None, (_why(selection), _worth(rows["recommended"], rows), _elsewhere(rows, len(selection.scores.tasks)))
        )
    )


def answer_by_metrics(rules: pl.DataFrame) -> tuple[int, str]:
    """The layer to use without labels, and why.

    Args:
        rules: from `apply_rules`, of one model and one setting of its scores.

    Returns:
        The choice of the best rule that was shown to beat the middle layer, else the middle layer; and the words.
    """
    rows = list(rules.iter_rows(named=True))
    middle = next(row for row in rows if row["rule"] == "middle")
    tried = [row for row in rows if row["metric"] is not None and row["layer"] is not None]
    chosen = sorted({row["layer"] for row in tried})
    choices = f"the rules choose {spans(chosen)}" if chosen else "no rule has a metric to read"
    if middle["average"] is None:
        return middle["layer"], (
            f"Use layer {middle['layer']}, the middle one, as long as there are no scores: without them no rule can be "
            f"shown to do better; {choices}."
        )
    winners = [row for row in tried if row["verdict"] == BETTER]
    if not winners:
        told = [row for row in tried if not str(row["verdict"]).startswith("cannot")]
        shown = "no rule is shown to beat it" if told else "too few scores to tell whether a rule beats it"
        return middle["layer"], f"Use layer {middle['layer']}, the middle one: {shown}; {choices}."
    best = max(winners, key=lambda row: row["average"])
    gain = interval(best["minus_middle"], best["minus_middle_ci_low"], best["minus_middle_ci_high"])
    return best["layer"], (
        f"Use layer {best['layer']}, the choice of {best['rule']}: it scores {gain} more than the middle layer "
        f"({middle['layer']}); {len(winners)} of {len(tried)} rules are shown to beat it."
    )


def interval(value: float | None, low: float | None, high: float | None) -> str:
    """`0.534 [0.410, 0.658]`; without ends the value alone, and a dot where there is none."""
    if value is None or not math.isfinite(value):
        return "·"
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return f"{value:.3f}"
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _why(selection: Selection) -> str:
    scores, layer = selection.scores, selection.recommended
    many, kind = len(scores.tasks), "task" if len(scores.tasks) == 1 else "tasks"
    if len(scores.layers) == 1:
        return f"Use layer {layer}: it is the only one with scores ({many} {kind})."
    units = many if many > 1 else len(scores.experiments[0])
    if units < MIN_UNITS:
        what = "the highest score" if many == 1 else "the highest average"
        return (
            f"Use layer {layer}: it has {what}, but {many} {kind} tell too little to say which other layers do as well."
        )
    told = f"{many} tasks" if many > 1 else f"{units} experiments of {scores.tasks[0]}"
    if len(selection.indistinguishable) == 1:
        return f"Use layer {layer}: {told} tell it from every other layer."
    return (
        f"Use layer {layer}: the earliest of the {len(selection.indistinguishable)} that {told} cannot tell from the best "
        f"({spans(selection.indistinguishable)}; the highest average is at {selection.best})."
    )


def _worth(mine: dict[str, Any], rows: dict[str, dict[str, Any]]) -> str:
    others = [
        f"the {name} layer ({rows[name]['layer']}) {rows[name]['average']:.3f}"
        for name in ("last", "middle")
        if math.isfinite(rows[name]["average"]) and rows[name]["layer"] != mine["layer"]
    ]
    words = [f"It scores {mine['average']:.3f}", *others, f"a random layer {rows['random']['average']:.3f}"]
    if math.isfinite(mine["minus_last"]) and rows["last"]["layer"] != mine["layer"]:
        ahead = interval(mine["minus_last"], mine["minus_last_ci_low"], mine["minus_last_ci_high"])
        return f"{', '.join(words)}; it is ahead of the last by {ahead}."
    return f"{', '.join(words)}."


def _elsewhere(rows: dict[str, dict[str, Any]], n_tasks: int) -> str:
    left_out = rows["recommended, left-out task"]
    if not math.isfinite(left_out["average"]):
        return ""
    chosen = "chosen in this way" if n_tasks > MIN_UNITS else "with the highest average"
    return f"On a task left out of the choice, the layer {chosen} on the others scores {left_out['average']:.3f}."
