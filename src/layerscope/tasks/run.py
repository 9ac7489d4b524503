"""score_tasks(): from a model and task names to a folder of scores, each text encoded once for all layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import torch

from layerscope.config import ModelSpec
from layerscope.errors import DamagedError, LayerscopeError, UserError
from layerscope.files.locks import locked
from layerscope.inputs.identity import model_identity
from layerscope.inputs.models import load_model
from layerscope.measuring.progress import Report, silent, step
from layerscope.results import resume
from layerscope.results.record import (
    SCHEMA_VERSION,
    Keeper,
    ResolvedModel,
    circumstances,
    package_versions,
    read_record,
)
from layerscope.tasks.choice import choose_tasks, own_code, scored_subsets
from layerscope.tasks.data import data_revision, load_task_data, loaded_revision, sample_counts
from layerscope.tasks.encoding import TextEncoder
from layerscope.tasks.evaluation import LoadedTask, PackedTask
from layerscope.tasks.private import private_folder
from layerscope.tasks.process import import_quietly, kept_random_state
from layerscope.tasks.record import RESULTS, Failure, Place, ScoredTask, TasksRecord
from layerscope.tasks.result_files import ResultFiles
from layerscope.tasks.scores import load_scores
from layerscope.tasks.spec import TasksSpec
from layerscope.tasks.workers import WorkerPool, default_workers, score_places
from layerscope.wording import counted, some

SCORED_BY = ("mteb", "scikit-learn")
"""What scores depend on beside the packages of every record."""


@dataclass(frozen=True)
class TasksRun:
    """A folder of scores.

    `notes` say what was found when it was opened, such as a model that is not there any more.
    """

    path: Path
    record: TasksRecord
    scores: pl.DataFrame
    notes: tuple[str, ...] = ()

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
    model: str | ModelSpec, tasks: Sequence[Any] = (), *, out: str | Path, report: Report = silent, **options: object
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
    spec = TasksSpec.of({"tasks": names, **options})
    return score_spec(ModelSpec(name=model) if isinstance(model, str) else model, spec, Path(out), report, own)


def score_spec(
    model: ModelSpec, spec: TasksSpec, out: Path, report: Report = silent, own: Mapping[str, Any] | None = None
) -> TasksRun:
    """`score_tasks` for specs that are ready. `own` holds task objects by name. Raises what `score_tasks` raises."""
    import_quietly("mteb", "`layerscope tasks`")
    with kept_random_state():
        chosen = choose_tasks(spec.tasks, spec.benchmark, spec.subsets, own)
    with locked(out):
        before = resume.earlier(TasksRecord, out)
        if before is not None and before.spec is None:
            raise UserError(f"{out} holds imported scores ({before.imported_from}): choose another --out")
        before = before and resume.earlier(TasksRecord, out, model=model, spec=spec)
        results = ResultFiles(out, spec.states, before)
        now = circumstances(earlier=before) | {
            "packages": package_versions(*SCORED_BY),
            "machine": f"{torch.get_num_threads()} threads",
        }
        record = TasksRecord(model=model, spec=spec, **now)
        if before is not None:
            now |= {"spec": spec, "status": "running", "reason": "", "schema_version": SCHEMA_VERSION}
            record = before.model_copy(update={**now, "files": before.files | results.sums})
        # A revision of the code or of MTEB is no reason to refuse, but a reader has to know: the keeper says it.
        work = _Work(spec, results, report, Keeper(record, out, before))
        # A refusal must not mark good scores as failed.
        with work.keeper.working(lambda error: work.record.resolved is not None and not isinstance(error, UserError)):
            notes = work.run(chosen, before)
    return replace(open_tasks(out), notes=notes)


@dataclass(frozen=True)
class _Work:
    """One call of score_spec: the record grows with the work, and is written after every result."""

    spec: TasksSpec
    results: ResultFiles
    report: Report
    keeper: Keeper[TasksRecord]

    @property
    def record(self) -> TasksRecord:
        return self.keeper.record

    @property
    def known(self) -> dict[str, ScoredTask]:
        """The tasks as the record has them, by name."""
        return {task.name: task for task in self.record.tasks}

    def run(self, chosen: Sequence[Any], before: TasksRecord | None) -> tuple[str, ...]:
        """Score what is not there yet; what a reader should know of the rest."""
        pending: list[Any] = []
        finished: list[Any] = []
        for task in chosen:
            lacks = self.record.resolved is None or self.places(task.metadata.name, scored_subsets(task))
            (pending if lacks else finished).append(task)
        with step(self.report, "looking at the model and data"):
            notes = self.compare(finished, model=not pending)
        if pending or before is None:
            self.add(pending, {task.metadata.name for task in chosen})
            return notes
        # Nothing is scored now, so the record stays that of what was scored.
        self.keeper.record = before
        self.reread()
        return (*notes, *resume.other_packages(before.packages, package_versions(*SCORED_BY)))

    def compare(self, tasks: Sequence[Any], *, model: bool) -> tuple[str, ...]:
        """Compare what was scored with what its names stand for now; nothing is loaded.

        A sentence for each that cannot be compared. A model that is loaded anyway is compared then.
        """
        recorded: dict[str, Any] = dict(self.record.resolved or {})
        looks: dict[str, resume.Look] = {}
        for task in tasks:
            name, facts = task.metadata.name, self.known[task.metadata.name]
            recorded |= {name: facts.revision, f"code of {name}": facts.code}
            looks |= _looks(task, self.spec.data_dir)
        if model and self.record.resolved is not None:
            looks["the model"] = partial(model_identity, self.record.model)
        return resume.compare_sources((self.results.folder, "tasks"), recorded, looks)

    def reread(self) -> None:
        """Write the table and the end of the record where a kill left none, and a damaged table anew."""
        try:
            load_scores(self.results.folder)
            if self.record.status == "done":
                return
        except (UserError, DamagedError):
            pass  # as if it were not there: it is made of the results
        failures = (*self.record.failures, *self.results.lost.values())
        self.change(schema_version=SCHEMA_VERSION, failures=failures)
        self.write_table()
        self.keeper.done()

    def add(self, pending: Sequence[Any], chosen: set[str]) -> None:
        """Load what is needed, score what is not there yet, write the tables."""
        lost = dict(self.results.lost)
        kept = [failure for failure in self.record.failures if failure.task not in chosen]
        with private_folder() as folder:
            with self.keeper.stage("data"):
                loaded, unread = self.load(pending, folder)
            facts = self.known | {task.facts.name: task.facts for task in loaded}
            self.change(tasks=tuple(facts.values()), failures=(*kept, *self.results.lost.values(), *unread))
            if unread and not loaded and self.record.resolved is None:
                # Nothing can be scored: say so before a model is loaded.
                raise UserError(unread[0].reason + (f" (and {len(unread) - 1} more tasks)" if unread[1:] else ""))
            if loaded:
                self.score(loaded)
        again = sorted(f"{task} at layer {layer}" for task, (_, layer) in lost.keys() - self.results.lost.keys())
        if again:
            what = f"{counted(len(again), 'result')} could not be read back as written and had to be scored again"
            self.warn([f"{what}: {some(again)}"])
        self.write_table()
        self.keeper.done()

    def load(self, tasks: Sequence[Any], folder: Path) -> tuple[list[LoadedTask], list[Failure]]:
        """Read the data of tasks: what was read, and what could not be. Data that is not that of earlier scores is refused."""
        loaded, unread = [], []
        for number, task in enumerate(tasks):
            self.report("reading the tasks' data", float(number), float(len(tasks)))
            try:
                random_state = load_task_data(task, self.spec.data_dir, folder)
            except LayerscopeError as error:
                unread.append(Failure(task=task.metadata.name, reason=str(error)))
                continue
            facts = ScoredTask(
                name=task.metadata.name,
                type=task.metadata.type,
                main_score=task.metadata.main_score,
                revision=loaded_revision(task),
                subsets=scored_subsets(task),
                samples=sample_counts(task),
                code=own_code(task),
            )
            before, out = self.known.get(facts.name, facts), self.results.folder
            free = ("type", "main_score", "samples", "subsets", *(() if before.code else ("code",)))
            changed = resume.differences(before, facts, free)
            if changed:
                raise UserError(
                    f"{out} holds scores of {facts.name} on other data ({'; '.join(changed)}): choose another --out or "
                    f"delete its files in {out / RESULTS}"
                )
            packed = PackedTask.of(task, random_state, folder / f"{number}.pickle")
            loaded.append(LoadedTask(facts, random_state, packed, None if packed else task))
        self.report("reading the tasks' data", float(len(tasks)), float(len(tasks)))
        return loaded, unread

    def score(self, loaded: Sequence[LoadedTask]) -> None:
        """Score the tasks whose data is there."""
        with self.keeper.stage("load"), step(self.report, "loading the model"):
            model = load_model(self.record.model)
            resolved = ResolvedModel(**ResolvedModel.facts(model, model_identity(self.record.model)))
        if self.record.resolved is not None:
            # The same weights may be scored on another device.
            before, free = self.record.resolved, ("device", "context")
            resume.refuse_other_inputs(self.results.folder, "tasks", before, resolved, free)
        self.change(resolved=resolved)
        self.warn(model.warnings)
        encoder = TextEncoder(model, self.spec, self.layers(), self.report)
        # Before the first result: where a result is, the record says which model and data it is of.
        self.keeper.update()
        todo = [(task, self.places(task.facts.name, task.facts.subsets)) for task in loaded]
        done, total = 0.0, float(sum(len(places) for _, places in todo))
        with WorkerPool(self.spec.workers or default_workers()) as pool:
            for task, places in todo:
                encoding = encoder.seconds
                with self.keeper.stage("scoring"):
                    self.report("scoring", done, total)
                    for place, outcome in score_places(task, places, encoder, self.results, pool):
                        done += 1
                        self.report("scoring", done, total)
                        self.take(task.facts.name, place, outcome)
                encoding -= encoder.seconds
                self.keeper.spend("encoding", -encoding)
                self.keeper.spend("scoring", encoding)
                self.write_table()
        self.warn(encoder.warnings())
        self.change(texts_encoded=self.record.texts_encoded + encoder.n_encoded)

    def take(self, task: str, place: Place, outcome: str) -> None:
        """Note what a job gave: each result is in the record before the next is waited for."""
        if outcome:
            self.keeper.update(failures=(*self.record.failures, Failure.at(task, place, outcome)))
        else:
            self.results.add(task, place)
            self.keeper.update(files=self.record.files | self.results.sums)

    def layers(self) -> tuple[int, ...]:
        """The layers wanted, in order."""
        depth = self.record.resolved.n_layers if self.record.resolved else 0
        layers = tuple(range(depth + 1)) if self.spec.layers is None else tuple(sorted(set(self.spec.layers)))
        if layers[-1] > depth:
            raise UserError(f"layer {layers[-1]} does not exist: the model has layers 0 to {depth}")
        return layers

    def places(self, task: str, subsets: Sequence[str]) -> list[Place]:
        """The states and layers that have no result of the task yet."""
        every = [(state, layer) for state in self.spec.states for layer in self.layers()]
        return [place for place in every if not self.results.has(task, place, subsets)]

    def write_table(self) -> None:
        """Write the table, then its hash: a kill between the two leaves one that the next call makes again."""
        self.change(failures=self.results.still_failed(self.record.failures))
        self.results.write_table(self.record)
        self.keeper.update(files=self.record.files | self.results.sums)

    def warn(self, lines: Iterable[str]) -> None:
        """Add warnings to the record, each once."""
        self.change(warnings=tuple(dict.fromkeys((*self.record.warnings, *lines))))

    def change(self, **fields: object) -> None:
        """Change fields of the record, which is written with the next result."""
        self.keeper.record = self.record.model_copy(update=fields)


def _looks(task: Any, data_dir: str | None) -> dict[str, resume.Look]:  # noqa: ANN401
    name = task.metadata.name
    return {
        f"the data of {name}": lambda: {name: data_revision(task, data_dir)},
        f"the code of {name}": lambda: {f"code of {name}": own_code(task)},
    }
