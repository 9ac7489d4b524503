"""Whether a folder may be written by a spec: new, to be continued, or of something else."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from layerscope.errors import UserError
from layerscope.inputs.checkpoints import without_reading
from layerscope.results.contents import Verb, in_the_way, way_out
from layerscope.results.record import R, ResolvedModel, read_record

# The revision of something that was handed over in memory begins so; it says nothing about files.
OBJECT = "object:"

Look = Callable[[], Mapping[str, str]]
"""The revisions of something that a run was made from, as they are now, by the field of the record that keeps them."""


def earlier(kind: type[R], folder: Path, **asked: BaseModel) -> R | None:
    """The record of an earlier start of the same run in `folder`, or None where there is none.

    `asked` is what is asked for now, by the field of the record that keeps it.

    Raises:
        UserError: the folder holds a run with other settings (named field by field), or other files.
    """
    path = folder / kind.FILE
    if not path.exists() and not path.is_symlink():
        others = [] if kind.BESIDE is None else in_the_way(folder, kind.BESIDE)
        if others:
            raise UserError(
                f"{folder} is not empty and not a run of this kind (it holds {', '.join(others[:3])}): choose another --out"
            )
        return None
    record = read_record(kind, folder)
    changed = [one for name, now in asked.items() for one in differences(getattr(record, name), now, kind.FREE)]
    if changed:
        out = way_out(folder, kind.VERB)
        raise UserError(f"{folder} holds a run with other settings ({'; '.join(changed)}): {out}")
    return record


def refuse_other_inputs(
    folder: Path, verb: Verb, before: ResolvedModel, now: ResolvedModel, free: tuple[str, ...] = ()
) -> None:
    """Refuse to mix in one run what two different models, prompt sets or machines' dtypes gave.

    Raises:
        UserError: naming what differs; `free` may, and what an older version did not record cannot.
    """
    unknown = () if before.tokenizer_revision else ("tokenizer_revision",)
    changed = differences(before, now, (*free, *unknown))
    if changed:
        raise UserError(f"{folder} was started with other inputs ({'; '.join(changed)}): {way_out(folder, verb)}")


def compare_sources(
    target: tuple[Path, Verb], recorded: Mapping[str, Any], looks: Mapping[str, Look]
) -> tuple[str, ...]:
    """Compare what a finished run was made from with what its names stand for now, without making anything again.

    Args:
        target: the run's folder, and the verb that made it.
        recorded: the revisions its record keeps, by field; empty where an older version kept none.
        looks: how to see each of them now, by what it is called in a sentence.

    Returns:
        A sentence for each source that cannot be compared, because it is gone or cannot be asked.

    Raises:
        UserError: a source has changed; the message names it.
    """
    folder, verb = target
    changed, notes = [], []
    unseen = "cannot be compared with what was measured, numbers are as they were recorded"
    for what, look in looks.items():
        try:
            now = look()
        except (UserError, OSError) as error:
            notes.append(f"{what} {unseen}: {error}")
            continue
        for field, revision in now.items():
            before = str(recorded.get(field, ""))
            if " cached " in f" {before}":
                notes.append(f"{what} {unseen}: it was read from the hub's cache, which told no commit ({before})")
            elif _stand_in(before) and not _stand_in(revision):
                why = f"it was read from a folder that stood in for the hub ({before}), not here now"
                notes.append(f"{what} {unseen}: {why}")
            elif before != revision and without_reading(before) == without_reading(revision):
                notes.append(
                    f"{what} is a GGUF file that was read by an older version, which left settings of some such files "
                    "unread; numbers are as they were recorded: make them again in another folder"
                )
            elif before and before != revision and before.startswith(OBJECT) == revision.startswith(OBJECT):
                changed.append(f"{field}: {before} -> {revision}")
    if changed:
        raise UserError(f"{folder} holds a run of other inputs ({'; '.join(changed)}): {way_out(folder, verb)}")
    return tuple(notes)


def _stand_in(revision: str) -> bool:
    return revision.startswith("local-") or "data_dir " in revision


def other_packages(recorded: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """A sentence where a finished run was made with other package versions than are installed; nothing where not."""
    changed = [f"{name} {old} (now {now[name]})" for name, old in recorded.items() if now.get(name, old) != old]
    return (f"measured with other versions: {', '.join(changed)}",) if changed else ()


def hash_of(items: Iterable[object]) -> str:
    """The sha256 of what items are, one after the other."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(repr(item).encode())
    return digest.hexdigest()


def fingerprint(free: tuple[str, ...], *models: BaseModel) -> str:
    """A hash of models without the fields that are `free`: equal ones have no `differences`."""
    flat = [sorted(_flat(model.model_dump(mode="json")).items()) for model in models]
    return hash_of([(name, value) for fields in flat for name, value in fields if name not in free])


def differences(before: BaseModel, now: BaseModel, free: tuple[str, ...]) -> list[str]:
    """The fields that differ, as `name: before -> now`, sorted by name."""
    old, new = _flat(before.model_dump(mode="json")), _flat(now.model_dump(mode="json"))
    names = sorted((old.keys() | new.keys()) - set(free))
    return [f"{name}: {old.get(name)} -> {new.get(name)}" for name in names if old.get(name) != new.get(name)]


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat
