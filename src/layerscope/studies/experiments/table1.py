"""The best layer against the last over a benchmark (table 1)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from layerscope.errors import UserError
from layerscope.figures import FACETS, FacetLook, plot_facets
from layerscope.picking.last_layer import compare_with_last
from layerscope.picking.resampling import resample
from layerscope.picking.scores import TaskScores, read_scores
from layerscope.picking.selection import Selection, select_layer
from layerscope.studies.estimates import Estimate, interval_estimate, no_estimate
from layerscope.studies.findings import Claim, Test, number
from layerscope.studies.grid import model_spec, require_trained, short
from layerscope.studies.jobs import Job, Results, Score
from layerscope.studies.spec import StudySpec
from layerscope.studies.study import Drawing, Outcome, Study
from layerscope.tasks.spec import TasksSpec

SOURCE = "arXiv 2412.09563, table 1; arXiv 2502.02013, figure 1"

BETTER = Claim(
    "best-beats-last",
    "One intermediate layer scores higher on average than the last",
    SOURCE,
    "average score of the layer chosen on the other tasks minus that of the last layer",
    "positive",
)
EVERY_TASK = Claim(
    "task-best-beats-last",
    "With every task at its own best layer the average is higher than at the last",
    SOURCE,
    "average at each task's own best layer minus that at the last layer",
    "positive",
)


def tasks_spec(spec: StudySpec, **options: object) -> TasksSpec:
    """The tasks of a study: those named, else its benchmark."""
    named = {"tasks": spec.tasks} if spec.tasks else {"benchmark": spec.benchmark}
    return TasksSpec.model_validate({**named, "data_dir": spec.data_dir, "context": spec.context, **options})


def jobs(spec: StudySpec) -> Sequence[Job]:
    """One sweep of tasks a model; the readout is that of the papers' scores."""
    require_trained(spec.models)
    return [Score(model, model_spec(spec, model), tasks_spec(spec, readout=("normed",))) for model in spec.models]


def analyse(spec: StudySpec, results: Results) -> Outcome:
    """Table 1, with the gain that a choice on other tasks keeps."""
    tests, rows, lines, notes = [], [], [], []
    for model in spec.models:
        if not results.has(model):
            continue
        run = results.scores(model)
        notes += [f"{short(model)}: {failure.task} has no score: {failure.reason}" for failure in run.failures]
        (setting,) = read_scores(run.scores)
        if not setting.tasks:
            continue
        drawn = resample(setting, seed=spec.seed)
        selection = select_layer(drawn)
        table = compare_with_last([drawn])
        row = table.row(0, named=True)
        rows.append(table)
        n = len(setting.tasks)
        tests += [
            Test(BETTER, short(model), _left_out(selection, n)),
            Test(EVERY_TASK, short(model), _gain(row, n)),
        ]
        notes.append(_sentence(short(model), row))
        lines.append(score_lines(setting, short(model)))
    if not rows:
        raise UserError("no task has a score, so there is nothing to compare")
    notes.append(
        "A layer that is best for the same scores can only gain: that interval is for the layers chosen, not for the "
        "choosing, so that only the first claim is a fair test. With few tasks its interval is Student's and wide."
    )
    data = pl.concat(lines)
    look = FacetLook(
        title="Score of every layer",
        about="main scores; readout normed, mean pooling; intervals of the differences between layers are in findings.md",
        x_label="depth (layer / number of layers)",
        y_labels={"average": "average main score", "task": "main score"},
        wrap=2,
    )
    return Outcome(tests, [Drawing("table1", plot_facets(data, look), data)], {"comparison": pl.concat(rows)}, notes)


def score_lines(setting: TaskScores, line: str, *, prefix: str = "") -> pl.DataFrame:
    """Scores at every layer as lines of charts: one chart for the average over tasks and one for each task.

    Without bands: tasks differ in level far more than layers do, so an interval over tasks of one layer's average says
    nothing about the layers. The findings have the intervals, of differences between layers.
    """
    charts = {"average": setting.values.mean(axis=0)} | dict(zip(setting.tasks, setting.values, strict=True))
    parts = []
    for name, values in charts.items():
        n = len(values)
        parts.append(
            pl.DataFrame(
                {
                    "row": ["average" if name == "average" else "task"] * n,
                    "column": [f"{prefix}average of {len(setting.tasks)} tasks" if name == "average" else prefix + name]
                    * n,
                    "line": [line] * n,
                    "step": [None] * n,
                    "x": np.array(setting.layers) / max(1, setting.n_blocks),
                    "value": values,
                    "low": [None] * n,
                    "high": [None] * n,
                },
                schema=FACETS,
            )
        )
    return pl.concat(parts)


def _left_out(selection: Selection, n: int) -> Estimate:
    row = selection.choices.filter(pl.col("choice") == "best, left-out task")
    if row.is_empty() or row["minus_last"][0] is None:
        reason = str(row["note"][0]) if not row.is_empty() and row["note"][0] else "too few tasks to leave one out"
        return no_estimate(reason, over="tasks", unit="score")
    first = row.row(0, named=True)
    interval = (first["minus_last"], first["minus_last_ci_low"], first["minus_last_ci_high"])
    return interval_estimate(*interval, n=n, over="tasks", unit="score")


def _gain(row: dict[str, object], n: int) -> Estimate:
    names = ("gain_task_best", "gain_task_best_ci_low", "gain_task_best_ci_high")
    value, low, high = (float(str(row[name])) for name in names)
    return interval_estimate(value, low, high, n=n, over="tasks", unit="score")


def _sentence(model: str, row: dict[str, object]) -> str:
    return (
        f"{model}: the best layer is not the last in {row['best_not_last']} of {row['n_tasks']} tasks; average at the last "
        f"layer {number(float(str(row['average_last'])))}, at the best single layer ({row['best_layer']}) "
        f"{number(float(str(row['average_best_layer'])))}, at each task's best "
        f"{number(float(str(row['average_task_best'])))}."
    )


STUDY = Study(
    name="table1",
    what="the best layer against the last over a benchmark",
    paper="arXiv 2412.09563, table 1",
    presets={
        "small": StudySpec(preset="small", models=("smollm2-135m", "minilm-l6"), benchmark="offline", context=128),
        "paper": StudySpec(
            preset="paper",
            models=("EleutherAI/pythia-410m", "state-spaces/mamba-370m-hf", "meta-llama/Meta-Llama-3-8B"),
            benchmark="paper32",
        ),
    },
    options=frozenset({"models", "tasks", "benchmark", "context"}),
    jobs=jobs,
    analyse=analyse,
)
