"""import_results(): a folder of MTEB results per layer, made elsewhere, becomes a run."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from layerscope.config import ModelSpec
from layerscope.errors import LayerscopeError, UserError
from layerscope.figures.curves import spans
from layerscope.files.locks import locked
from layerscope.files.reading import read_bytes, read_json
from layerscope.files.writing import inside, make_folder, whole_file
from layerscope.results.contents import MADE, contents
from layerscope.results.record import Keeper, ResolvedModel, now
from layerscope.tasks.choice import choose_subsets, task_classes
from layerscope.tasks.evaluation import reason_of
from layerscope.tasks.process import import_quietly, kept_random_state, quiet_mteb
from layerscope.tasks.record import RESULTS, Failure, ScoredTask, TasksRecord
from layerscope.tasks.run import TasksRun, open_tasks
from layerscope.tasks.scores import SCORES_FILE, failed_row, result_rows, table_of, write_scores
from layerscope.wording import some

_LAYER = re.compile(r"layer[_-]?(-?\d+)", re.IGNORECASE)
MOST_LAYERS = 10_000
"""Far above any model's: what is larger is a misread name, and would fill the memory."""
STRAY = "{n} files are in no folder layer_K and are left out"
OTHER_DATA = "{n} results are of other data than the rest of their task"
OTHER_SUBSETS = "{n} results have other subsets than the rest of their task"
LACKING = "{n} tasks lack results at some layers"
_NOT_RESULTS = ("model_meta.json", "run.json", TasksRecord.FILE)


@dataclass
class _Found:
    """What the folder holds: files and scores by layer and task, what could not be read, and what a reader should know."""

    subsets: Sequence[str]
    files: dict[tuple[int, str], Path] = field(default_factory=dict)
    scores: dict[tuple[int, str], Mapping[str, Sequence[Mapping[str, Any]]]] = field(default_factory=dict)
    tasks: dict[str, ScoredTask] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    kinds: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def read(self, file: Path, layer: int) -> None:
        """Take in a result; a ValueError says why it is none."""
        from mteb.results import TaskResult

        content = read_json(file, dict[str, Any], advice="it is cut off or damaged, score the layer again")
        if not {"task_name", "mteb_dataset_name"} & content.keys():
            raise ValueError(f"{file} is not a result of MTEB: expected task_name and scores")
        try:
            with kept_random_state(), quiet_mteb():
                result = TaskResult.from_disk(file)
        except Exception as error:
            raise ValueError(f"{file} is not a result that this version of MTEB reads ({reason_of(error)})") from error
        task, revision = str(result.task_name), result.dataset_revision
        if task.lower() != file.stem.lower():
            raise ValueError(f"{file} is a result of {task}, not of {file.stem}: rename it or leave it out")
        if (layer, task) in self.scores:
            raise ValueError(f"{file} is a second result of the same task and layer: leave one of them out")
        self.scores[layer, task] = _chosen(result.scores, self.subsets)
        self.files[layer, task] = file
        kept = tuple(dict.fromkeys(s["hf_subset"] for entries in self.scores[layer, task].values() for s in entries))
        known = task_classes().get(task)
        # A task of someone's own has neither a type nor a main score that is known.
        kind, main_score = (str(known.metadata.type), str(known.metadata.main_score)) if known else ("", "main_score")
        facts = ScoredTask(name=task, type=kind, main_score=main_score, revision=revision, subsets=kept)
        before = self.tasks.setdefault(task, facts)
        if before.revision != revision:
            self.kinds[OTHER_DATA].append(
                f"{task}: layer {layer} was scored on data revision {revision}, other layers on {before.revision}"
            )
        if set(before.subsets) != set(kept):
            self.kinds[OTHER_SUBSETS].append(
                f"{task}: layer {layer} has subsets {', '.join(kept)}, others {', '.join(before.subsets)}"
            )

    def note_gaps(self, depth: int) -> None:
        """Note layers that have no result at all, and layers that lack some tasks."""
        layers = {layer for layer, _ in self.scores}
        absent = sorted(set(range(depth + 1)) - layers)
        if absent:
            self.kinds["layers"].append(f"no results for {spans(absent)} of 0 to {depth}")
        for task in sorted(self.tasks):
            lacking = sorted(layer for layer in layers if (layer, task) not in self.scores)
            if lacking:
                self.kinds[LACKING].append(f"{task}: no result for {spans(lacking)}")

    def record(self, model: str, folder: Path, depth: int) -> TasksRecord:
        """The record of a run of these; one line of warning for each kind of thing to know."""
        return TasksRecord(
            model=ModelSpec(name=model),
            spec=None,
            imported_from=_printable(folder),
            resolved=ResolvedModel(model_revision="", n_layers=depth),
            tasks=tuple(self.tasks[name] for name in sorted(self.tasks)),
            failures=tuple(self.failures),
            warnings=tuple(
                lines[0] if len(lines) == 1 else f"{kind.format(n=len(lines))}: {some(lines, '; ')}"
                for kind, lines in self.kinds.items()
            ),
            details=tuple(line for lines in self.kinds.values() if len(lines) > 1 for line in lines),
            started=now(),
        )

    def rows(self, record: TasksRecord) -> Iterator[dict[str, object]]:
        """The rows of the table."""
        for (layer, task), scores in self.scores.items():
            yield from result_rows(record, (None, layer), self.tasks[task], scores)
        failed = {(failure.layer or 0, failure.task): failure.reason for failure in reversed(self.failures)}
        for layer, task in failed.keys() - self.scores.keys():
            yield failed_row(record, (None, layer), task, failed[layer, task])


def import_results(
    folder: Path, out: Path, *, model: str, subsets: Sequence[str] = ("english",), blocks: int | None = None
) -> TasksRun:
    """Take in MTEB's own result files, written by MTEB 1.x or 2.x.

    Args:
        folder: holds layer_K/TASK.json for each layer K; other folders may lie between the two (MTEB's model and revision).
        out: the run's folder; it may hold a `layerscope measure` run.
        model: what the model is called in the tables.
        subsets: which subsets of multilingual tasks are taken: english, all, or their names.
        blocks: how many blocks the model has; the highest layer found where not given.

    Returns:
        The run. A file that cannot be used is in `.failures` with its reason, and the others are taken in.

    Raises:
        UserError: there is no result to take in, or `out` holds scores already.
    """
    import_quietly("mteb", "`layerscope tasks`")
    found = _read_folder(folder, subsets)
    if not found.scores:
        reason = f" ({found.failures[0].task}: {found.failures[0].reason})" if found.failures else ""
        raise UserError(
            f"{folder} holds no result that can be read: expected layer_K/TASK.json written by MTEB{reason}"
        )
    highest = max(layer for layer, _ in found.scores)
    depth = highest if blocks is None else blocks
    if not highest <= depth <= MOST_LAYERS:
        how = f"more than {MOST_LAYERS:,} blocks" if depth > MOST_LAYERS else f"more than the {blocks} blocks given"
        raise UserError(f"the results go up to layer {highest}, {how}: check --blocks")
    if blocks is None:
        found.kinds["depth"].append(
            f"depth is counted to the highest layer found ({highest}); give --blocks for the model's own"
        )
    found.note_gaps(depth)
    with locked(out):
        taken, others = [name for name in MADE["tasks"] if (out / name).exists()], contents(out)
        if taken:
            raise UserError(f"{out} holds scores already ({', '.join(taken)}): choose another --out")
        if others and not (out / "run.json").exists():
            raise UserError(f"{out} is not empty and not a run (it holds {some(others)}): choose another --out")
        names = []
        for (layer, task), file in found.files.items():
            names.append(f"{RESULTS}/layer_{layer}/{task}.json")
            target = inside(out, *names[-1].split("/"))
            make_folder(target.parent)
            with whole_file(target) as temporary:
                temporary.write_bytes(read_bytes(file))
        record = found.record(model, folder, depth)
        write_scores([table_of(found.rows(record))], out)
        Keeper(record, out).done([SCORES_FILE, *names])
    return open_tasks(out)


def _read_folder(folder: Path, subsets: Sequence[str]) -> _Found:
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: give the one that holds layer_0, layer_1, ...")
    found = _Found(subsets)
    for file in sorted(folder.rglob("*.json")):
        if file.name in _NOT_RESULTS:
            continue
        place = file.relative_to(folder)
        number = next((match[1] for part in place.parts[:-1] if (match := _LAYER.fullmatch(part))), None)
        if number is None:
            found.kinds[STRAY].append(f"{_printable(place)} is in no folder layer_K: left out")
            continue
        layer = 0
        try:
            if number.startswith("-") or len(number) > len(str(MOST_LAYERS)):
                what = "counts from the end" if number.startswith("-") else "is past any model's"
                raise ValueError(f"layer {number[:12]} {what}: name its folder by the layer's own number")
            layer = int(number)
            found.read(file, layer)
        except (LayerscopeError, ValueError) as error:
            found.failures.append(Failure(task=_printable(file.stem), reason=_printable(str(error)), layer=layer))
    return found


def _chosen(scores: Mapping[str, Sequence[Mapping[str, Any]]], wanted: Sequence[str]) -> dict[str, Any]:
    chosen = {}
    for split, entries in scores.items():
        available = {entry["hf_subset"]: [str(language) for language in entry["languages"]] for entry in entries}
        try:
            names = choose_subsets(available, wanted, "")
        except UserError:
            # Subsets by name are meant for the tasks that have them.
            names = list(available)
        chosen[split] = [entry for entry in entries if entry["hf_subset"] in names]
    # As when scoring: where there is a test split, it alone counts.
    return {"test": chosen["test"]} if "test" in chosen else chosen


def _printable(name: str | Path) -> str:
    """A name of a file as text that can be written: what is no UTF-8 in it is replaced."""
    return os.fsencode(name).decode("utf-8", "replace")
