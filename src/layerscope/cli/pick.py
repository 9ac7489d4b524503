"""`layerscope pick`: the layer to use, with what speaks for it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import polars as pl
import typer
from pydantic import Field

from layerscope.cli.options import build, unset, with_options
from layerscope.cli.show import console, frame_table, say, say_notes
from layerscope.errors import UserError
from layerscope.figures.numbers import decimal, p_value
from layerscope.picking.spec import PickSpec
from layerscope.wording import counted

if TYPE_CHECKING:
    from layerscope.picking.pick import Pick

Runs = Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of `layerscope tasks`, `measure` or both.")]
ScoresFolder = Annotated[Path | None, unset("--scores", "Folder of the scores, where they are not in RUN.")]


class Shown(PickSpec):
    """How a layer is chosen, and how the answer is printed."""

    format: Literal["table", "json"] = Field("table", description="How to print: table or json.")


@with_options(Shown)
def pick(given: dict[str, Any], runs: Runs, scores: ScoresFolder = None) -> None:
    """Say which layer to use, how sure that is, and what other ways to choose would give.

    Each answer is written to RUN/pick.json, which `export` and `report` read.
    """
    from layerscope.picking.pick import pick as pick_run

    refuse_scores_of_several(runs, scores)
    asked = build(Shown, given)
    how = asked.model_dump(exclude={"format"})
    found = [pick_run(run, scores=scores, **how) for run in runs]
    if asked.format == "json":
        typer.echo(json.dumps([one.model_dump(mode="json") for one in found], indent=2, allow_nan=False))
    else:
        _show(found)
    say_notes(line for one in found for line in one.news)


def refuse_scores_of_several(runs: Sequence[Path], scores: Path | None) -> None:
    """Raise a UserError where --scores is given with several runs: nothing says whose they are."""
    if scores is not None and len(runs) > 1:
        raise UserError(f"--scores goes with one RUN, got {len(runs)}: name the runs one at a time")


def _show(found: Sequence[Pick]) -> None:
    screen = console()
    for number, one in enumerate(found):
        say(screen, *[""] * (number > 0))
        say(screen, _heading(one), style="bold")
        say(screen, one.answer, *(f"note: {note}" for note in one.notes))
        if one.details:
            say(screen, f"note: {counted(len(one.details), 'line')} of detail in {one.path / 'pick.json'}")
        for title, table in _tables(one):
            say(screen, "")
            say(screen, title, style="bold")
            screen.print(frame_table(table, folded=("note",), spare=("depth",)))
    lines = [_table1_line(one.path.name, row) for one in found for row in one.table1.iter_rows(named=True)]
    if lines:
        table = pl.DataFrame(lines)
        if table["states"].n_unique() == 1:
            table = table.drop("states")
        say(screen, "")
        title = "Table 1: tasks whose best layer is not the last; averages at the last layer, the best one, every task's own"
        say(screen, title, style="bold")
        screen.print(frame_table(table, folded=("run",)))
        say(screen, "The best layers are chosen on these scores, so the gain is too good; left-out task above is not.")


def _heading(one: Pick) -> str:
    if one.selection is None:
        return f"{one.model} ({one.path})"
    of = one.selection
    state = f"{of.readout} readout, positions {of.positions}, {of.pooling} pooling"
    known = state if of.readout else "states not known"
    return f"{one.model} ({one.path}): {known}; {counted(len(of.tasks), 'task')}, {counted(len(of.layers), 'layer')}"


def _tables(one: Pick) -> Iterator[tuple[str, pl.DataFrame]]:
    if one.selection is not None and one.by == "scores" and not one.selection.layers.is_empty():
        title = "Average over tasks; may lose: against the best, at one-sided 95 %; p: of being the best; *: p of .05 or more"
        yield title, _layer_rows(one.selection.layers, one.layer)
        title = "What each way to choose a layer scores (best, recommended, oracle: on the tasks they are chosen on)"
        yield (
            title,
            pl.DataFrame(
                {
                    "way": row["choice"],
                    "layer": _layer(row),
                    "average": decimal(row["average"]),
                    "minus last [95 %]": _interval(row, "minus_last"),
                    "minus oracle": decimal(row["minus_oracle"]),
                    "note": "" if row["note"].startswith("chosen and") else row["note"],
                }
                for row in one.selection.choices.iter_rows(named=True)
            ),
        )
    if not one.rules.is_empty():
        yield from _rule_tables(one)


def _layer_rows(layers: pl.DataFrame, chosen: int | None) -> pl.DataFrame:
    from layerscope.figures.table import bar

    low, high = layers["average"].min(), layers["average"].max()
    span = (high - low) or 1.0  # type: ignore[operator]
    return pl.DataFrame(
        {
            "layer": row["layer"],
            "depth": f"{row['depth']:.2f}",
            "average": f"{decimal(row['average'])} {bar((row['average'] - low) / span)}",
            "behind the best [95 %]": _interval(row, "behind_best"),
            "may lose": decimal(row["most_lost"]),
            "p": p_value(row["p"]),
            "set": " ".join(["*"] * row["in_set"] + ["use"] * (row["layer"] == chosen)),
        }
        for row in layers.iter_rows(named=True)
    )


def _rule_tables(one: Pick) -> Iterator[tuple[str, pl.DataFrame]]:
    for setting, rules in one.rules.group_by("readout", "positions", "pooling", maintain_order=True):
        scored = rules["average"].is_not_null().any()
        state = "/".join(str(part) for part in setting if part)
        of = f", scored on {state} states" if scored and state else ""
        rows, missing = [], []
        states = [name for name in ("metric_readout", "metric_positions") if rules[name].drop_nulls().n_unique() > 1]
        for row in rules.iter_rows(named=True):
            if row["layer"] is None and row["metric"] is not None:
                missing.append(row["metric"] if "not measured" in row["note"] else f"{row['rule']}: {row['note']}")
                continue
            state = "/".join(row[name] for name in states if row[name])
            line = {"rule": row["rule"], "layer": _layer(row)} | ({"metric of": state} if states else {})
            if scored:
                line |= {
                    "average": decimal(row["average"]),
                    "minus middle [95 %]": _interval(row, "minus_middle"),
                    "p adj.": p_value(row["p_adjusted"]),
                    "verdict": (row["verdict"] or "").removesuffix(" than the middle layer"),
                }
            rows.append(line)
        title = f"Without labels: what each metric would choose{of}"
        if missing:
            title += f"; not measured: {', '.join(dict.fromkeys(missing))}"
        yield title, pl.DataFrame(rows)


def _table1_line(run: str, row: dict[str, Any]) -> dict[str, Any]:
    """A setting of a run in the paper's table 1."""
    best = "" if row["best_layer"] is None else f" ({row['best_layer']})"
    return {
        "run": run,
        "states": "/".join(row[name] for name in ("readout", "positions", "pooling") if row[name]) or "not known",
        "tasks": row["n_tasks"],
        "not last": "·" if row["best_not_last"] is None else str(row["best_not_last"]),
        "last": decimal(row["average_last"]),
        "best layer": decimal(row["average_best_layer"]) + best,
        "task's own": decimal(row["average_task_best"]),
        "gain, best layer [95 %]": _interval(row, "gain_best_layer"),
    }


def _layer(row: dict[str, Any]) -> str:
    return "" if row["layer"] is None else str(row["layer"])


def _interval(row: dict[str, Any], name: str) -> str:
    from layerscope.picking.answers import interval

    return interval(row[name], row[f"{name}_ci_low"], row[f"{name}_ci_high"])
