"""`layerscope relate`: which metrics go with the scores of tasks over the layers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import polars as pl
from pydantic import Field

from layerscope.cli.options import build, unset, with_options
from layerscope.cli.pick import Runs, ScoresFolder, refuse_scores_of_several
from layerscope.cli.results import Force
from layerscope.cli.show import console, frame_table, print_data, say
from layerscope.config import Names, Spec
from layerscope.errors import UserError
from layerscope.figures.numbers import decimal
from layerscope.wording import counted, said_once

_SCORE_STATE = ("score_readout", "score_positions", "score_pooling")
_CONDITIONS = ("variant", "alpha", "readout", "positions", "normalization", "pooling")
_OTHERS = {"spearman": "Spearman", "kendall": "Kendall", "dcor": "dCor"}


class Shown(Spec):
    """What is related, and what the printed table shows of it."""

    metrics: Names = Field(
        (), description="Only these metrics, separated by commas: fewer tests to adjust for; all by default."
    )
    tasks: Names = Field(("average",), min_length=1, description="Rows printed: average, all, or names of tasks.")
    statistic: Literal["spearman", "kendall", "dcor"] = Field(
        "spearman", description="Whose interval and p-values are printed: spearman, kendall or dcor."
    )
    format: Literal["table", "csv", "json"] = Field("table", description="How to print: table, csv or json.")
    resamples: int = Field(1000, ge=100, description="Bootstrap samples.")
    seed: int = Field(0, ge=0, description="Seed of the resampling.")


@with_options(Shown)
def relate(
    given: dict[str, Any],
    runs: Runs,
    scores: ScoresFolder = None,
    out: Annotated[Path | None, unset("--out", "Parquet file of the whole table. \\[RUN/relations.parquet]")] = None,
    force: Force = False,
) -> None:
    """Relate every metric's curve over the layers to the scores of tasks, with nulls that know curves are smooth.

    RUN holds metrics and scores (`measure` and `tasks` with one --out), or --scores says where the scores are.
    """
    from layerscope.files.reading import free_or_ours
    from layerscope.picking.folder import read_evidence
    from layerscope.picking.relations import RELATIONS, RELATIONS_FILE, relate_evidence
    from layerscope.results.tables import write_table

    refuse_scores_of_several(runs, scores)
    spec = build(Shown, given)
    if out is not None:
        # Before the work, not after it. Parquet names its columns at its end.
        free_or_ours(out, b"p_shift_adjusted", force=force)
    evidence = [read_evidence(run, scores) for run in runs]
    tables = [relate_evidence(one, spec.metrics, resamples=spec.resamples, seed=spec.seed) for one in evidence]
    shown = [_of_tasks(table, spec.tasks) for table in tables]
    if out is not None:
        write_table([pl.concat(tables)], RELATIONS, out)
    else:
        for one, table in zip(evidence, tables, strict=True):
            write_table([table], RELATIONS, one.path / RELATIONS_FILE)
    if spec.format != "table":
        print_data(pl.concat(shown), spec.format)
        return
    screen = console()
    for one, table, part in zip(evidence, tables, shown, strict=True):
        for titles, lines in _tables(part, spec.statistic):
            say(screen, *titles, style="bold")
            screen.print(frame_table(lines, folded=("metric",)))
        say(screen, _summary(table, spec.statistic))
        say(screen, *(f"note: {note}" for note in (*one.notes, *_notes(part, spec.statistic))))
        say(screen, f"whole table ({counted(len(table), 'row')}) in {out or one.path / RELATIONS_FILE}")


def _of_tasks(table: pl.DataFrame, tasks: tuple[str, ...]) -> pl.DataFrame:
    from layerscope.picking.relations import AVERAGE

    if "all" in tasks:
        return table
    names = [AVERAGE if name == "average" else name for name in tasks]
    known = table["task"].unique().sort().to_list()
    absent = [name for name in names if name not in known]
    if absent:
        raise UserError(f"task {absent[0]!r} has no scores there: choose average, all, {', '.join(known[1:])}")
    return table.filter(pl.col("task").is_in(names))


def _tables(table: pl.DataFrame, statistic: str) -> Iterator[tuple[tuple[str, ...], pl.DataFrame]]:
    """A table for every model, state of the scores and task: a row a curve, the strongest first."""
    from layerscope.figures.curves import phrase, word

    found = {name: table[name].drop_nulls().unique().to_list() for name in _CONDITIONS}
    varying = [name for name, values in found.items() if len(values) > 1]
    fixed = [words for name, values in found.items() if len(values) == 1 and (words := phrase(name, word(values[0])))]
    for part in table.partition_by("model", *_SCORE_STATE, "task", maintain_order=True):
        first = part.row(0, named=True)
        # What has no value comes last.
        strength = pl.when(pl.col("value").is_finite()).then(-pl.col("value").abs()).otherwise(1.0)
        mine = part.filter(pl.col("statistic") == statistic).sort(strength, maintain_order=True)
        lines = _without_repeats([_line(row, part, varying) for row in mine.iter_rows(named=True)])
        scored = "/".join(first[name] for name in _SCORE_STATE if first[name]) or "unknown"
        title = (
            f"{first['model']}: metrics against {first['task']}, scores of {scored} states, "
            f"{counted(first['n_layers'], 'layer')}; null: 95 % of shifted curves stay below"
        )
        yield (title, *([f"metrics with {', '.join(fixed)}"] if fixed else ())), pl.DataFrame(lines)


def _line(row: dict[str, Any], part: pl.DataFrame, varying: list[str]) -> dict[str, str]:
    from layerscope.figures.curves import phrase, word

    own = [
        row[name] if name == "readout" else phrase(name, word(row[name]))
        for name in varying
        if row[name] is not None and name != "pooling"
    ]
    same = part.filter(*(pl.col(name).eq_missing(row[name]) for name in ("metric", *_CONDITIONS)))
    values = dict(same.select("statistic", "value").iter_rows())
    statistic = row["statistic"]
    line = {"metric": " ".join(filter(None, (row["metric"], *own)))}
    ends = f" [{row['ci_low']:.2f}, {row['ci_high']:.2f}]" if math.isfinite(row["ci_low"]) else ""
    line[f"{_OTHERS[statistic]} [95 %]"] = decimal(row["value"], 2) + ends
    line["p_shift (adj)"] = _p(row["p_shift"], row["p_shift_adjusted"])
    if row["p_task"] is not None:
        line["p_task (adj)"] = _p(row["p_task"], row["p_task_adjusted"])
    line |= {_OTHERS[name]: decimal(values.get(name), 2) for name in ("spearman", "kendall") if name != statistic}
    dcor = same.filter(pl.col("statistic") == "dcor").row(0, named=True)
    line["dCor (null)"] = f"{decimal(dcor['value'], 2)} ({decimal(dcor['null_q95'], 2)})"
    return line


def _without_repeats(lines: list[dict[str, str]]) -> list[dict[str, str]]:
    """A curve and its multiple (entropy and its share of a fixed maximum) have one line: every number is the same."""
    kept: dict[tuple[str, ...], dict[str, str]] = {}
    for line in lines:
        name, *numbers = line.values()
        metric, _, own = name.partition(" ")
        first = kept.setdefault((metric, *numbers), line)
        if first is not line:
            first["metric"] = min(first["metric"], name, key=len) if own else first["metric"]
    return list(kept.values())


def _summary(table: pl.DataFrame, statistic: str) -> str:
    from layerscope.picking.relations import AVERAGE

    mine = table.filter(pl.col("statistic") == statistic, pl.col("task") == AVERAGE)
    if not mine["p_shift"].is_finite().any():
        return f"no curve can be compared with the average of the tasks by {_OTHERS[statistic]}"
    both = mine.filter(pl.col("p_shift_adjusted") < 0.05, pl.col("p_task_adjusted") < 0.05)
    tests = counted(int(table["p_shift"].is_finite().sum()), "test")
    names = ", ".join(dict.fromkeys(both["metric"].to_list()))
    return (
        f"{len(both)} of {counted(len(mine), 'curve')} {'goes' if len(both) == 1 else 'go'} with the average of the tasks by "
        f"{_OTHERS[statistic]} (p_shift and p_task both below .05 when adjusted for {tests}){': ' + names if names else ''}"
    )


def _notes(table: pl.DataFrame, statistic: str) -> list[str]:
    mine = table.filter(pl.col("statistic") == statistic).select("metric", "note").rows()
    return said_once(((of, note) for of, notes in mine for note in filter(None, (notes or "").split("; "))), len(mine))


def _p(raw: float | None, adjusted: float | None) -> str:
    return f"{decimal(raw).removeprefix('0')} ({decimal(adjusted).removeprefix('0')})"
