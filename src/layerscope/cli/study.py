"""`layerscope study`: a whole experiment of the papers, from its grid of runs to its findings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import polars as pl
import typer
from rich.console import Console

from layerscope.cli.options import Quiet, with_options
from layerscope.cli.show import console, frame_table, progress_bars, say
from layerscope.errors import LayerscopeError, UserError
from layerscope.studies.spec import PRESETS, StudySpec
from layerscope.wording import counted

if TYPE_CHECKING:
    from layerscope.studies.study import Study, StudyRun


Out = Annotated[Path, typer.Option("--out", help="Folder of all studies; runs are shared between them.")]


@with_options(StudySpec)
def study(
    given: dict[str, Any],
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="A study of --list, or all.")] = None,
    out: Out = Path("studies"),
    show_list: Annotated[bool, typer.Option("--list", help="List the studies and their presets.")] = False,
    quiet: Quiet = False,
) -> None:
    """Run one of the papers' experiments: its runs, its analysis, its figure and its findings.

    The same command again goes on after an interruption; finished runs are never measured twice. Options replace
    settings of the preset, where the study has them.
    """
    from layerscope.studies.catalogue import STUDIES, find_study

    if show_list:
        rows = [
            {"study": one.name, "what": one.what, "figure": one.paper}
            | {preset: ", ".join(one.presets[preset].models) or "-" for preset in PRESETS}
            for one in STUDIES.values()
        ]
        console().print(frame_table(pl.DataFrame(rows)))
        return
    if name is None:
        raise UserError("no study: give its NAME, `all`, or --list")
    # False is how a flag that was not given looks.
    chosen = {key: value for key, value in given.items() if value is not None and value is not False}
    preset = chosen.pop("preset", "small")
    if preset not in PRESETS:
        raise UserError(f"--preset: expected {' or '.join(PRESETS)}, got {preset!r}")
    if name == "all":
        _all(STUDIES, preset, chosen, out, quiet=quiet)
        return
    one = find_study(name)
    run = _run(one, one.spec(preset, chosen), out, quiet=quiet)
    if not quiet:
        _show(console(), run)
    if run.missing:
        raise typer.Exit(1)


def _run(one: Study, spec: StudySpec, out: Path, *, quiet: bool) -> StudyRun:
    from layerscope.studies.study import run_study

    with progress_bars(quiet=quiet) as report:
        return run_study(one, spec, out, report)


def _all(studies: dict[str, Study], preset: Any, chosen: dict[str, Any], out: Path, *, quiet: bool) -> None:  # noqa: ANN401
    """Every study; one that cannot run is a row with its reason, and the others go on."""
    from layerscope.studies.spec import ALWAYS

    unused = sorted(set(chosen) - ALWAYS - frozenset().union(*(one.options for one in studies.values())))
    if unused:
        raise UserError(f"no study has the option --{unused[0]}")
    rows: list[dict[str, Any]] = []
    verdicts = {"holds": "holds", "does not": "does not hold", "cannot be told": "cannot be told"}
    failed = False
    for one in studies.values():
        mine = {key: value for key, value in chosen.items() if key in one.options | ALWAYS}
        try:
            run = _run(one, one.spec(preset, mine), out, quiet=quiet)
        except LayerscopeError as error:
            failed = True
            rows.append({"study": one.name, **dict.fromkeys(verdicts), "where": str(error)})
            continue
        failed = failed or bool(run.missing)
        found = [str(finding.verdict) for finding in run.findings]
        missing = f" ({counted(len(run.missing), 'job')} missing)" if run.missing else ""
        counts = {name: found.count(kind) for name, kind in verdicts.items()}
        rows.append({"study": one.name, **counts, "where": f"{run.path / 'findings.md'}{missing}"})
    if not quiet:
        console().print(frame_table(pl.DataFrame(rows, infer_schema_length=None)))
    if failed:
        raise typer.Exit(1)


def _show(screen: Console, run: StudyRun) -> None:
    from layerscope.studies.findings import overall

    for claim in dict.fromkeys((finding.claim_id, finding.claim) for finding in run.findings):
        mine = [finding for finding in run.findings if finding.claim_id == claim[0]]
        say(screen, f"{claim[1]}: {overall(mine)}", style="bold")
        say(screen, *(f"  {finding.statement}: {finding.verdict}" for finding in mine))
    say(screen, *(f"note: {note}" for note in run.notes), f"written to {run.path}")
