"""The best layer against the last over a benchmark (table 1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from layerscope.errors import UserError
from layerscope.figures import FacetLook
from layerscope.picking.last_layer import compare_with_last
from layerscope.picking.resampling import resample
from layerscope.picking.scores import TaskScores, read_scores
from layerscope.picking.selection import Selection, select_layer
from layerscope.studies.curves import chart_line
from layerscope.studies.estimates import Estimate, interval_estimate, no_estimate
from layerscope.studies.findings import number
from layerscope.studies.grid import model_spec, short
from layerscope.studies.study import CLAIMS, Drawing, Job, Outcome, Results, Score, Study, StudySpec, Test
from layerscope.tasks.run import TasksRun
from layerscope.tasks.spec import TasksSpec


def tasks_spec(spec: StudySpec, **options: object) -> TasksSpec:
    """The tasks of a study: those named, else its benchmark."""
    named = {"tasks": spec.tasks} if spec.tasks else {"benchmark": spec.benchmark}
    return TasksSpec.model_validate({**named, "data_dir": spec.data_dir, "context": spec.context, **options})


def jobs(spec: StudySpec) -> Sequence[Job]:
    """One sweep of tasks a model; the readout is that of the papers' scores."""
    return [Score(model, model_spec(spec, model), tasks_spec(spec, readout=("normed",))) for model in spec.models]


def analyse(spec: StudySpec, results: Results) -> Outcome:
    """Table 1, with the gain that a choice on other tasks keeps."""
    tests, rows, lines, notes = [], [], [], []
    for model, run in results.every(TasksRun).items():
        label = short(spec, model)
        notes += failure_notes(label, run)
        (setting,) = read_scores(run.scores)
        if not setting.tasks:
            continue
        drawn = resample(setting, seed=spec.seed)
        rows.append(compare_with_last([drawn]))
        row, n = rows[-1].row(0, named=True), len(setting.tasks)
        tests.append(Test(CLAIMS["best-beats-last"], label, _left_out(select_layer(drawn), n)))
        tests.append(Test(CLAIMS["task-best-beats-last"], label, _gain(row, "gain_task_best", n)))
        notes.append(
            f"{label}: the best layer is not the last in {row['best_not_last']} of {row['n_tasks']} tasks; average at "
            f"the last layer {number(row['average_last'])}, at the best single layer ({row['best_layer']}) "
            f"{number(row['average_best_layer'])}, at each task's best {number(row['average_task_best'])}."
        )
        lines += score_lines(setting, label)
    if not rows:
        raise UserError("no task has a score, so there is nothing to compare")
    notes.append(
        "A layer that is best for the same scores can only gain: that interval is for the layers chosen, not for the "
        "choosing, so that only the first claim is a fair test. With few tasks its interval is Student's and wide."
    )
    look = FacetLook(
        title="Score of every layer",
        about="main scores; readout normed, mean pooling; intervals of the differences between layers are in findings.md",
        y_labels={"average": "average main score", "task": "main score"},
        wrap=2,
    )
    return Outcome(tests, [Drawing.of_lines("table1", lines, look)], {"comparison": pl.concat(rows)}, notes)


def failure_notes(label: str, run: TasksRun) -> list[str]:
    """A sentence on each task of a model that has no score."""
    return [f"{label}: {failure.task} has no score: {failure.reason}" for failure in run.failures]


def score_lines(setting: TaskScores, line: str, prefix: str = "") -> list[pl.DataFrame]:
    """Scores at every layer as lines of charts: one chart for the average over tasks and one for each task.

    Without bands: tasks differ in level far more than layers do, so an interval over tasks of one layer's average says
    nothing about the layers. The findings have the intervals, of differences between layers.
    """
    depth = np.array(setting.layers) / max(1, setting.n_blocks)
    average = ("average", f"{prefix}average of {len(setting.tasks)} tasks", line)
    return [
        chart_line(average, depth, setting.values.mean(axis=0)),
        *(
            chart_line(("task", prefix + task, line), depth, values)
            for task, values in zip(setting.tasks, setting.values, strict=True)
        ),
    ]


def _left_out(selection: Selection, n: int) -> Estimate:
    rows = selection.choices.filter(pl.col("choice") == "best, left-out task").rows(named=True)
    if not rows or rows[0]["minus_last"] is None:
        reason = (rows[0]["note"] if rows else "") or "too few tasks to leave one out"
        return no_estimate(reason, over="tasks", unit="score")
    return _gain(rows[0], "minus_last", n)


def _gain(row: Mapping[str, Any], name: str, n: int) -> Estimate:
    ends = row[f"{name}_ci_low"], row[f"{name}_ci_high"]
    return interval_estimate(row[name], *ends, n=n, over="tasks", unit="score")


STUDY = Study.written("table1", jobs, analyse)
