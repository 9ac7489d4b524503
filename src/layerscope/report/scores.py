"""The scores of a run's tasks for the page: a curve a task, and the layer that is recommended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from layerscope.figures.curves import Curve, Panel
from layerscope.figures.numbers import Axis
from layerscope.figures.style import PALETTE
from layerscope.picking.pick import PICK_FILE, Pick, recall_pick
from layerscope.picking.selection import Selection
from layerscope.report.charts import Chart
from layerscope.results.run import Run
from layerscope.tasks.scores import SCORES_FILE


@dataclass(frozen=True)
class Scored:
    """What the page says about the scores of one run: its answer, and the curves of each setting."""

    run: str
    pick: Pick
    panels: tuple[tuple[Selection, Panel], ...]

    def charts(self, name: str, x_range: tuple[float, float]) -> list[Chart]:
        """The curves as charts on the x axis that all charts of the page share."""
        return [
            _chart(of, panel, f"{name}-{part}", x_range, self.pick.layer_in(of))
            for part, (of, panel) in enumerate(self.panels)
        ]


def pick_runs(runs: Sequence[Run], names: Sequence[str], axis: Axis) -> list[Scored]:
    """The answer of every run that was picked from; where its folder holds scores, it is chosen now."""
    picks = [
        (name, recall_pick(run.path))
        for run, name in zip(runs, names, strict=True)
        if (run.path / PICK_FILE).exists() or (run.path / SCORES_FILE).exists()
    ]
    return [
        Scored(name, pick, tuple((one, _panel(one, axis)) for one in pick.selections if len(one.layers)))
        for name, pick in picks
    ]


def _panel(selection: Selection, axis: Axis) -> Panel:
    table = selection.layers
    rows = dict(zip(selection.tasks, map(np.array, selection.values), strict=True))
    if len(rows) > 1:
        rows = {"average": table["average"].to_numpy(), **rows}
    nothing = np.full(len(table), np.nan)
    curves = tuple(
        Curve(
            metric="task_scores",
            unit="",
            source=(),
            conditions=(),
            layer=table["layer"].cast(int).to_numpy(),
            depth=table["depth"].to_numpy(),
            value=values,
            low=nothing,
            high=nothing,
            n_prompts=None,
            notes=("",) * len(table),
            label=name,
            color=number % len(PALETTE),
            dash=number // len(PALETTE),
        )
        for number, (name, values) in enumerate(rows.items())
    )
    return Panel("task_scores", "", axis, curves, (), split_by_prompts=False)


def _chart(of: Selection, panel: Panel, name: str, x_range: tuple[float, float], layer: int | None) -> Chart:
    states = f"; {of.readout} readout, positions {of.positions}, {of.pooling} pooling" if of.readout else ""
    chart = Chart(panel, name, x_range, f"Main score of each task{states}", legend=True)
    if layer is not None:
        place = layer / max(of.n_blocks, 1) if panel.axis == "depth" else float(layer)
        chart.marks.append((chart.across(place), f"layer {layer}"))
    return chart
