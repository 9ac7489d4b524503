"""Runs as one HTML page that loads nothing: style, script and charts are inside it."""

from __future__ import annotations

import base64
import hashlib
import os.path
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

import numpy as np
import polars as pl
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from layerscope.errors import UserError
from layerscope.figures.curves import Curve, Panel, phrases, shared_by, short_name, split_panels, title, usual_variant
from layerscope.figures.table import NumberFormat
from layerscope.files.writing import make_folder, whole_file
from layerscope.report.charts import Chart, make_chart, spark_path
from layerscope.report.facts import Example, LeftOut, RunLike, example_conditions, example_prompts, left_out, run_facts
from layerscope.report.scores import pick_runs, with_charts, x_values
from layerscope.results.same_weights import same_weights_notes

TABLES = ("run.json", "layers.parquet", "prompts.parquet")


class MetricFacts(Protocol):
    """What the page says about a metric."""

    @property
    def summary(self) -> str:
        """What it measures, in one line."""

    @property
    def unit(self) -> str:
        """Its unit."""

    @property
    def range(self) -> str:
        """What values it can take."""

    @property
    def direction(self) -> str:
        """What larger and smaller values mean."""

    @property
    def paper(self) -> str:
        """Where it comes from."""


@dataclass(frozen=True)
class Summary:
    """One line of the table at the top: a curve in four numbers."""

    chart: str
    metric: str
    about: str
    unit: str
    first: str
    smallest: str
    largest: str
    last: str
    spark: str
    color: int


@dataclass(frozen=True)
class RunPart:
    """What the page says about one run alone."""

    name: str
    links: tuple[tuple[str, str], ...]
    left_out: LeftOut
    examples_with: str
    texts_kept: bool
    lowest: tuple[Example, ...]
    highest: tuple[Example, ...]
    record: str


def write_report(
    runs: Sequence[RunLike],
    out: Path,
    *,
    metrics: Mapping[str, MetricFacts] | None = None,
) -> Path:
    """Write one self-contained page about one or more runs, from what their folders hold.

    Args:
        runs: what to show; several are drawn over each other, against depth where they differ in depth.
        out: the HTML file.
        metrics: what to say about each metric by its name; default: layerscope's catalogue.

    Returns:
        The file written.

    Raises:
        UserError: there is no run, or the file cannot be written.
    """
    if not runs:
        raise UserError("expected at least one run for a report and got none: name the folder of a run")
    from layerscope.metrics.catalogue import METRICS

    make_folder(out.parent)
    content = render_report(runs, out.parent, metrics=METRICS if metrics is None else metrics)
    with whole_file(out) as temporary:
        temporary.write_text(content, encoding="utf-8")
    return out


def render_report(
    runs: Sequence[RunLike],
    folder: Path,
    *,
    metrics: Mapping[str, MetricFacts],
) -> str:
    """The page as text; links are relative to `folder`."""
    names = run_names([run.path for run in runs])
    layers = pl.concat([_with_run(run.layers, name) for run, name in zip(runs, names, strict=True)])
    panels = split_panels(layers)
    picked = pick_runs(runs, names, panels[0].axis if panels else "layer")
    x = [
        *(float(x) for panel in panels for curve in panel.curves for x in curve.x(panel.axis).tolist()),
        *x_values(picked),
    ]
    x_range = (min(x, default=0.0), max(x, default=1.0))
    charts = _charts(panels, x_range)
    scored = with_charts(picked, x_range)
    shown = list(dict.fromkeys(panel.metric for panel in panels))
    here = Path(__file__).parent
    script = (here / "script.html.j2").read_text(encoding="utf-8")
    # Autoescape covers everything that comes from models, data sets and folders; StrictUndefined keeps holes loud.
    environment = Environment(
        loader=FileSystemLoader(here), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.get_template("page.html.j2")
    return page.render(
        heading=_heading(runs),
        common=_common(panels),
        charts=charts,
        scored=scored,
        chart_of={chart.metric: chart.name for chart in reversed(charts)},
        points=[
            [line.points for line in chart.lines]
            for chart in (*(chart for one in scored for chart in one.charts), *charts)
        ],
        axis=panels[0].axis if panels else "layer",
        summaries=_summaries(panels, charts),
        metrics={name: metrics.get(name) for name in shown},
        facts=run_facts(runs),
        names=names,
        warnings=_warnings(runs, names),
        parts=[_part(run, name, folder) for run, name in zip(runs, names, strict=True)],
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        title=title,
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


def _with_run(layers: pl.DataFrame, name: str) -> pl.DataFrame:
    return layers.with_columns(pl.lit(name).alias("run"))


def _charts(panels: Sequence[Panel], x_range: tuple[float, float]) -> list[Chart]:
    curves = [curve for panel in panels for curve in panel.curves]
    if not curves:
        return []
    overall = {*shared_by(curves), usual_variant(curves)}
    several = len({curve.source for curve in curves}) > 1
    return [
        make_chart(
            panel,
            name=f"chart-{number}",
            x_range=x_range,
            about=phrases(pair for pair in panel.shared if pair not in overall),
            legend=several,
        )
        for number, panel in enumerate(panels)
    ]


def _summaries(panels: Sequence[Panel], charts: Sequence[Chart]) -> list[Summary]:
    several = len({curve.source for panel in panels for curve in panel.curves}) > 1
    return [
        _summary(
            curve,
            chart,
            " · ".join(filter(None, (curve.label if several or len(panel.curves) > 1 else "", chart.about))),
        )
        for panel, chart in zip(panels, charts, strict=True)
        for curve in panel.curves
    ]


def _summary(curve: Curve, chart: Chart, about: str) -> Summary:
    style = NumberFormat.of(curve)
    words = [style.value(value) for value in curve.value.tolist()]
    some = bool(np.isfinite(curve.value).any())
    low, high = (int(np.nanargmin(curve.value)), int(np.nanargmax(curve.value))) if some else (0, 0)
    return Summary(
        chart=chart.name,
        metric=curve.metric,
        about=about,
        unit=curve.unit,
        first=words[0],
        smallest=f"{words[low]} at {curve.layer[low]}" if some else words[0],
        largest=f"{words[high]} at {curve.layer[high]}" if some else words[0],
        last=words[-1],
        spark=spark_path(curve.value),
        color=curve.color,
    )


def _part(run: RunLike, name: str, folder: Path) -> RunPart:
    lowest, highest = example_prompts(run.prompts, run.texts)
    return RunPart(
        name=name,
        links=tuple((table, relative_link(run.path / table, folder)) for table in TABLES),
        left_out=left_out(run.record),
        examples_with=example_conditions(run.prompts),
        texts_kept=run.texts is not None,
        lowest=lowest,
        highest=highest,
        record=run.record.model_dump_json(indent=2),
    )


def _warnings(runs: Sequence[RunLike], names: Sequence[str]) -> list[str]:
    """Each warning once, with the runs it is of where it is not of all."""
    runs_of: dict[str, list[str]] = {}
    for run, name in zip(runs, names, strict=True):
        for warning in dict.fromkeys(run.record.warnings):
            runs_of.setdefault(warning, []).append(name)
    said = [
        warning if len(having) == len(names) else f"{', '.join(having)}: {warning}"
        for warning, having in runs_of.items()
    ]
    return [*said, *same_weights_notes(run.record for run in runs)]


def _heading(runs: Sequence[RunLike]) -> str:
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
