"""Whether scores are of the model and the data that their names stand for now; more of another is never added to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from layerscope.errors import UserError
from layerscope.inputs.identity import model_identity
from layerscope.results.resume import Look, compare_sources, differences
from layerscope.tasks.choice import own_code
from layerscope.tasks.data import data_revision
from layerscope.tasks.record import RESULTS, ScoredTask, TasksRecord


def compare_model(folder: Path, record: TasksRecord) -> tuple[str, ...]:
    """Compare the model that was scored with what its name stands for now; nothing is loaded.

    Returns:
        A sentence where it cannot be compared.

    Raises:
        UserError: it has changed.
    """
    if record.resolved is None:
        return ()
    looks = {"the model": partial(model_identity, record.model)}
    return compare_sources((folder, "tasks"), dict(record.resolved), looks)


def compare_data(folder: Path, record: TasksRecord, tasks: Sequence[Any], data_dir: str | None) -> tuple[str, ...]:
    """Compare the data of tasks that were scored with what their names stand for now; nothing is loaded.

    Args:
        folder: the run's folder.
        record: its record, which has all of the tasks.
        tasks: the tasks, their data not loaded.
        data_dir: see `layerscope.inputs.hub.stand_in`.

    Returns:
        A sentence for each that cannot be compared.

    Raises:
        UserError: the data, or the file that holds a task of the user's own, has changed.
    """
    facts = {task.name: task for task in record.tasks}
    recorded: dict[str, str] = {}
    looks: dict[str, Look] = {}
    for task in tasks:
        name = task.metadata.name
        recorded |= {name: facts[name].revision, f"code of {name}": facts[name].code}
        looks[f"the data of {name}"] = partial(_looked_up, name, partial(data_revision, task, data_dir))
        looks[f"the code of {name}"] = partial(_looked_up, f"code of {name}", partial(own_code, task))
    return compare_sources((folder, "tasks"), recorded, looks)


def refuse_other_data(folder: Path, before: ScoredTask, now: ScoredTask) -> None:
    """Refuse to add scores of a task to those on other data.

    Raises:
        UserError: naming what differs.
    """
    free = ("type", "main_score", "samples", "subsets", *(() if before.code else ("code",)))
    changed = differences(before, now, free)
    if changed:
        raise UserError(
            f"{folder} holds scores of {now.name} on other data ({'; '.join(changed)}): choose another --out or delete "
            f"its files in {folder / RESULTS}"
        )


def _looked_up(field: str, look: Callable[[], str]) -> dict[str, str]:
    return {field: look()}
