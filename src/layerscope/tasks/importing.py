"""import_results(): a folder of MTEB results per layer, made elsewhere, becomes a run."""

from __future__ import annotations

import json
import re
import shutil
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from layerscope.config import ModelSpec
from layerscope.errors import UserError
from layerscope.figures.curves import spans
from layerscope.files.locks import LOCK, locked
from layerscope.files.writing import make_folder, whole_file
from layerscope.results.contents import MADE
from layerscope.results.record import Keeper, ResolvedModel, now
from layerscope.tasks.evaluation import quiet_mteb
from layerscope.tasks.random_state import kept_random_state
from layerscope.tasks.record import (
    RESULTS,
    Failure,
    ScoredTask,
    TasksRecord,
)
from layerscope.tasks.run import TasksRun, import_mteb, open_tasks
from layerscope.tasks.scores import SCORES_FILE, Where, failed_row, result_rows, write_scores

_LAYER = re.compile(r"layer[_-]?(-?\d+)", re.IGNORECASE)
NAMED = 3
"""How many things a warning names before it counts the rest."""
STRAY = "{n} files are in no folder layer_K and are left out"
OTHER_DATA = "{n} results are of other data than the rest of their task"
OTHER_SUBSETS = "{n} results have other subsets than the rest of their task"
LACKING = "{n} tasks lack results at some layers"
ABSENT = "layers without results"
DEPTH = "depth"
_NOT_RESULTS = ("model_meta.json", "run.json", TasksRecord.FILE)


@dataclass
class _Found:
    """What the folder holds: scores by layer and task, what could not be read, and what a reader should know."""

    scores: dict[tuple[int, str], dict[str, list[dict[str, Any]]]] = field(default_factory=dict)
    tasks: dict[str, ScoredTask] = field(default_factory=dict)
    files: dict[tuple[int, str], Path] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    kinds: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def warnings(self) -> tuple[str, ...]:
        """One line for each kind of thing to know."""
        return tuple(
            lines[0] if len(lines) == 1 else f"{kind.format(n=len(lines))}: {'; '.join(lines[:NAMED])}{_more(lines)}"
            for kind, lines in self.kinds.items()
        )

    def details(self) -> tuple[str, ...]:
        """The lines that a warning sums up."""
        return tuple(line for lines in self.kinds.values() if len(lines) > 1 for line in lines)


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
    import_mteb()
    found = _read_folder(folder, subsets)
    if not found.scores:
        reason = f" ({found.failures[0].task}: {found.failures[0].reason})" if found.failures else ""
        raise UserError(
            f"{folder} holds no result that can be read: expected layer_K/TASK.json written by MTEB{reason}"
        )
    highest = max(layer for layer, _ in found.scores)
    if blocks is not None and blocks < highest:
        raise UserError(f"the results go up to layer {highest}, more than the {blocks} blocks given: check --blocks")
    depth = blocks if blocks is not None else highest
    if blocks is None:
        found.kinds[DEPTH].append(
            f"depth is counted to the highest layer found ({highest}); give --blocks for the model's own"
        )
    _note_gaps(found, depth)
    with locked(out):
        _refuse_other_scores(out)
        for (layer, task), file in found.files.items():
            target = out / RESULTS / f"layer_{layer}" / f"{task}.json"
            make_folder(target.parent)
            with whole_file(target) as temporary:
                shutil.copyfile(file, temporary)
        record = _record(found, folder, model, depth)
        write_scores(_rows(found, record), out)
        names = [f"{RESULTS}/layer_{layer}/{task}.json" for layer, task in found.files]
        Keeper(record, out).done([SCORES_FILE, *names])
    return open_tasks(out)


def _read_folder(folder: Path, subsets: Sequence[str]) -> _Found:
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: give the one that holds layer_0, layer_1, ...")
    found = _Found()
    for file in sorted(folder.rglob("*.json")):
        if file.name in _NOT_RESULTS:
            continue
        numbers = [match for part in file.relative_to(folder).parts[:-1] if (match := _LAYER.fullmatch(part))]
        if not numbers:
            found.kinds[STRAY].append(f"{file.relative_to(folder)} is in no folder layer_K: left out")
            continue
        _read_file(file, int(numbers[0][1]), subsets, found)
    return found


def _read_file(file: Path, layer: int, subsets: Sequence[str], found: _Found) -> None:
    name = file.stem
    try:
        result = _load(file)
        if layer < 0:
            raise ValueError(f"layer {layer} counts from the end: name its folder by the layer's own number")
        if result.task_name.lower() != name.lower():
            raise ValueError(f"{file} is a result of {result.task_name}, not of {name}: rename it or leave it out")
        if (layer, result.task_name) in found.scores:
            raise ValueError(f"{file} is a second result of the same task and layer: leave one of them out")
    except ValueError as error:
        found.failures.append(Failure(task=name, reason=str(error), layer=max(layer, 0)))
        return
    task = result.task_name
    found.scores[layer, task] = _chosen(result.scores, subsets)
    found.files[layer, task] = file
    kind, main_score = _task_facts(task)
    kept = tuple(dict.fromkeys(s["hf_subset"] for entries in found.scores[layer, task].values() for s in entries))
    before = found.tasks.get(task)
    if before is not None and before.revision != result.dataset_revision:
        found.kinds[OTHER_DATA].append(
            f"{task}: layer {layer} was scored on data revision {result.dataset_revision}, other layers on {before.revision}"
        )
    if before is not None and set(before.subsets) != set(kept):
        found.kinds[OTHER_SUBSETS].append(
            f"{task}: layer {layer} has subsets {', '.join(kept)}, others {', '.join(before.subsets)}"
        )
    found.tasks.setdefault(
        task, ScoredTask(name=task, type=kind, main_score=main_score, revision=result.dataset_revision, subsets=kept)
    )


def _load(file: Path) -> Any:  # noqa: ANN401
    from mteb.results import TaskResult

    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{file} cannot be read as JSON ({error}): it is cut off or damaged, score the layer again"
        ) from error
    if not isinstance(content, dict) or not {"task_name", "mteb_dataset_name"} & content.keys():
        raise ValueError(f"{file} is not a result of MTEB: expected task_name and scores")
    try:
        with kept_random_state(), quiet_mteb():
            return TaskResult.from_disk(file)
    except Exception as error:
        raise ValueError(
            f"{file} is not a result that this version of MTEB reads ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
        ) from error


def _chosen(scores: dict[str, list[dict[str, Any]]], wanted: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    from layerscope.tasks.choice import choose_subsets

    chosen = {}
    for split, entries in scores.items():
        available = {entry["hf_subset"]: entry["languages"] for entry in entries}
        try:
            names = choose_subsets(available, wanted, "")
        except UserError:
            # Subsets by name are meant for the tasks that have them.
            names = list(available)
        chosen[split] = [entry for entry in entries if entry["hf_subset"] in names]
    # As when scoring: where there is a test split, it alone counts.
    return {"test": chosen["test"]} if "test" in chosen else chosen


def _task_facts(task: str) -> tuple[str, str]:
    """Type and main score of a task that MTEB knows; a task of someone's own has neither."""
    from layerscope.tasks.choice import task_classes

    known = task_classes().get(task)
    return (str(known.metadata.type), str(known.metadata.main_score)) if known else ("", "main_score")


def _note_gaps(found: _Found, depth: int) -> None:
    """Layers that have no result at all, and layers that lack some tasks."""
    layers = {layer for layer, _ in found.scores}
    by_task: dict[str, set[int]] = defaultdict(set)
    for layer, task in found.scores:
        by_task[task].add(layer)
    absent = sorted(set(range(depth + 1)) - layers)
    if absent:
        found.kinds[ABSENT].append(f"no results for layers {_listed(absent)} of 0 to {depth}")
    for task, there in sorted(by_task.items()):
        lacking = sorted(layers - there)
        if lacking:
            found.kinds[LACKING].append(f"{task}: no result for {spans(lacking)}")


def _more(lines: Sequence[str]) -> str:
    return f" and {len(lines) - NAMED} more" if len(lines) > NAMED else ""


def _listed(numbers: Sequence[int]) -> str:
    shown = ", ".join(str(number) for number in numbers[:12])
    return shown + (f" and {len(numbers) - 12} more" if len(numbers) > 12 else "")


def _rows(found: _Found, record: TasksRecord) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for (layer, task), scores in found.scores.items():
        rows += result_rows(scores, _where(record, layer), found.tasks[task])
    for failure in found.failures:
        named = found.tasks.get(failure.task) or ScoredTask(name=failure.task, type="", main_score="", revision="")
        if failure.layer is not None and (failure.layer, failure.task) not in found.scores:
            rows.append(failed_row(_where(record, failure.layer), named, failure.reason))
    return rows


def _where(record: TasksRecord, layer: int) -> Where:
    depth = record.resolved.n_layers if record.resolved else 0
    return Where(record.model.name, "", layer, layer / max(1, depth), None, None, None)


def _record(found: _Found, folder: Path, model: str, depth: int) -> TasksRecord:
    return TasksRecord(
        model=ModelSpec(name=model),
        spec=None,
        imported_from=str(folder),
        resolved=ResolvedModel(model_revision="", n_layers=depth),
        tasks=tuple(found.tasks[name] for name in sorted(found.tasks)),
        failures=tuple(found.failures),
        warnings=found.warnings(),
        details=found.details(),
        started=now(),
    )


def _refuse_other_scores(out: Path) -> None:
    taken = [name for name in MADE["tasks"] if (out / name).exists()]
    if taken:
        raise UserError(f"{out} holds scores already ({', '.join(taken)}): choose another --out")
    others = [child.name for child in out.iterdir() if child.name != LOCK]
    if others and not (out / "run.json").exists():
        raise UserError(
            f"{out} is not empty and not a run (it holds {', '.join(sorted(others)[:3])}): choose another --out"
        )
