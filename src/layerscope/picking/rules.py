"""Choosing a layer without labels: what each metric would choose, and what that choice would have scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import polars as pl

from layerscope.picking.resampling import MIN_UNITS, UNKNOWN, MeanScore, Resampling, at_layer, at_random
from layerscope.picking.scores import SETTING, TaskScores, count_blocks
from layerscope.statistics.intervals import SIGNIFICANCE, benjamini_hochberg, with_ends
from layerscope.wording import counted

BETTER = "better than the middle layer"
NOT_BETTER = "not better"
WORSE = "worse than the middle layer"


@dataclass(frozen=True)
class Rule:
    """Choose the layer where a metric is smallest or largest."""

    metric: str
    variant: str
    direction: Literal["min", "max"]
    paper: str


RULES: dict[str, Rule] = {
    "min dime": Rule("dime", "paper", "min", "arXiv 2502.02013"),
    "max dime": Rule("dime", "paper", "max", "Skean et al. 2023 (arXiv 2301.08164): more invariant is better"),
    "min infonce": Rule("infonce", "paper", "min", "arXiv 2502.02013; van den Oord et al. 2018"),
    "min dataset_entropy": Rule("dataset_entropy", "paper", "min", "arXiv 2502.02013"),
    "max dataset_entropy": Rule("dataset_entropy", "paper", "max", "Garrido et al. 2023 (RankMe), as an entropy"),
    "min prompt_entropy": Rule("prompt_entropy", "paper", "min", "arXiv 2412.09563, figures 5 and 6"),
    "max prompt_entropy": Rule("prompt_entropy", "paper", "max", "the opposite of arXiv 2412.09563, as a control"),
    "min curvature": Rule("curvature", "paper", "min", "arXiv 2412.09563, eq. 2; Hosseini & Fedorenko 2023"),
    "max rankme": Rule("rankme", "paper", "max", "Garrido et al. 2023"),
    "max effective_rank": Rule("effective_rank", "paper", "max", "Roy & Vetterli 2007"),
    "max lidar": Rule("lidar", "paper", "max", "Thilak et al. 2023"),
    "min anisotropy": Rule("anisotropy", "paper", "min", "Ethayarajh 2019"),
}

RULE_TABLE = pl.Schema(
    dict.fromkeys((*SETTING, "rule", "metric", "variant", "direction", "paper"), pl.String())
    | dict.fromkeys(("metric_readout", "metric_positions"), pl.String())
    | {"layer": pl.Int32()}
    | dict.fromkeys(
        ("depth", "average", "ci_low", "ci_high", *with_ends("minus_middle"), "p", "p_adjusted"), pl.Float64()
    )
    | {"verdict": pl.String(), "note": pl.String()}
)


def apply_rules(layers: pl.DataFrame, settings: Sequence[Resampling] = ()) -> pl.DataFrame:
    """What each of `RULES` chooses, beside the last, the middle and a random layer, and what that would have scored.

    The metric is read at alpha 1 and without normalisation, with every readout and positions it was measured with; of
    equal values the earliest layer is chosen. The middle layer is block ceil(L / 2); a random layer scores the mean
    over layers. Each rule is compared with the middle layer by the paired bootstrap over tasks.

    Args:
        layers: layers table of one or many runs.
        settings: draws over the tasks that they were scored on; none where there are no labels.

    Returns one row per run, setting of the scores and rule, and per readout and positions of its metric. `p` is of the
    difference to the middle layer, adjusted by Benjamini-Hochberg over the rules of one setting. `verdict`: "better
    than the middle layer" or "worse than the middle layer" (adjusted p below 0.05), "not better" (no difference is
    shown), or "cannot be told (k tasks)" with fewer than five tasks; null without scores.
    """
    rows: list[dict[str, Any]] = []
    for mine in layers.partition_by("model", "revision", maintain_order=True):
        model, revision = str(mine["model"][0]), str(mine["revision"][0] or "")
        choices = _choose(mine)
        same = [one for one in settings if one.scores.is_of(model, revision)]
        if not same:
            setting = {"model": model, "revision": revision}
            rows += [choice | setting | {"note": _notes(choice, "no scores")} for choice in choices]
        for one in same:
            rows += _scored(choices, one)
    return pl.DataFrame(rows, schema=RULE_TABLE)


def _notes(choice: dict[str, Any], *more: str) -> str:
    return "; ".join(filter(None, (choice.get("note"), *more)))


def _choose(layers: pl.DataFrame) -> list[dict[str, Any]]:
    n_blocks = count_blocks(layers)
    middle = -(-n_blocks // 2)
    rows: list[dict[str, Any]] = [
        {"rule": "last", "layer": n_blocks, "depth": 1.0 if n_blocks else 0.0},
        {"rule": "middle", "layer": middle, "depth": middle / max(n_blocks, 1)},
        {"rule": "random", "note": "the mean over layers"},
    ]
    plain = layers.filter(pl.col("alpha").fill_null(1.0) == 1.0, pl.col("normalization").fill_null("none") == "none")
    for name, rule in RULES.items():
        fixed = {"rule": name, **asdict(rule)}
        curves = plain.filter(pl.col("metric") == rule.metric, pl.col("variant") == rule.variant)
        if curves.is_empty():
            rows.append({**fixed, "note": "not measured"})
        for curve in curves.partition_by("readout", "positions", "pooling", maintain_order=True):
            read = {"metric_readout": curve["readout"][0], "metric_positions": curve["positions"][0]}
            finite = curve.filter(pl.col("value").is_finite()).sort("layer")
            if finite.is_empty():
                reason = next(filter(None, curve["note"]), "no reason was recorded")
                rows.append({**fixed, **read, "note": f"no layer has a value: {reason}"})
                continue
            values = finite["value"].to_numpy()
            row = int(values.argmin() if rule.direction == "min" else values.argmax())
            rows.append({**fixed, **read, "layer": finite["layer"][row], "depth": finite["depth"][row]})
    return rows


def _scored(choices: list[dict[str, Any]], resampling: Resampling) -> list[dict[str, Any]]:
    setting = resampling.scores.setting
    rows = [choice | setting | _score(choice, resampling) for choice in choices]
    # Only rules are tests; the baselines and a rule that chose the middle layer itself have nothing to be tested for.
    p = np.array([row["p"] if row.get("metric") is not None else np.nan for row in rows])
    for row, adjusted in zip(rows, benjamini_hochberg(p), strict=True):
        row["p_adjusted"] = float(adjusted)
        if None not in (row.get("metric"), row.get("layer")):
            row["verdict"] = _verdict(row, resampling.scores)
    return rows


def _score(choice: dict[str, Any], resampling: Resampling) -> dict[str, Any]:
    scores, layer = resampling.scores, choice.get("layer")
    average = difference = UNKNOWN
    notes = []
    if not scores.usable:
        notes.append("no score: no task, or no layer that all tasks have")
    elif layer is not None and layer not in scores.layers:
        notes.append(f"no score: not every task has one at layer {layer}")
    elif layer is not None or choice["rule"] == "random":
        contrast = at_random(scores) if layer is None else at_layer(scores, layer)
        average = resampling.estimate(contrast)
        if layer == scores.middle:
            difference = MeanScore(0.0, 0.0, 0.0, float("nan"))
        elif scores.middle in scores.layers:
            difference = resampling.estimate(contrast - at_layer(scores, scores.middle))
        else:
            notes.append(f"no comparison: not every task has a score at the middle layer {scores.middle}")
        if resampling.units < 2:
            notes.append("no interval: one task without experiments")
    made = average.columns("average", "ci_low", "ci_high") | difference.columns(*with_ends("minus_middle"))
    return {**made, "p": difference.p, "note": _notes(choice, *notes)}


def _verdict(row: dict[str, Any], scores: TaskScores) -> str:
    known, the_same = bool(np.isfinite(row["minus_middle"])), row["layer"] == scores.middle
    if not known or (len(scores.tasks) < MIN_UNITS and not the_same):
        return f"cannot be told ({counted(len(scores.tasks), 'task')})"
    if the_same or row["p_adjusted"] >= SIGNIFICANCE:
        return NOT_BETTER
    return BETTER if row["minus_middle"] > 0 else WORSE
