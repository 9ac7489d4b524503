"""Whether a folder may be written by a spec: new, to be continued, or of something else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from layerscope.config import RunSpec
from layerscope.errors import UserError
from layerscope.results.files import LOCK
from layerscope.results.record import RECORD, Resolved, RunRecord, read_record

# Where the same data is read from does not change a number.
FREE = ("texts.data_dir",)
# Scores of tasks, and what was made of them, may stand in the same folder.
BESIDE = (LOCK, "tasks.json", "scores.parquet", "tasks", "pick.json", "relations.parquet")


def earlier_record(folder: Path, spec: RunSpec) -> RunRecord | None:
    """The record of an earlier start of the same run in `folder`, or None where the folder is new.

    Raises:
        UserError: the folder holds a run with another spec (named field by field), or other files.
    """
    if not (folder / RECORD).exists():
        others = sorted(
            child.name for child in folder.iterdir() if child.name not in BESIDE and not child.name.endswith(".tmp")
        )
        if others:
            raise UserError(
                f"{folder} is not empty and not a run (it holds {', '.join(others[:3])}): choose another --out"
            )
        return None
    record = read_record(folder)
    changed = differences(record.spec, spec, FREE)
    if changed:
        raise UserError(
            f"{folder} holds a run with other settings ({'; '.join(changed)}): choose another --out or delete the folder"
        )
    return record


def refuse_changed_inputs(folder: Path, record: RunRecord, resolved: Resolved) -> None:
    """Refuse to mix blocks of two different models or prompt sets in one run.

    Raises:
        UserError: the model's weights, the texts or the machine's dtype are not those the run was started with.
    """
    changed = differences(record.resolved, resolved, ())
    if changed:
        raise UserError(
            f"{folder} was started with other inputs ({'; '.join(changed)}): choose another --out or delete the folder"
        )


def differences(before: BaseModel, now: BaseModel, free: tuple[str, ...]) -> list[str]:
    """The fields that differ, as `name: before -> now`, sorted by name."""
    old, new = _flat(before.model_dump(mode="json")), _flat(now.model_dump(mode="json"))
    names = sorted((old.keys() | new.keys()) - set(free))
    return [f"{name}: {old.get(name)} -> {new.get(name)}" for name in names if old.get(name) != new.get(name)]


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = value
    return flat
