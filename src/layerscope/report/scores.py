"""The scores of a run's tasks for the page: a curve a task, and the layer that is recommended."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from layerscope.figures.curves import Curve, Panel
from layerscope.figures.numbers import Axis
from layerscope.figures.style import PALETTE
from layerscope.picking.choosing import Pick
from layerscope.picking.pick_file import PICK_FILE, recall_pick
from layerscope.picking.selection import Selection
from layerscope.report.charts import Chart, Frame, make_chart
from layerscope.report.facts import RunLike
from layerscope.tasks.scores import SCORES_FILE


@dataclass(frozen=True)
class Scored:
    """What the page says about the scores of one run."""

    run: str
    answer: str
    notes: tuple[str, ...]
    charts: tuple[Chart, ...]


@dataclass(frozen=True)
class Picked:
    """The answer of a run, and the curves of its scores as panels."""

    run: str
    pick: Pick
    panels: tuple[tuple[Selection, Panel], ...]


def pick_runs(runs: Sequence[RunLike], names: Sequence[str], axis: Axis) -> list[Picked]:
    """The answer of every run that was picked from; where its folder holds scores, it is chosen now."""
    found = []
    for run, name in zip(runs, names, strict=True):
        if (run.path / PICK_FILE).exists() or (run.path / SCORES_FILE).exists():
            picked = recall_pick(run.path)
            usable = [selection for selection in picked.selections if selection.scores.layers]
            found.append(Picked(name, picked, tuple((one, _panel(one, axis)) for one in usable)))
    return found


def x_values(picked: Iterable[Picked]) -> Iterator[float]:
    """Where the points of the scores stand from left to right."""
    for one in picked:
        for _, panel in one.panels:
            yield from panel.curves[0].x(panel.axis).tolist()


def make_scored(picked: Sequence[Picked], x_range: tuple[float, float]) -> list[Scored]:
    """Lay the charts out on the x axis that all charts of the page share."""
    made = []
    for number, one in enumerate(picked):
        charts = tuple(
            _chart((selection, one.pick.layer_in(selection)), panel, f"scores-{number}-{part}", x_range)
            for part, (selection, panel) in enumerate(one.panels)
        )
        made.append(Scored(one.run, one.pick.answer, (*one.pick.notes, *one.pick.news), charts))
    return made


def _panel(selection: Selection, axis: Axis) -> Panel:
    scores = selection.scores
    rows = {task: scores.values[number] for number, task in enumerate(scores.tasks)}
    if len(rows) > 1:
        rows = {"average": scores.values.mean(axis=0), **rows}
    layer = np.array(scores.layers, dtype=np.int64)
    nothing = np.full(len(layer), np.nan)
    curves = tuple(
        Curve(
            metric="task_scores",
            unit="",
            source=(),
            conditions=(),
            layer=layer,
            depth=layer / max(scores.n_blocks, 1),
            value=values,
            low=nothing,
            high=nothing,
            n_prompts=None,
            notes=("",) * len(layer),
            label=name,
            color=number % len(PALETTE),
            dash=number // len(PALETTE),
        )
        for number, (name, values) in enumerate(rows.items())
    )
    return Panel("task_scores", "", axis, curves, (), split_by_prompts=False)


def _chart(chosen: tuple[Selection, int | None], panel: Panel, name: str, x_range: tuple[float, float]) -> Chart:
    scores, layer = chosen[0].scores, chosen[1]
    states = f"{scores.readout} readout, positions {scores.positions}, {scores.pooling} pooling"
    about = f"Main score of each task; {states}" if scores.readout else "Main score of each task"
    chart = make_chart(panel, name, x_range, about, legend=True)
    if layer is None:
        return chart
    place = layer / max(scores.n_blocks, 1) if panel.axis == "depth" else float(layer)
    return replace(chart, marks=((Frame(x=x_range, y=(0.0, 1.0)).across(place), f"layer {layer}"),))
