"""The choice of a layer in words: what to use, what it is worth, and against what."""

from __future__ import annotations

import math
from typing import Any

import polars as pl

from layerscope.figures.curves import spans
from layerscope.picking.best import Choice
from layerscope.picking.rules import BETTER
from layerscope.picking.scores import TaskScores
from layerscope.statistics.intervals import with_ends
from layerscope.wording import counted


def answer_by_scores(scores: TaskScores, choice: Choice, choices: pl.DataFrame) -> str:
    """What the scores say about one setting: the layer, what speaks for it and may be lost, and what it is worth.

    `choice` was made by the scores, and `choices` is the table of what each way to choose scores (`Selection.choices`).
    """
    rows = {row["choice"]: row for row in choices.iter_rows(named=True)}
    said = f"{_why(scores, choice)} {_worth(rows)}"
    left_out = rows["recommended, left-out task"]["average"]
    if not math.isfinite(left_out):
        return said
    return f"{said} On a task left out, the layer chosen in this way on the others scores {left_out:.3f}."


def answer_by_metrics(rules: pl.DataFrame) -> tuple[int, str]:
    """The layer to use without labels, and why: what `apply_rules` says of one model and one setting of its scores.

    The layer is the choice of the best rule that was shown to beat the middle layer, else the middle layer.
    """
    rows = rules.to_dicts()
    middle = next(row for row in rows if row["rule"] == "middle")
    tried = [row for row in rows if None not in (row["metric"], row["layer"])]
    chosen = sorted({row["layer"] for row in tried})
    choices = f"the rules choose {spans(chosen)}" if chosen else "no rule has a metric to read"
    if middle["average"] is None or not math.isfinite(middle["average"]):
        what = "there are no scores" if middle["average"] is None else "it has no scores itself"
        return middle["layer"], (
            f"Use layer {middle['layer']}, the middle one, as long as {what}. It is a guess: without scores no "
            f"rule can be shown to do better, and scores of one task choose better (docs/picking-a-layer.md); {choices}."
        )
    winners = [row for row in tried if row["verdict"] == BETTER]
    if not winners:
        told = [row for row in tried if not str(row["verdict"]).startswith("cannot")]
        shown = "no rule is shown to beat it" if told else "too few scores to tell whether a rule beats it"
        return middle["layer"], f"Use layer {middle['layer']}, the middle one: {shown}; {choices}."
    best = max(winners, key=lambda row: row["average"])
    gain = interval(*(best[name] for name in with_ends("minus_middle")))
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


def _why(scores: TaskScores, choice: Choice) -> str:
    layer, many = choice.recommended, len(scores.tasks)
    if len(scores.layers) == 1:
        return f"Use layer {layer}: it is the only one with scores ({counted(many, 'task')})."
    highest = f"the highest score of {scores.tasks[0]}" if many == 1 else f"the highest average of {many} tasks"
    # Of a layer without scores nothing is known: it may be better than all that are compared.
    some = "" if scores.whole else f"{len(scores.layers)} of {scores.n_blocks + 1} layers"
    highest += f" among the {some} compared" if some else ""
    if not math.isfinite(choice.most_lost):
        return f"Use layer {layer}: it has {highest}. What may be lost is not known: one task without experiments."
    units = f"{many} tasks" if many > 1 else f"{len(scores.experiments[0])} experiments of {scores.tasks[0]}"
    loses = f"lose at most {choice.margin:g} against the best"
    bound = f"at most {choice.most_lost:.3f} at 95 %"
    if not choice.shown:
        kind = "layer that is best for tasks like these" if many > 1 else "layer that is best for this task"
        return (
            f"Use layer {layer}: it has {highest}, and neither it nor an earlier layer is shown to {loses}. At 95 % it may "
            f"lose up to {choice.most_lost:.3f} against the {kind}."
        )
    if layer == choice.best and choice.most_lost <= 0:
        return f"Use layer {layer}: it has {highest}, and at 95 % no other {'of them' if some else 'layer'} is better."
    if layer == choice.best:
        return f"Use layer {layer}: it has {highest} and is shown to {loses} ({bound}); no earlier layer is."
    return (
        f"Use layer {layer}: the earliest that {units} show to {loses} ({bound}). The highest "
        f"{'score' if many == 1 else 'average'} is at layer {choice.best}{f'; {some} are compared' if some else ''}."
    )


def _worth(rows: dict[str, dict[str, Any]]) -> str:
    mine = rows["recommended"]
    others = [
        f"the {row['choice']} layer ({row['layer']}) {row['average']:.3f}"
        for row in (rows["last"], rows["middle"])
        if math.isfinite(row["average"]) and row["layer"] != mine["layer"]
    ]
    words = ", ".join([f"It scores {mine['average']:.3f}", *others, f"a random layer {rows['random']['average']:.3f}"])
    if math.isfinite(mine["minus_last"]) and rows["last"]["layer"] != mine["layer"]:
        words += f"; it is ahead of the last by {interval(*(mine[name] for name in with_ends('minus_last')))}"
    return f"{words}."
