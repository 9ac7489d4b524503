"""score_tasks(): from a model and task names to a folder of scores, each text encoded once for all layers."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl
import torch
from pydantic import ValidationError

from layerscope.config import ModelSpec
from layerscope.errors import UserError, missing_package
from layerscope.files.locks import locked
from layerscope.inputs.identity import model_identity
from layerscope.inputs.models import LoadedModel, load_model
from layerscope.measuring.progress import Report, silent
from layerscope.results.record import Keeper, ResolvedModel, circumstances, package_versions, read_record
from layerscope.results.resume import mixed_packages, other_packages, refuse_moved_model, refuse_other_inputs
from layerscope.states.state import State
from layerscope.tasks.encoding import TextEncoder
from layerscope.tasks.random_state import kept_random_state
from layerscope.tasks.record import (
    RESULTS,
    Failure,
    ScoredTask,
    TasksRecord,
    earlier_tasks,
)
from layerscope.tasks.scores import SCORES_FILE, load_scores
from layerscope.tasks.sources import compare_data, compare_model, refuse_other_data
from layerscope.tasks.spec import TasksSpec
from layerscope.tasks.tables import ResultFolder, lost_results, still_failed, write_score_table
from layerscope.tasks.workers import WorkerPool, default_workers


@dataclass(frozen=True)
class TasksRun:
    """A folder of scores."""

    path: Path
    record: TasksRecord
    scores: pl.DataFrame
    notes: tuple[str, ...] = ()
    """What was found when it was opened, such as a model that is not there any more."""

    @property
    def failures(self) -> tuple[Failure, ...]:
        """What could not be scored, and why."""
        return self.record.failures


def open_tasks(path: str | Path) -> TasksRun:
    """Open a folder of scores.

    Raises:
        UserError: it holds none.
        RunFailedError: its files are damaged.
    """
    folder = Path(path)
    return TasksRun(folder, read_record(TasksRecord, folder), load_scores(folder))


def score_tasks(
    model: str | ModelSpec,
    tasks: Sequence[Any] = (),
    *,
    out: str | Path,
    report: Report = silent,
    **options: object,
) -> TasksRun:
    """Score every layer of a model on MTEB tasks.

    Args:
        model: a model name (see `layerscope models`), hub id, folder or .gguf file, or a ModelSpec.
        tasks: names of tasks, `file.py:Class`, or MTEB task objects of your own.
        out: the run's folder; it may hold a `layerscope measure` run too. The same call goes on after an interruption;
            more tasks and layers are added to what is there.
        report: called with (stage, done, total) as the work proceeds.
        **options: the other fields of TasksSpec: benchmark, readout, positions, layers, data_dir, ...

    Returns:
        The scores and the record. What failed is in `.failures`, and the rest is there.

    Raises:
        UserError: something asked for does not exist or does not fit; the message says what to do.
        RunFailedError: the machine or the disk stood in the way; finished results are kept.
    """
    own = {task.metadata.name: task for task in tasks if not isinstance(task, str)}
    names = tuple(task if isinstance(task, str) else task.metadata.name for task in tasks)
    try:
        spec = TasksSpec.model_validate({"tasks": names, **options})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "tasks"
        raise UserError(f"{where}: {first['msg']}, got {first['input']!r}") from error
    return score_spec(ModelSpec(name=model) if isinstance(model, str) else model, spec, Path(out), report, own)


def score_spec(
    model: ModelSpec, spec: TasksSpec, out: Path, report: Report = silent, own: dict[str, Any] | None = None
) -> TasksRun:
    """`score_tasks` for specs that are ready. `own` holds task objects by name. Raises what `score_tasks` raises."""
    import_mteb()
    from layerscope.tasks.sweep import choose

    with kept_random_state():
        chosen = choose(spec, own or {})
    with locked(out):
        earlier = earlier_tasks(out, model, spec)
        work = _Work(out, spec, ResultFolder(out / RESULTS, spec.states), report, _start(model, spec, earlier))
        with work.keeper.working(work.continues):
            pending, finished = work.split(chosen)
            report("looking at the model and data", 0.0, 1.0)
            notes = compare_data(out, work.record, finished, spec.data_dir)
            notes += () if pending else compare_model(out, work.record)
            report("looking at the model and data", 1.0, 1.0)
            if pending or earlier is None:
                work.run(pending, {task.metadata.name for task in chosen})
            else:
                # Nothing is scored now, so the record stays that of what was scored.
                work.keeper.record = earlier
                work.reread()
                notes = (*notes, *other_packages(earlier.packages, _packages()))
    return replace(open_tasks(out), notes=notes)


class _Work:
    """One call of score_spec: the record grows with the work, and is written after every task."""

    def __init__(self, out: Path, spec: TasksSpec, results: ResultFolder, report: Report, record: TasksRecord) -> None:
        self.out = out
        self.spec = spec
        self.results = results
        self.report = report
        self.keeper = Keeper(record, out)

    @property
    def record(self) -> TasksRecord:
        """As it is now."""
        return self.keeper.record

    def split(self, chosen: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """The tasks that lack a result at a layer and state, and those that do not."""
        from layerscope.tasks.sweep import scored_subsets

        recorded = {task.name for task in self.record.tasks}
        pending: list[Any] = []
        finished: list[Any] = []
        for task in chosen:
            # Of results that are not in the record nobody knows which data they are of.
            known = task.metadata.name in recorded
            done = known and self.places(task.metadata.name, scored_subsets(task)) == []
            (finished if done else pending).append(task)
        return pending, finished

    def reread(self) -> None:
        """Write the table and the end of the record where a kill left none."""
        if self.record.status != "done" or not (self.out / SCORES_FILE).exists():
            self.finish()

    def run(self, pending: Sequence[Any], names: Collection[str]) -> None:
        """Load what is needed, score what is not there yet, write the tables."""
        from layerscope.tasks.sweep import load_tasks

        self.update(failures=tuple(failure for failure in self.record.failures if failure.task not in names))
        self.update(failures=(*self.record.failures, *lost_results(self.record, self.results, self.out)))
        with tempfile.TemporaryDirectory(prefix="layerscope-tasks-") as folder:
            with self.keeper.stage("data"):
                loaded, failures = load_tasks(pending, self.spec.data_dir, Path(folder), self.report)
            for task in loaded:
                self.add_task(task.facts)
            self.update(failures=(*self.record.failures, *failures))
            if failures and not loaded and self.record.resolved is None:
                # Nothing can be scored: say so before a model is loaded.
                raise UserError(failures[0].reason + (f" (and {len(failures) - 1} more tasks)" if failures[1:] else ""))
            if loaded:
                self.score(loaded)
        self.finish()

    def score(self, loaded: Sequence[Any]) -> None:
        """Score the tasks whose data is there."""
        from layerscope.tasks.sweep import Sweep

        with self.keeper.stage("load"):
            self.report("loading the model", 0.0, 1.0)
            model = load_model(self.record.model)
            now = model_identity(self.record.model)
            refuse_moved_model(model, now["model_revision"])
            self.report("loading the model", 1.0, 1.0)
        self.resolve(model, now["tokenizer_revision"])
        layers = self.layers()
        # Before the first result: where a result is, the record says which model and data it is of.
        self.keeper.update()
        encoder = TextEncoder(model, self.spec, layers, self.report)
        todo = [(task, self.places(task.facts.name, task.facts.subsets) or []) for task in loaded]
        with WorkerPool(self.spec.workers or default_workers()) as pool:
            sweep = Sweep(
                model, encoder, self.results, pool, self.report, float(sum(len(places) for _, places in todo))
            )
            for task, places in todo:
                if not places:
                    continue
                encoding = sweep.encoding_seconds
                with self.keeper.stage("scoring"):
                    failures = sweep.score(task, places)
                spent = sweep.encoding_seconds - encoding
                self.keeper.spend("encoding", spent)
                self.keeper.spend("scoring", -spent)
                self.keeper.update(failures=(*self.record.failures, *failures))
                write_score_table(self.record, self.results, self.out)
        empty = (f"{encoder.n_empty} texts have no tokens: their vectors are zeros",) if encoder.n_empty else ()
        self.update(
            texts_encoded=self.record.texts_encoded + encoder.n_encoded,
            warnings=tuple(dict.fromkeys((*self.record.warnings, *empty))),
        )

    def layers(self) -> tuple[int, ...]:
        """The layers wanted, in order."""
        depth = self.record.resolved.n_layers if self.record.resolved else 0
        layers = tuple(range(depth + 1)) if self.spec.layers is None else tuple(sorted(set(self.spec.layers)))
        if layers[-1] > depth:
            raise UserError(f"layer {layers[-1]} does not exist: the model has layers 0 to {depth}")
        return layers

    def places(self, task: str, subsets: Sequence[str]) -> list[tuple[State, int]] | None:
        """The states and layers that have no result of the task yet; None while the model's depth is not known."""
        if self.record.resolved is None:
            return None
        return [
            (state, layer)
            for state in self.spec.states
            for layer in self.layers()
            if not self.results.finished(state, layer, task, subsets)
        ]

    def resolve(self, model: LoadedModel, tokenizer_revision: str) -> None:
        """Note what the model's name turned out to be.

        Raises:
            UserError: earlier scores in the folder are of other weights.
        """
        now = ResolvedModel(**ResolvedModel.facts(model, tokenizer_revision))
        if self.record.resolved is not None:
            # The same weights may be scored on another device.
            refuse_other_inputs(self.out, "tasks", self.record.resolved, now, ("device", "context"))
        self.update(resolved=now, warnings=tuple(dict.fromkeys((*self.record.warnings, *model.warnings))))

    def add_task(self, facts: ScoredTask) -> None:
        """Note a task.

        Raises:
            UserError: earlier scores in the folder are of other data.
        """
        before = next((task for task in self.record.tasks if task.name == facts.name), None)
        if before is not None:
            refuse_other_data(self.out, before, facts)
        others = tuple(task for task in self.record.tasks if task.name != facts.name)
        self.update(tasks=(*others, facts))

    def finish(self) -> None:
        """Write the table and the final record."""
        self.update(failures=still_failed(self.record, self.results))
        write_score_table(self.record, self.results, self.out)
        self.keeper.done([SCORES_FILE])

    def update(self, **changes: object) -> None:
        """Change fields of the record."""
        self.keeper.record = self.record.model_copy(update=changes)

    def continues(self, error: BaseException) -> bool:
        """Whether an error leaves a run that can be gone on with: a refusal must not mark good scores as failed."""
        return self.record.resolved is not None and not isinstance(error, UserError)


def _start(model: ModelSpec, spec: TasksSpec, before: TasksRecord | None) -> TasksRecord:
    now = circumstances(earlier=before) | {"packages": _packages(), "machine": f"{torch.get_num_threads()} threads"}
    if before is None:
        return TasksRecord(model=model, spec=spec, **now)
    # A revision of the code or of MTEB is no reason to refuse, but a reader has to know.
    begun = before.model_copy(update={**now, "spec": spec, "status": "running", "reason": "", "schema_version": 2})
    warnings = dict.fromkeys((*before.warnings, *mixed_packages(before, begun)))
    return begun.model_copy(update={"warnings": tuple(warnings)})


def _packages() -> dict[str, str]:
    return package_versions("mteb", "scikit-learn")


def import_mteb() -> None:
    """Import MTEB without its side effect on the global random generators.

    Raises:
        UserError: it is not installed.
    """
    with kept_random_state():
        try:
            import mteb  # noqa: F401
        except ImportError as error:
            raise missing_package(error.name or "mteb", "`layerscope tasks`") from error
