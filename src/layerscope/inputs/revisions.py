"""Checkpoints of one training run: a folder of model folders, one a revision (step0, step1, ..., or checkpoint-500)."""

from __future__ import annotations

import re
from pathlib import Path

from layerscope.errors import UserError, nearest

_NUMBER = re.compile(r"(\d+)$")
# Hidden folders, and those of one model's parts as sentence-transformers names them: 0_Transformer, 1_Pooling.
_OTHER = re.compile(r"\.|\d+_[A-Z]\w*$")
_MOST_NAMED = 20


def split_revision(name: str) -> tuple[str, str | None]:
    """`NAME@REVISION` as its two parts; a name without @ has no revision."""
    before, at, after = name.rpartition("@")
    return (before, after) if at else (name, None)


def revisions(folder: Path) -> dict[str, Path]:
    """The model folders inside `folder`, by name; those that end in a number in its order, others before them."""
    if not folder.is_dir():
        return {}
    found = [child for child in folder.iterdir() if not _OTHER.match(child.name) and (child / "config.json").is_file()]
    return {child.name: child for child in sorted(found, key=lambda child: (step_of(child.name), child.name))}


def transformer_part(folder: Path) -> Path | None:
    """Where sentence-transformers of old put a model's weights: in a folder of their own beside the pooling's.

    None where `folder` holds a model itself, or no such model.
    """
    if (folder / "config.json").is_file():
        return None
    return next((file.parent for file in sorted(folder.glob("[0-9]*_Transformer/config.json"))), None)


def step_of(revision: str) -> int:
    """The training step a revision's name ends in; -1 where it ends in none."""
    number = _NUMBER.search(revision)
    return int(number.group()) if number else -1


def find_revision(folder: Path, name: str, revision: str | None) -> Path:
    """The model folder of a revision of `folder`; of the last one where none is asked for.

    Where it is not there, the UserError calls the model `name` and names the revisions that exist.
    """
    there = revisions(folder)
    names = list(there)
    if not names:
        raise UserError(f"{name!r} has no revisions: expected model folders such as step0 in {folder}, found none")
    if revision is None:
        return there[names[-1]]
    if revision not in there:  # an empty folder of that name is a checkpoint that went missing: it cannot be read
        listed = ", ".join(names)
        if len(names) > _MOST_NAMED:
            listed = f"{len(names)}, from {names[0]} to {names[-1]}; nearest: {', '.join(nearest(revision, names))}"
        raise UserError(f"{name!r} has no revision {revision!r}: it has {listed}")
    return there[revision]
