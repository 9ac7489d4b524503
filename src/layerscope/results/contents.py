"""What a run's folder holds, and which verb made it: what is in the way is named, and what another verb made stays."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from layerscope.files.locks import LOCK

Verb = Literal["measure", "tasks", "mmlu", "pick", "relate", "describe"]

MADE: dict[Verb, tuple[str, ...]] = {
    "measure": ("run.json", "layers.parquet", "prompts.parquet", "texts.parquet", "pooled", "blocks"),
    "tasks": ("tasks.json", "scores.parquet", "tasks"),
    "mmlu": ("mmlu.json", "mmlu", "blocks"),
    "pick": ("pick.json",),
    "relate": ("relations.parquet",),
    "describe": ("notes.json", "descriptions.parquet"),
}
"""The files and folders that a verb writes into a run's folder, the first its record; `describe` is a job of a study."""


AGAIN = "run the same `layerscope {}` command with another --out to have it again; what else is here stays as it is"
"""What to do where a file is damaged that only a whole run makes again."""


def contents(folder: Path) -> list[str]:
    """The names in a folder, sorted, without the lock and what a kill left half-written."""
    return sorted(child.name for child in folder.iterdir() if child.name != LOCK and not child.name.endswith(".tmp"))


def strangers(folder: Path, *verbs: Verb) -> list[str]:
    """The names in a folder that none of the verbs made."""
    known = {name for verb in verbs for name in MADE[verb]}
    return [name for name in contents(folder) if name not in known]


def way_out(folder: Path, verb: Verb) -> str:
    """What to do where the files of a verb are in the way of the same verb; what it did not make is never deleted."""
    there = contents(folder)
    mine = [name for name in MADE[verb] if name in there]
    others = [name for name in there if name not in mine]
    if not others:
        return "choose another --out or delete the folder"
    theirs = {other: [name for name in others if name in names] for other, names in MADE.items() if other != verb}
    made = [f"{', '.join(names)} of `layerscope {other}`" for other, names in theirs.items() if names]
    rest = [name for name in others if not any(name in names for names in theirs.values())]
    staying = "; ".join([*made, *([", ".join(rest)] if rest else [])])
    return f"choose another --out, or delete {', '.join(mine)} there to start again (what can stay: {staying})"


def after_damage(path: Path) -> str:
    """What to do where a file that a verb made cannot be read; what another verb made is never deleted.

    A table that is made from other files of the folder is made again by the same command; others are measured again.
    """
    for folder, name in ((path.parent, path.name), (path.parent.parent, path.parent.name)):
        for verb, names in MADE.items():
            if name in names and verb in ("measure", "mmlu") and (folder / names[0]).exists():
                return AGAIN.format(verb)
    return "delete it and run the same command again, which makes it again"


def held(folder: Path) -> str:
    """What a folder holds, in words, such as "scores of tasks"; empty where no verb wrote into it."""
    words: dict[Verb, str] = {"measure": "a measurement", "tasks": "scores of tasks", "mmlu": "answers to questions"}
    return " and ".join(what for verb, what in words.items() if (folder / MADE[verb][0]).exists())
