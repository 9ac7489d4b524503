"""Runs as one HTML page that loads nothing: style, script and charts are inside it."""

from __future__ import annotations

import base64
import hashlib
import os.path
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import polars as pl
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from layerscope.errors import UserError
from layerscope.figures import style
from layerscope.figures.curves import (
    Curve,
    Panel,
    phrases,
    prompt_counts,
    shared_by,
    short_name,
    split_panels,
    title,
    usual_variant,
)
from layerscope.figures.numbers import Axis
from layerscope.files.reading import free_or_ours
from layerscope.files.writing import write_text
from layerscope.report.charts import Chart, spark_path
from layerscope.report.facts import example_conditions, example_prompts, run_facts
from layerscope.report.scores import pick_runs
from layerscope.results.measurement import same_weights_notes
from layerscope.results.run import Run
from layerscope.wording import lines_on_screen, said_once

if TYPE_CHECKING:
    from layerscope.metrics.metric import Metric

MARK = b"<title>layerscope: "


def write_report(
    runs: Sequence[Run],
    out: Path,
    *,
    metrics: Mapping[str, Metric] | None = None,
    force: bool = False,
) -> Path:
    """Write one self-contained page about one or more runs, from what their folders hold.

    Args:
        runs: what to show; several are drawn over each other, against depth where they differ in depth.
        out: the HTML file.
        metrics: what to say about each metric by its name; default: layerscope's catalogue.
        force: replace a file that is no such page.

    Returns:
        The file written.

    Raises:
        UserError: there is no run, the file cannot be written, or it is there and no such page.
    """
    if not runs:
        raise UserError("expected at least one run for a report and got none: name the folder of a run")
    from layerscope.metrics.catalogue import METRICS

    free_or_ours(out, MARK, force=force)
    write_text(out, render_report(runs, out.parent, metrics=METRICS if metrics is None else metrics))
    return out


def render_report(runs: Sequence[Run], folder: Path, *, metrics: Mapping[str, Metric]) -> str:
    """The page as text; links are relative to `folder`."""
    names = run_names([run.path for run in runs])
    tables = [run.layers.with_columns(pl.lit(name).alias("run")) for run, name in zip(runs, names, strict=True)]
    panels = split_panels(pl.concat(tables))
    axis: Axis = panels[0].axis if panels else "layer"
    picked = pick_runs(runs, names, axis)
    x = [
        x
        for panel in (*panels, *(panel for one in picked for _, panel in one.panels))
        for curve in panel.curves
        for x in curve.x(panel.axis).tolist()
    ]
    x_range = (min(x, default=0.0), max(x, default=1.0))
    charts = _charts(panels, x_range)
    scored = [(one, one.charts(f"scores-{number}", x_range)) for number, one in enumerate(picked)]
    here = Path(__file__).parent
    script = (here / "script.html.j2").read_text(encoding="utf-8")
    # Finalize and autoescape cover everything that comes from models, data sets and folders; StrictUndefined keeps holes loud.
    environment = Environment(
        loader=FileSystemLoader(here),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: lines_on_screen(value) if type(value) is str else value,
    )
    return environment.get_template("page.html.j2").render(
        look=style,
        heading=_heading(runs),
        common=_common(panels),
        charts=charts,
        scored=scored,
        points=[[line.points for line in chart.lines] for chart in (*(c for _, own in scored for c in own), *charts)],
        axis=axis,
        summaries=_summaries(panels, charts),
        facts=run_facts(runs),
        names=names,
        metrics={panel.metric: metrics.get(panel.metric) for panel in panels},
        runs=list(zip(names, runs, strict=True)),
        warnings=_warnings(runs, names),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        title=title,
        prompt_counts=prompt_counts,
        spark_path=spark_path,
        example_prompts=example_prompts,
        example_conditions=example_conditions,
        link=lambda target: relative_link(target, folder),
        reasons=lambda skipped: Counter(one.reason for one in skipped).most_common(),
    )


def run_names(paths: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that tell them apart; a number behind those that are equal throughout."""
    resolved = [path.resolve() for path in paths]
    for depth in range(1, max(len(path.parts) for path in resolved) + 1):
        names = ["/".join(path.parts[-depth:]) for path in resolved]
        if len(set(names)) == len(names):
            return names
    return [f"{path.name} ({number})" for number, path in enumerate(resolved, 1)]


def relative_link(target: Path, folder: Path) -> str:
    """A link from a page in `folder` to a file, safe as an attribute and never an address of another scheme."""
    return "./" + quote(Path(os.path.relpath(target.resolve(), folder.resolve())).as_posix(), safe="/")


def _charts(panels: Sequence[Panel], x_range: tuple[float, float]) -> list[Chart]:
    curves = [curve for panel in panels for curve in panel.curves]
    if not curves:
        return []
    overall = {*shared_by(curves), usual_variant(curves)}
    several = len({curve.source for curve in curves}) > 1
    return [
        Chart(
            panel,
            name=f"chart-{number}",
            x_range=x_range,
            about=phrases(pair for pair in panel.shared if pair not in overall),
            legend=several,
        )
        for number, panel in enumerate(panels)
    ]


def _summaries(panels: Sequence[Panel], charts: Sequence[Chart]) -> list[tuple[Curve, Chart, str, str]]:
    """A line of the table at the top for each curve: the curve, its chart, what it is of, and its course."""
    several = len({curve.source for panel in panels for curve in panel.curves}) > 1
    return [
        (curve, chart, " · ".join(filter(None, (curve.label if named else "", chart.about))), spark_path(curve.value))
        for panel, chart in zip(panels, charts, strict=True)
        for named in [several or len(panel.curves) > 1]
        for curve in panel.curves
    ]


def _warnings(runs: Sequence[Run], names: Sequence[str]) -> list[str]:
    """Each warning once, with the runs it is of where it is not of all."""
    warnings = (
        (name, one) for run, name in zip(runs, names, strict=True) for one in dict.fromkeys(run.record.warnings)
    )
    return [*said_once(warnings, len(names)), *same_weights_notes(run.record for run in runs)]


def _heading(runs: Sequence[Run]) -> str:
    models = list(dict.fromkeys(run.record.spec.model.name for run in runs))
    texts = list(dict.fromkeys(run.record.spec.texts.source for run in runs))
    shown = ", ".join(short_name(model) for model in models[:4]) + (
        f" and {len(models) - 4} more" if len(models) > 4 else ""
    )
    return f"{shown} on {', '.join(short_name(text) for text in texts[:3])}{' and others' if len(texts) > 3 else ''}"


def _common(panels: Sequence[Panel]) -> str:
    curves = [curve for panel in panels for curve in panel.curves]
    usual = usual_variant(curves)
    return phrases(dict.fromkeys([*([usual] if usual else []), *shared_by(curves)]))
