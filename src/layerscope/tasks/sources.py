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


def compare_with_now(
    folder: Path, record: TasksRecord, tasks: Sequence[Any], data_dir: str | None, *, model: bool
) -> tuple[str, ...]:
    """Compare what was scored with what its names stand for now; nothing is loaded.

    Args:
        folder: the run's folder.
        record: its record, which has all of the tasks.
        tasks: the tasks, their data not loaded.
        data_dir: see `layerscope.inputs.hub.stand_in`.
        model: whether the model is compared too; one that is loaded anyway is compared then.

    Returns:
        A sentence for each that cannot be compared.

    Raises:
        UserError: the model, the data, or the file that holds a task of the user's own, has changed.
    """
    facts = {task.name: task for task in record.tasks}
    recorded = dict(record.resolved or {})
    looks: dict[str, Look] = {}
    for task in tasks:
        name = task.metadata.name
        recorded |= {name: facts[name].revision, f"code of {name}": facts[name].code}
        looks[f"the data of {name}"] = partial(_looked_up, name, partial(data_revision, task, data_dir))
        looks[f"the code of {name}"] = partial(_looked_up, f"code of {name}", partial(own_code, task))
    if model and record.resolved is not None:
        looks["the model"] = partial(model_identity, record.model)
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
