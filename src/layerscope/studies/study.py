"""run_study(): from a name and settings to a folder with findings, figures and the data behind them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
from pydantic import ValidationError

from layerscope.errors import DiskFullError, LayerscopeError, UserError
from layerscope.figures import FacetLook, plot_facets, save_figure
from layerscope.files.locks import locked
from layerscope.files.reading import read_toml
from layerscope.files.writing import make_folder, write_text
from layerscope.measuring.progress import Report, silent
from layerscope.results.record import Keeper, circumstances
from layerscope.results.resume import earlier
from layerscope.results.tables import write_table
from layerscope.studies.findings import CLAIMS, Claim, Finding, Test, judge
from layerscope.studies.jobs import Job, Measure, Results, Score, folder_of
from layerscope.studies.pages import findings_json, findings_page
from layerscope.studies.record import JobRecord, StudyRecord
from layerscope.studies.spec import ALWAYS, PRESETS, Preset, StudySpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# An experiment is written with these.
__all__ = ["CLAIMS", "Claim", "Drawing", "Job", "Measure", "Outcome", "Results", "Score", "Study", "StudySpec", "Test"]
__all__ += ["StudyRun", "run_study"]

RUNS = "runs"
# Share of a job's time by its stage; a job has other stages too, which only show that it goes on.
STAGES = {"loading the model": (0.0, 0.05), "measuring": (0.05, 0.95), "summarising": (0.95, 1.0)}


@dataclass(frozen=True)
class Drawing:
    """A figure, the name of its files, and the rows it shows."""

    name: str
    figure: Figure
    data: pl.DataFrame

    @classmethod
    def of_lines(cls, name: str, lines: Sequence[pl.DataFrame], look: FacetLook) -> Drawing:
        """A grid of charts of lines, each as `curves.chart_line` makes them."""
        data = pl.concat(lines)
        return cls(name, plot_facets(data, look), data)


@dataclass(frozen=True)
class Outcome:
    """What an analysis gives."""

    tests: Sequence[Test]
    figures: Sequence[Drawing] = ()
    tables: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    notes: Sequence[str] = ()
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """An experiment: what it is, its settings at two sizes, its grid and its analysis."""

    name: str
    what: str
    paper: str
    presets: Mapping[Preset, StudySpec]
    options: frozenset[str]
    jobs: Callable[[StudySpec], Sequence[Job]]
    analyse: Callable[[StudySpec, Results], Outcome]

    @classmethod
    def written(
        cls, name: str, jobs: Callable[[StudySpec], Sequence[Job]], analyse: Callable[[StudySpec, Results], Outcome]
    ) -> Study:
        """A study of the papers, whose words and settings stand in studies.toml."""
        told = read_toml("studies", "studies")[name]
        presets = {size: StudySpec.of({"preset": size, **told[size]}) for size in PRESETS}
        return cls(name, told["what"], told["figure"], presets, frozenset(told["options"]), jobs, analyse)

    def spec(self, preset: Preset, given: Mapping[str, Any] | None = None) -> StudySpec:
        """The settings of a preset with what the user gave in their place.

        Raises:
            UserError: the study has no such setting, or a value is not valid.
        """
        given, known = given or {}, self.options | ALWAYS
        for name in sorted(given.keys() - known - {"preset"}):
            raise UserError(
                f"study {self.name} has no option {_flag(name)}: it takes {', '.join(map(_flag, sorted(known)))}"
            )
        try:
            return StudySpec.model_validate({**self.presets[preset].model_dump(), **given})
        except ValidationError as error:
            first = error.errors()[0]
            raise UserError(f"{_flag(first['loc'][0])}: {first['msg'].lower()}, got {first['input']!r}") from error


@dataclass(frozen=True)
class StudyRun:
    """A finished study."""

    path: Path
    findings: tuple[Finding, ...]
    missing: Mapping[str, str]
    figures: tuple[Path, ...]
    notes: tuple[str, ...]


def run_study(study: Study, spec: StudySpec, out: Path, report: Report = silent) -> StudyRun:
    """Run a study, or go on with it; finished jobs are read, not done again.

    Args:
        study: what to run.
        spec: its settings, from `Study.spec`.
        out: the folder of all studies; this one is written to OUT/NAME, its runs to OUT/runs.
        report: called with (study, done, total) over the whole grid.

    Returns:
        The findings, and the jobs that have no result with their reasons.

    Raises:
        UnavailableError: the study cannot run on this machine.
        UserError: OUT/NAME holds the study with other settings, or no job has a result.
        RunFailedError: the disk stood in the way.
    """
    jobs = study.jobs(spec)
    for key, times in Counter(job.key for job in jobs).items():
        if times > 1:
            raise UserError(f"{key} is asked for twice: give each model, step and length once")
    folder, root = out / study.name, out / RUNS
    make_folder(root)
    with locked(folder):
        asked = tuple(
            JobRecord(key=job.key, folder=f"{RUNS}/{folder_of(job, root).name}", identity=job.identity) for job in jobs
        )
        begun = circumstances(earlier=earlier(StudyRecord, folder, spec=spec))
        keeper = Keeper(StudyRecord(study=study.name, spec=spec, jobs=asked, **begun), folder)
        with keeper.working():
            keeper.update()
            results = _run_jobs(study.name, jobs, root, report)
            ends = {key: {"status": "missing", "reason": reason} for key, reason in results.missing.items()}
            keeper.update(jobs=tuple(job.model_copy(update=ends.get(job.key, {"status": "done"})) for job in asked))
            if not results.found:
                raise UserError(f"study {study.name} has no result to look at: {next(iter(results.missing.values()))}")
            finished, files = _write(study, spec, results, folder)
            keeper.done(files)
    return finished


def _run_jobs(name: str, jobs: Sequence[Job], root: Path, report: Report) -> Results:
    found: dict[str, object] = {}
    missing: dict[str, str] = {}
    total, shown = float(len(jobs)), 0.0
    report(name, shown, total)
    for index, job in enumerate(jobs):

        def inside(stage: str, done: float, of: float, index: int = index) -> None:
            nonlocal shown
            start, end = STAGES.get(stage, (0.0, 0.95))
            # A job may have stages of its own, of which nobody knows how long they are: never go back.
            shown = max(shown, index + start + (end - start) * (done / of if of else 1.0))
            report(name, shown, total)

        try:
            found[job.key] = job.start(folder_of(job, root), inside)
        except DiskFullError:
            raise
        except LayerscopeError as error:
            missing[job.key] = str(error)
        report(name, index + 1.0, total)
    return Results(found, missing)


def _flag(name: object) -> str:
    """A field as it is typed on the command line."""
    return f"--{name}".replace("_", "-")


def _write(study: Study, spec: StudySpec, results: Results, folder: Path) -> tuple[StudyRun, list[str]]:
    """Look at the results and write what was found; also the names of all files."""
    try:
        outcome = study.analyse(spec, results)
    except UserError as error:
        if not results.missing:
            raise
        # What cannot be looked at lacks what is missing, and that has a reason of its own.
        key, reason = next(iter(results.missing.items()))
        raise UserError(f"{error} ({key} is missing: {reason})") from error
    findings = judge(outcome.tests)
    tables = {**outcome.tables, **{drawing.name: drawing.data for drawing in outcome.figures}}
    for name, table in tables.items():
        write_table([table], table.schema, folder / f"{name}.parquet")
    figures = [path for one in outcome.figures for path in save_figure(one.figure, folder / one.name)]
    notes = (*outcome.notes, *results.notes)
    texts = {
        **outcome.files,
        "findings.json": findings_json(study.name, spec, findings, notes),
        "findings.md": findings_page(study, spec, findings, notes, [drawing.name for drawing in outcome.figures]),
    }
    for name, text in texts.items():
        write_text(folder / name, text)
    files = [*(f"{name}.parquet" for name in tables), *(path.name for path in figures), *texts]
    return StudyRun(folder, findings, results.missing, tuple(figures), notes), files
